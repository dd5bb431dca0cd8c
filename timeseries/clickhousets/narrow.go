package clickhousets

import (
	"math"
	"strconv"

	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/timeseries"
)

// ClickHouse narrows a query down to events of which some row may meet it. It may let through
// too many, for which it is that timeseries judges each event, and never too few: a row has a part
// of the items of its event, so a negation narrows nothing, and of conditions that all have to hold
// one is taken.

// longestSent is how many bytes of a text are sent: over HTTP they are a part of an address.
const longestSent = 1024

// narrowed is a condition on rows that every event that meets c has a row for; "": there is
// none.
func narrowed(q *clickhousestore.Statement, c *timeseries.Condition) string {
	if c == nil {
		return ""
	}
	switch c.Op {
	case timeseries.And:
		best := (*timeseries.Condition)(nil)
		for i := range c.Kids {
			if k := &c.Kids[i]; narrows(k) && (best == nil || rank(k) < rank(best)) {
				best = k
			}
		}
		return narrowed(q, best)
	case timeseries.Or:
		if !narrows(c) {
			return ""
		}
		out := ""
		for i := range c.Kids {
			if i > 0 {
				out += " OR "
			}
			out += narrowed(q, &c.Kids[i])
		}
		return "(" + out + ")"
	case timeseries.Not:
		return ""
	}
	return rowCondition(q, c)
}

// narrows reports whether narrowed has a condition for c.
func narrows(c *timeseries.Condition) bool {
	switch c.Op {
	case timeseries.Not:
		return false
	case timeseries.And:
		for i := range c.Kids {
			if narrows(&c.Kids[i]) {
				return true
			}
		}
		return false
	case timeseries.Or:
		for i := range c.Kids {
			if !narrows(&c.Kids[i]) {
				return false
			}
		}
		return len(c.Kids) > 0
	}
	return true
}

// rank is lower for what is likely to let through less.
func rank(c *timeseries.Condition) int {
	switch c.Op {
	case timeseries.Equals:
		return 0
	case timeseries.Prefix:
		return 1
	case timeseries.Range:
		return 2
	}
	return 3
}

// rowCondition is that a row has an item that may meet c.
func rowCondition(q *clickhousestore.Statement, c *timeseries.Condition) string {
	key := q.Bytes(c.Key)
	item := func(column, condition string) string {
		return "(mapContains(" + column + ", " + key + ")" + condition + ")"
	}
	text := func(kind timeseries.ValueKind) string {
		if kind == timeseries.Bytes {
			return "blobs"
		}
		return "strings"
	}
	switch c.Op {
	case timeseries.Equals:
		v := &c.Value
		switch v.Kind {
		case timeseries.Int:
			return "(" + item("ints", " AND ints["+key+"] = "+clickhousestore.Number(v.Int)) + " OR " + item("doubles", " AND doubles["+key+"] = "+double(float64(v.Int))) + ")"
		case timeseries.Double:
			return "(" + item("ints", " AND toFloat64(ints["+key+"]) = "+double(v.Double)) + " OR " + item("doubles", " AND doubles["+key+"] = "+double(v.Double)) + ")"
		case timeseries.String, timeseries.Bytes:
			x := text(v.Kind) + "[" + key + "]"
			if len(v.Text) > longestSent {
				return item(text(v.Kind), " AND startsWith("+x+", "+q.Bytes(v.Text[:longestSent])+")")
			}
			return item(text(v.Kind), " AND "+x+" = "+q.Bytes(v.Text))
		}
	case timeseries.Prefix:
		return item("strings", " AND startsWith(strings["+key+"], "+q.Bytes(c.Value.Text[:min(longestSent, len(c.Value.Text))])+")")
	case timeseries.Range:
		of := c.Lower
		if of == nil {
			of = c.Upper
		}
		if of == nil {
			break
		}
		if of.Kind == timeseries.String || of.Kind == timeseries.Bytes {
			column := text(of.Kind)
			cut := *c
			if cut.Lower != nil && len(cut.Lower.Text) > longestSent {
				cut.Lower = &timeseries.Value{Kind: of.Kind, Text: cut.Lower.Text[:longestSent]}
			}
			if cut.Upper != nil && len(cut.Upper.Text) > longestSent { // what it begins with would be too little
				cut.Upper = nil
			}
			return item(column, bounds(column+"["+key+"]", &cut, func(v *timeseries.Value) string { return q.Bytes(v.Text) }))
		}
		// As doubles, and with both ends: rounding keeps the order, and lets through more.
		end := func(v *timeseries.Value) string {
			if v.Kind == timeseries.Int {
				return double(float64(v.Int))
			}
			return double(v.Double)
		}
		return "(" + item("ints", bounds("toFloat64(ints["+key+"])", c, end)) + " OR " + item("doubles", bounds("doubles["+key+"]", c, end)) + ")"
	case timeseries.And, timeseries.Or, timeseries.Not, timeseries.Exists:
	}
	return "(mapContains(ints, " + key + ") OR mapContains(doubles, " + key + ") OR mapContains(strings, " + key + ") OR mapContains(blobs, " + key + "))"
}

// bounds are the ends of a range, both included.
func bounds(x string, c *timeseries.Condition, end func(v *timeseries.Value) string) (out string) {
	if c.Lower != nil {
		out += " AND " + x + " >= " + end(c.Lower)
	}
	if c.Upper != nil {
		out += " AND " + x + " <= " + end(c.Upper)
	}
	return out
}

// double is a Float64, bit by bit.
func double(d float64) string {
	return "reinterpretAsFloat64(toUInt64(" + strconv.FormatUint(math.Float64bits(d), 10) + "))"
}
