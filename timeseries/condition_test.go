package timeseries

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	i := func(v int64) Value { return Value{Kind: Int, Int: v} }
	s := func(v string) Value { return Value{Kind: String, Text: []byte(v)} }
	e := &Event{Items: []Item{{[]byte("n"), i(5)}, {[]byte("s"), s("abc")}}}
	ref := func(v Value) *Value { return &v }
	is := func(key string, v Value) Condition { return Condition{Op: Equals, Key: []byte(key), Value: v} }
	for name, c := range map[string]struct {
		c    Condition
		want bool
	}{
		"equals":             {is("n", i(5)), true},
		"another":            {is("n", i(6)), false},
		"absent":             {is("x", i(5)), false},
		"not of absent":      {Condition{Op: Not, Kids: []Condition{is("x", i(5))}}, true},
		"and":                {Condition{Op: And, Kids: []Condition{is("n", i(5)), is("s", s("abc"))}}, true},
		"and of one false":   {Condition{Op: And, Kids: []Condition{is("n", i(5)), is("s", s("x"))}}, false},
		"and of none":        {Condition{Op: And}, true},
		"or":                 {Condition{Op: Or, Kids: []Condition{is("n", i(6)), is("s", s("abc"))}}, true},
		"or of none":         {Condition{Op: Or}, false},
		"prefix":             {Condition{Op: Prefix, Key: []byte("s"), Value: s("ab")}, true},
		"prefix of a number": {Condition{Op: Prefix, Key: []byte("n"), Value: s("")}, false},
		"exists":             {Condition{Op: Exists, Key: []byte("n")}, true},
		"exists not":         {Condition{Op: Exists, Key: []byte("x")}, false},
		"range":              {Condition{Op: Range, Key: []byte("n"), Lower: ref(i(5)), Upper: ref(i(6))}, true},
		"upper is excluded":  {Condition{Op: Range, Key: []byte("n"), Upper: ref(i(5))}, false},
		"upper included":     {Condition{Op: Range, Key: []byte("n"), Upper: ref(i(5)), UpperInclusive: true}, true},
		"lower excluded":     {Condition{Op: Range, Key: []byte("n"), Lower: ref(i(5)), LowerExclusive: true}, false},
		"mixed types":        {Condition{Op: Range, Key: []byte("n"), Lower: ref(s(""))}, false},
	} {
		if got := c.c.Match(e); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestNumbersAreOrderedExactly compares with big.Float, which has every int64.
func TestNumbersAreOrderedExactly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{math.MinInt64, math.MaxInt64, 1<<53 + 1, 0})).Draw(t, "int")
		d := rapid.OneOf(rapid.Float64Range(-1e19, 1e19), rapid.SampledFrom([]float64{1 << 53, 1 << 63, -(1 << 63), 0.5, math.Copysign(0, -1)})).Draw(t, "double")
		if rapid.Bool().Draw(t, "near") {
			d = float64(i) + rapid.SampledFrom([]float64{-1, -0.5, 0, 0.5, 1}).Draw(t, "by")
		}
		want := new(big.Float).SetInt64(i).Cmp(big.NewFloat(d))
		a, b := Value{Kind: Int, Int: i}, Value{Kind: Double, Double: d}
		if got, ok := a.Compare(&b); !ok || got != want {
			t.Fatalf("%d against %v: %d, want %d", i, d, got, want)
		}
		if got, _ := b.Compare(&a); got != -want {
			t.Fatalf("%v against %d: %d, want %d", d, i, got, -want)
		}
		if a.Equal(&b) != (want == 0) {
			t.Fatalf("%d equals %v: %v", i, d, a.Equal(&b))
		}
	})
}

// TestOnlyTheKeysThatAreLookedAtAreDecoded: an event looks the same by them.
func TestOnlyTheKeysThatAreLookedAtAreDecoded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := []string{"", "a", "ab", "b", "c"}
		e := Event{}
		for _, k := range all {
			if rapid.Bool().Draw(t, "has "+k) {
				e.Items = append(e.Items, Item{Key: []byte(k), Value: Value{Kind: Int, Int: int64(len(e.Items))}})
			}
		}
		var keys [][]byte
		for _, k := range all {
			if rapid.Bool().Draw(t, "wants "+k) {
				keys = append(keys, []byte(k))
			}
		}
		got, err := DecodeKeys(nil, AppendItems(nil, e.Items), keys)
		if err != nil {
			t.Fatal(err)
		}
		some := Event{Items: got}
		for _, k := range keys {
			a, b := e.Item(k), some.Item(k)
			if (a == nil) != (b == nil) || a != nil && a.Int != b.Int {
				t.Fatalf("item %q is %v, not %v", k, b, a)
			}
		}
		if len(got) > len(keys) {
			t.Fatalf("%d items for %d keys", len(got), len(keys))
		}
	})
}
