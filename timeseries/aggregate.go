package timeseries

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// AggregateOp is what an aggregation works out of the events of a group.
type AggregateOp byte

// The aggregations. Sum, Min, Max, Avg, First, Last and Quantile look at numbers only.
const (
	Count    AggregateOp = iota + 1 // events; with a key, those that have the item
	Sum                             // of the numbers
	Min                             //
	Max                             //
	Avg                             //
	First                           // the number that a search, oldest first, comes to first
	Last                            // the number that a search, newest first, comes to first
	Distinct                        // how many values; a number counts once, int or double
	Quantile                        // the least number that a share Q of the numbers is not above
)

// SeriesKey is the key by which groups and aggregations mean the name of the series, also
// where an item has it.
const SeriesKey = "time_series_id"

// Aggregation is one column of an answer.
type Aggregation struct {
	Op  AggregateOp
	Key []byte // empty: none, for Count
	Q   float64
}

// AggregateQuery asks for the groups of the events of one partition.
type AggregateQuery struct {
	Partition  wal.Partition
	Series     []byte // nil: all
	Start, End int64  // start <= t < end
	Where      *Condition
	// Keys are the items that are looked at, in order; a store need not read others.
	Keys [][]byte
	Open OpenSlices // which slices are read
}

// ErrTooManyGroups: there are more groups than the limit.
var ErrTooManyGroups = errors.New("too many groups")

// ErrGroupMemory: the groups need more memory than MaxGroupBytes.
var ErrGroupMemory = errors.New("the groups need too much memory")

// MaxGroupBytes is how much memory the groups of one call may take, about.
const MaxGroupBytes = 256 << 20

// GroupSpec says into which groups events go, and what is worked out of each.
type GroupSpec struct {
	Aggregations []Aggregation
	By           [][]byte
	// Bucket is the length of time buckets, on the clock of Zone; 0: none.
	Bucket time.Duration
	Zone   *time.Location
	// Limit is how many groups there may be at any time.
	Limit int

	used atomic.Int64 // of MaxGroupBytes, by all Groups of the spec
}

// Groups works aggregations out, event by event. Used by one goroutine; several Groups of
// one spec may be filled at once and merged.
type Groups struct {
	spec    *GroupSpec
	buckets *Buckets
	byKey   map[string]*Group
	key     []byte
}

// Group is one group.
type Group struct {
	// Labels are the texts of what it is grouped by, in the order of By; nil where the
	// events lack the item.
	Labels [][]byte
	Bucket int64 // where its bucket begins; 0 without buckets
	cells  []cell
}

// groupOverhead is what a group takes beside its labels and cells, about.
const groupOverhead = 200

// NewGroups returns no groups.
func NewGroups(spec *GroupSpec) *Groups {
	g := &Groups{spec: spec, byKey: make(map[string]*Group)}
	if spec.Bucket > 0 {
		g.buckets = NewBuckets(spec.Bucket, spec.Zone)
	}
	return g
}

// Spec is that of the groups.
func (g *Groups) Spec() *GroupSpec { return g.spec }

// Len is how many groups there are.
func (g *Groups) Len() int { return len(g.byKey) }

// take takes memory of the budget.
func (s *GroupSpec) take(n int) error {
	if s.used.Add(int64(n)) > MaxGroupBytes {
		return ErrGroupMemory
	}
	return nil
}

// Add puts an event into its group. It keeps nothing of e. ErrTooManyGroups,
// ErrGroupMemory.
func (g *Groups) Add(e *Event) error {
	bucket := int64(0)
	g.key = g.key[:0]
	if g.buckets != nil {
		bucket = g.buckets.Of(e.Time)
		g.key = binary.BigEndian.AppendUint64(g.key, uint64(bucket))
	}
	for _, by := range g.spec.By {
		g.key = appendLabel(g.key, e, by)
	}
	group := g.byKey[string(g.key)]
	if group == nil {
		var err error
		if group, err = g.add(bucket); err != nil {
			return err
		}
	}
	for i := range g.spec.Aggregations {
		if err := group.cells[i].add(g.spec, &g.spec.Aggregations[i], e); err != nil {
			return err
		}
	}
	return nil
}

// add makes the group of g.key.
func (g *Groups) add(bucket int64) (*Group, error) {
	if len(g.byKey) >= g.spec.Limit {
		return nil, ErrTooManyGroups
	}
	if err := g.spec.take(groupOverhead + 3*len(g.key) + len(g.spec.Aggregations)*cellBytes); err != nil {
		return nil, err
	}
	group := &Group{Bucket: bucket, Labels: make([][]byte, len(g.spec.By)), cells: make([]cell, len(g.spec.Aggregations))}
	key := bytes.Clone(g.key)
	at := key
	if g.buckets != nil {
		at = at[8:]
	}
	for i := range group.Labels {
		n, size := binary.Uvarint(at)
		at = at[size:]
		if n > 0 {
			group.Labels[i], at = at[:n-1], at[n-1:]
		}
	}
	g.byKey[string(key)] = group
	return group, nil
}

// Merge adds the groups of another, which is not used any more.
func (g *Groups) Merge(o *Groups) error {
	for key, theirs := range o.byKey {
		ours := g.byKey[key]
		if ours == nil {
			if len(g.byKey) >= g.spec.Limit {
				return ErrTooManyGroups
			}
			g.byKey[key] = theirs
			continue
		}
		for i := range ours.cells {
			if err := ours.cells[i].merge(g.spec, &g.spec.Aggregations[i], &theirs.cells[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// Value is what an aggregation gives, and whether it gives anything.
func (g *Groups) Value(group *Group, i int) (v float64, ok bool) {
	if group.cells == nil { // of Fill
		op := g.spec.Aggregations[i].Op
		return 0, op == Count || op == Sum || op == Distinct
	}
	return group.cells[i].value(&g.spec.Aggregations[i])
}

// Approximate reports whether an aggregation is an estimate in some group.
func (g *Groups) Approximate(i int) bool {
	for _, group := range g.byKey {
		if group.cells[i].estimate() {
			return true
		}
	}
	return false
}

// All are the groups by labels, then bucket.
func (g *Groups) All() []*Group {
	all := make([]*Group, 0, len(g.byKey))
	for _, group := range g.byKey {
		all = append(all, group)
	}
	slices.SortFunc(all, (*Group).Compare)
	return all
}

// Fill returns all, which is as All has it, with the empty buckets of start <= t < end of
// each of its label sets between its groups. ErrTooManyGroups: there would be more than
// limit.
func (g *Groups) Fill(all []*Group, start, end int64, limit int) ([]*Group, error) {
	if g.buckets == nil || len(all) == 0 || start >= end {
		return all, nil
	}
	var begins []int64
	for b := g.buckets.Of(start); b < end; b = g.buckets.Next(b) {
		if len(begins) >= limit {
			return nil, ErrTooManyGroups
		}
		begins = append(begins, b)
	}
	var out []*Group
	for i := 0; i < len(all); {
		first := all[i]
		for _, b := range begins {
			if len(out) >= limit {
				return nil, ErrTooManyGroups
			}
			if i < len(all) && all[i].Bucket == b && all[i].compareLabels(first) == 0 {
				out = append(out, all[i])
				i++
				continue
			}
			out = append(out, &Group{Labels: first.Labels, Bucket: b})
		}
	}
	return out, nil
}

// Compare orders groups by labels, each that is absent before all others, then by bucket.
func (x *Group) Compare(o *Group) int {
	return cmp.Or(x.compareLabels(o), cmp.Compare(x.Bucket, o.Bucket))
}

func (x *Group) compareLabels(o *Group) int {
	for i := range x.Labels {
		if c := CompareLabels(x.Labels[i], o.Labels[i]); c != 0 {
			return c
		}
	}
	return 0
}

// CompareLabels orders two labels by their bytes, an absent one first.
func CompareLabels(a, b []byte) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return bytes.Compare(a, b)
}

// appendLabel appends the text of what an event is grouped by: its length and 1, then the
// text; or 0 where the event lacks it.
func appendLabel(dst []byte, e *Event, by []byte) []byte {
	if string(by) == SeriesKey {
		dst = binary.AppendUvarint(dst, uint64(len(e.Series))+1)
		return append(dst, e.Series...)
	}
	v := e.Item(by)
	if v == nil {
		return append(dst, 0)
	}
	if v.Kind == String {
		dst = binary.AppendUvarint(dst, uint64(len(v.Text))+1)
		return append(dst, v.Text...)
	}
	var room [32]byte
	text := v.AppendText(room[:0])
	dst = binary.AppendUvarint(dst, uint64(len(text))+1)
	return append(dst, text...)
}

// AppendText appends the text of a value: a string as it is, a number in decimal, bytes in
// base64. A double without a fraction has the text of the int that it equals.
func (v *Value) AppendText(dst []byte) []byte {
	switch v.Kind {
	case Int:
		return strconv.AppendInt(dst, v.Int, 10)
	case Double:
		if i := int64(v.Double); math.Abs(v.Double) < 1<<63 && float64(i) == v.Double {
			return strconv.AppendInt(dst, i, 10)
		}
		return strconv.AppendFloat(dst, v.Double, 'g', -1, 64)
	case Bytes:
		return base64.StdEncoding.AppendEncode(dst, v.Text)
	case String:
	}
	return append(dst, v.Text...)
}
