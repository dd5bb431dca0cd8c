package demo

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/client"
)

var countIn = CounterOptions{Namespace: "demo-counter"}

func countAndRead(t *testing.T, c *client.Client, f *Flights) (Counted, CountReport) {
	t.Helper()
	l, err := CountFlights(t.Context(), c, f, countIn)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ReadCounts(t.Context(), c, f, &l, countIn)
	if err != nil {
		t.Fatal(err)
	}
	return l, r
}

func TestCountsAreThoseOfTheFileAndASecondLoadChangesNothing(t *testing.T) {
	t.Parallel()
	c, f := serve(t), flights(t, 0)
	l, r := countAndRead(t, c, f)
	if l.Increments != 100_000 || l.Present != 0 || l.Repeated != 0 || l.Durability != client.Sync || r.Counters != len(naive(t, 25_000)) || r.Others != 0 {
		t.Errorf("counted %+v, read %d counters and %d others", l, r.Counters, r.Others)
	}
	// What the file says, counted with other tools.
	if o := r.Top["origin"]; len(o) != topOf || o[0] != (Ranked{"origin/ORD", 1439}) || len(r.Series) != 2 || r.Series[0].Count+r.Series[1].Count != 1439 {
		t.Errorf("the largest origins are %v, by days %v", o, r.Series)
	}
	again, _ := countAndRead(t, c, f)
	if again.Present != again.Calls || again.Increments != 0 {
		t.Errorf("the second load: %+v", again)
	}
	// The calls of the load, sent again all the same: their tokens are known.
	for _, b := range f.CounterBatches(countIn.withDefaults().Batch)[:10] {
		res, err := c.Counter(countIn.Namespace).AddAll(t.Context(), append(b.Adds(nil), client.CounterAdd{Counter: b.Marker(), Delta: 1}),
			client.CounterWriteOptions{Token: client.Token{Key: b.Token}})
		if err != nil || res.Duplicate != client.Repeated {
			t.Fatalf("a call that is sent again: %+v, %v", res, err)
		}
	}
	_, r = countAndRead(t, c, f)
	if r.Others != 0 {
		t.Errorf("calls that were known have counted: %d increments are new", r.Others)
	}
}

func TestALoadStandsBesideAnother(t *testing.T) {
	t.Parallel()
	c := serve(t)
	countAndRead(t, c, flights(t, 600)) // two calls of 250 and one of 100
	l, r := countAndRead(t, c, flights(t, 1000))
	if l.Present != 2 || r.Others != 400 || l.Increments != 2000 {
		t.Errorf("the longer load: %+v; others %d", l, r.Others)
	}
}

// A check that cannot fail proves nothing.
func TestWrongCountsAreFound(t *testing.T) {
	t.Parallel()
	c, f := serve(t), flights(t, 1000)
	n := c.Counter(countIn.Namespace)
	l, r := countAndRead(t, c, f)
	victim := r.Top["route"][9].Counter
	expect := func(name string, got int64) {
		t.Helper()
		_, err := ReadCounts(t.Context(), c, f, &l, countIn)
		m, ok := errors.AsType[*CountMismatch](err)
		if !ok || m.First != name || m.Got != got || m.Counters != 1 || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v", err)
		}
	}
	add := func(name string, delta int64) {
		t.Helper()
		if _, err := n.Add(t.Context(), name, delta); err != nil {
			t.Fatal(err)
		}
	}
	add(victim, 1)
	expect(victim, f.Counts()[victim]+1)
	add(victim, -2)
	expect(victim, f.Counts()[victim]-1)
	if _, err := CountFlights(t.Context(), c, f, countIn); err == nil || !strings.Contains(err.Error(), victim) {
		t.Errorf("a counter that holds less than was counted: %v", err)
	}
	add(victim, 1)
	add("route/nowhere", 1)
	expect("route/nowhere", 1)
	add("route/nowhere", -1)
	if _, err := ReadCounts(t.Context(), c, f, &l, countIn); err != nil {
		t.Errorf("mended: %v", err)
	}
}

func TestACountThatStopsIsResumed(t *testing.T) {
	t.Parallel()
	c, f := serve(t), flights(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	o := countIn
	o.Progress = func(done int) {
		if done > f.Rows/2 {
			cancel()
		}
	}
	if _, err := CountFlights(ctx, c, f, o); !errors.Is(err, context.Canceled) {
		t.Errorf("a load that was cancelled: %v", err)
	}
	l, _ := countAndRead(t, c, f)
	if l.Present+l.Repeated == 0 || l.Present == l.Calls {
		t.Errorf("the resumed load: %+v", l)
	}
	if _, err := CountFlights(t.Context(), c, f, CounterOptions{Namespace: "nowhere"}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("count in a namespace that is not there: %v", err)
	}
}

func TestMismatchesOfBothKindsAreFound(t *testing.T) {
	t.Parallel()
	want := map[string]int64{"a": 1, "b": 2, "c": 3}
	if m := mismatch(want, maps.Clone(want)); m != nil {
		t.Errorf("equal counts: %v", m)
	}
	m := mismatch(want, map[string]int64{"a": 1, "b": 1, "d": 4, "e": 0})
	if m == nil || *m != (CountMismatch{Counters: 3, First: "b", Want: 2, Got: 1}) {
		t.Errorf("got %+v", m)
	}
}
