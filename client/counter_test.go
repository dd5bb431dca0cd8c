package client

import (
	"errors"
	"fmt"
	"testing"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func TestCountsAreReadAsTheyWereAdded(t *testing.T) {
	s := newMemServer()
	n := s.start(t, Config{}).Counter("ns")
	for i, name := range []string{"a/1", "a/2", "b"} {
		if _, err := n.Add(t.Context(), name, int64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := n.Get(t.Context(), "a/2")
	if err != nil || c.Value != 2 || c.Accuracy != CountAccurate || c.Time.IsZero() {
		t.Errorf("%+v, %v", c, err)
	}
	many, err := n.GetMany(t.Context(), []string{"a/1", "none"}, CountOptions{})
	if err != nil || len(many) != 2 || many["a/1"].Value != 1 || many["none"].Value != 0 {
		t.Errorf("%+v, %v", many, err)
	}
	for prefix, want := range map[string]string{"": "a/1=1 a/2=2 b=3 ", "a/": "a/1=1 a/2=2 ", "c": ""} {
		got := ""
		for m, err := range n.List(t.Context(), ListCountsOptions{Prefix: prefix, PageSize: 1}) {
			if err != nil {
				t.Fatal(err)
			}
			got += fmt.Sprintf("%s=%d ", m.Counter, m.Count.Value)
		}
		if got != want {
			t.Errorf("prefix %q: %q, want %q", prefix, got, want)
		}
	}
	if _, err := n.Clear(t.Context(), "b", CounterWriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if c, err := n.Get(t.Context(), "b"); err != nil || c.Value != 0 {
		t.Errorf("cleared: %+v, %v", c, err)
	}
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	series, err := n.Series(t.Context(), "a/2", SeriesOptions{Since: since, Until: since.Add(3 * time.Hour), Granularity: time.Hour, TimeZone: "Europe/Berlin"})
	if err != nil || len(series.Points) != 3 || series.Points[2] != (CountPoint{Start: since.Add(2 * time.Hour), Sum: 2, Adds: 1}) || series.Points[0].Adds != 0 {
		t.Errorf("%+v, %v", series, err)
	}
	v, err := n.Verify(t.Context(), "a/2")
	if err != nil || v.Drift != 0 || v.Recounted != 2 || v.Stored.Value != 2 || v.Events != 1 {
		t.Errorf("%+v, %v", v, err)
	}
}

// Reads wait for this client's own writes, unless they ask for what is there at
// once.
func TestCountsWaitForOwnWrites(t *testing.T) {
	s := newMemServer()
	n := s.start(t, Config{}).Counter("ns")
	res, err := n.Add(t.Context(), "c", 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, tc := range []struct {
		o     CountOptions
		want  headwaterv1.Count_Accuracy
		after string
	}{
		{CountOptions{}, headwaterv1.Count_ACCURACY_UNSPECIFIED, res.Position},
		{CountOptions{Accuracy: CountAccurate, After: []string{"x"}}, headwaterv1.Count_ACCURATE, "x " + res.Position},
		{CountOptions{Accuracy: CountEventual}, headwaterv1.Count_EVENTUAL, ""},
		{CountOptions{Accuracy: CountBestEffort, After: []string{"x"}}, headwaterv1.Count_BEST_EFFORT, "x"},
	} {
		if _, err := n.GetWith(t.Context(), "c", tc.o); err != nil {
			t.Fatal(err)
		}
		got := s.counters.gets[i]
		if fmt.Sprint(got.GetAfter()) != "["+tc.after+"]" || got.GetAccuracy() != tc.want {
			t.Errorf("%+v: asked for %v at %v", tc.o, got.GetAccuracy(), got.GetAfter())
		}
	}
	if _, err := n.GetWith(t.Context(), "c", CountOptions{Accuracy: 9}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
	if _, err := n.Get(t.Context(), ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestAddAndGetAnswersOnceForAToken(t *testing.T) {
	s := newMemServer()
	n := s.start(t, Config{RetryInitial: time.Millisecond}).Counter("ns")
	ceiling := int64(10)
	o := AddAndGetOptions{Bounds: Bounds{Ceiling: &ceiling}}
	a, err := n.AddAndGet(t.Context(), "c", 8, o)
	if err != nil || a.Count.Value != 8 || a.Applied != 8 || a.Violation != NoViolation || a.Duplicate != New {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = n.AddAndGet(t.Context(), "c", 3, o)
	if err != nil || a.Count.Value != 8 || a.Applied != 0 || a.Violation != AtCeiling {
		t.Errorf("rejected: %+v, %v", a, err)
	}
	o.Bounds.Saturate, o.Token.Key = true, "k"
	s.after = times(1, errNoAnswer)
	for i := range 2 {
		a, err = n.AddAndGet(t.Context(), "c", 3, o)
		if err != nil || a.Count.Value != 10 || a.Applied != 2 || a.Violation != AtCeiling || a.Duplicate != Repeated || a.Token.Key != "k" {
			t.Errorf("saturated, call %d: %+v, %v", i, a, err)
		}
	}
}

func TestReservationsHoldUntilTheyAreSettledOrCancelled(t *testing.T) {
	n := newMemServer().start(t, Config{}).Counter("ns")
	if _, err := n.Add(t.Context(), "quota", 10); err != nil {
		t.Fatal(err)
	}
	r, err := n.Reserve(t.Context(), "quota", 7, time.Minute, CounterWriteOptions{})
	if err != nil || r.Count.Held != 7 || r.ID == "" || !r.ExpiresAt.After(time.Now()) {
		t.Fatalf("%+v, %v", r, err)
	}
	_, err = n.Reserve(t.Context(), "quota", 4, time.Minute, CounterWriteOptions{})
	if e, ok := errors.AsType[*Error](err); !ok || !errors.Is(err, ErrInsufficient) || e.Outcome != NotApplied {
		t.Errorf("%v", err)
	}
	c, err := r.SettleAmount(t.Context(), 5, CounterWriteOptions{})
	if err != nil || c.Value != 5 || c.Held != 0 {
		t.Errorf("settled: %+v, %v", c, err)
	}
	if r, err = n.Reserve(t.Context(), "quota", 5, time.Minute, CounterWriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if c, err = n.Reservation(r.ID).Cancel(t.Context(), CounterWriteOptions{}); err != nil || c.Value != 5 || c.Held != 0 {
		t.Errorf("cancelled: %+v, %v", c, err)
	}
	if _, err = n.Reservation("nobody").Settle(t.Context(), CounterWriteOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	if _, err = n.Reservation("").Cancel(t.Context(), CounterWriteOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}
