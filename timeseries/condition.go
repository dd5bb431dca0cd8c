package timeseries

import (
	"bytes"
	"cmp"
	"math"
	"slices"
)

// CondOp is what a condition asks.
type CondOp byte

// The conditions.
const (
	And    CondOp = iota + 1 // every one of Kids
	Or                       // one of Kids at least
	Not                      // not Kids[0]
	Equals                   // the item is Value
	Range                    // the item is between Lower and Upper
	Prefix                   // the item is a string that begins with Value
	Exists                   // the event has the item
)

// Condition is a tree of conditions on the items of an event. One on an item that the
// event has not is false, and Not is plain negation.
type Condition struct {
	Op    CondOp
	Kids  []Condition
	Key   []byte
	Value Value
	// Lower and Upper are the ends of a Range; nil is open. Lower is included and Upper
	// excluded unless said otherwise.
	Lower, Upper                   *Value
	LowerExclusive, UpperInclusive bool
}

// AllOf is the condition that an event has items of these keys with these values; nil where there
// are none.
func AllOf(items []Item) *Condition {
	if len(items) == 0 {
		return nil
	}
	c := &Condition{Op: And}
	for _, it := range items {
		c.Kids = append(c.Kids, Condition{Op: Equals, Key: it.Key, Value: it.Value})
	}
	return c
}

// Match reports whether an event meets the condition. A nil one is met by all.
func (c *Condition) Match(e *Event) bool {
	if c == nil {
		return true
	}
	switch c.Op {
	case And:
		for i := range c.Kids {
			if !c.Kids[i].Match(e) {
				return false
			}
		}
		return true
	case Or:
		for i := range c.Kids {
			if c.Kids[i].Match(e) {
				return true
			}
		}
		return false
	case Not:
		return !c.Kids[0].Match(e)
	}
	v := e.Item(c.Key)
	if v == nil {
		return false
	}
	switch c.Op {
	case Equals:
		return v.Equal(&c.Value)
	case Prefix:
		return v.Kind == String && bytes.HasPrefix(v.Text, c.Value.Text)
	case Range:
		return c.between(v)
	}
	return true
}

func (c *Condition) between(v *Value) bool {
	if c.Lower != nil {
		o, ok := v.Compare(c.Lower)
		if !ok || o < 0 || o == 0 && c.LowerExclusive {
			return false
		}
	}
	if c.Upper != nil {
		o, ok := v.Compare(c.Upper)
		if !ok || o > 0 || o == 0 && !c.UpperInclusive {
			return false
		}
	}
	return true
}

// Compare orders two values: numbers as numbers, strings and bytes each by their bytes.
// Values of other types have no order: false.
func (v *Value) Compare(o *Value) (int, bool) {
	switch {
	case v.Kind == Int && o.Kind == Int:
		return cmp.Compare(v.Int, o.Int), true
	case v.Kind == Double && o.Kind == Double:
		return compareDoubles(v.Double, o.Double), true
	case v.Kind == Int && o.Kind == Double:
		return compareIntDouble(v.Int, o.Double), true
	case v.Kind == Double && o.Kind == Int:
		return -compareIntDouble(o.Int, v.Double), true
	case v.Kind == o.Kind:
		return bytes.Compare(v.Text, o.Text), true
	}
	return 0, false
}

// compareDoubles takes 0 and -0 as equal, as Equal does.
func compareDoubles(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// compareIntDouble compares exactly: not every int64 has a double.
func compareIntDouble(i int64, d float64) int {
	switch {
	case d >= 1<<63:
		return -1
	case d < -(1 << 63):
		return 1
	}
	whole := math.Floor(d) // within int64
	if c := cmp.Compare(i, int64(whole)); c != 0 {
		return c
	}
	if d > whole {
		return -1
	}
	return 0
}

// SearchQuery asks for a page of events of one partition, over all series.
type SearchQuery struct {
	Query // Series and Filters are not looked at
	Where *Condition
	// Behind is the last event of the page before; nil: the first page.
	Behind *Place
}

// Place is the place of an event among those of all series.
type Place struct {
	Time   int64
	Series []byte
	ID     []byte
}

// PlaceOf is the place of an event.
func PlaceOf(e *Event) *Place { return &Place{e.Time, e.Series, e.ID} }

// Compare orders places newest first: by time, the later first, then series, then id.
func (p *Place) Compare(o *Place) int {
	return cmp.Or(cmp.Compare(o.Time, p.Time), bytes.Compare(p.Series, o.Series), bytes.Compare(p.ID, o.ID))
}

// Found is an answer to a SearchQuery.
type Found struct {
	Events []Event
	// Next is where the next page goes on; nil on the last one.
	Next *Place
	// Partial: the page ended early, at its deadline.
	Partial bool
	// What was looked at: events, and those slices that were not looked up in an index.
	Slices, Scanned int64
	// Keys are the items that events were looked up by.
	Keys [][]byte
}

// Indexed notes that events were looked up by a key.
func (f *Found) Indexed(key []byte) {
	if !slices.ContainsFunc(f.Keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
		f.Keys = append(f.Keys, key)
	}
}
