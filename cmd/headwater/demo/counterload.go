package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/headwater-db/headwater/client"
)

// CounterOptions say how flights are counted.
type CounterOptions struct {
	// Namespace is a namespace of abstraction counter.
	Namespace string
	// Batch is the number of flights of a call; 0: 250, which is 1,001 increments.
	Batch int
	// Workers is how many calls are under way at once; 0: 8.
	Workers int
	// Progress, when set, is told how many flights are done, of Flights.Rows. It may
	// be called from several goroutines.
	Progress func(done int)
}

func (o CounterOptions) withDefaults() CounterOptions {
	if o.Batch == 0 {
		o.Batch = 250
	}
	if o.Workers == 0 {
		o.Workers = 8
	}
	return o
}

// Counted is what a load of counters did.
type Counted struct {
	Increments int `json:"increments"`
	Counters   int `json:"counters"`
	Calls      int `json:"calls"`
	// Present calls were counted by an earlier load, as their markers say, and were
	// not sent; Repeated ones were sent, and their tokens were known.
	Present  int `json:"presentCalls"`
	Repeated int `json:"repeatedCalls"`
	// Durability is that of the answers; empty when nothing was sent.
	Durability       client.Durability `json:"durability"`
	Seconds          float64           `json:"seconds"`
	IncrementsPerSec float64           `json:"incrementsPerSecond"`

	// others is what the counters of the namespace held before that is not of
	// these flights: another file, or another part of it.
	others map[string]int64
}

// CountFlights adds every flight to its counters. An error means that not every
// flight is known to be counted; calling it again completes the load.
//
// Every call has a token, which lets copies of one call count once for as long as
// the namespace keeps tokens. A load that is repeated later must not count again
// either: so each call adds to a marker too, and what has its marker is not sent.
func CountFlights(ctx context.Context, c *client.Client, f *Flights, o CounterOptions) (Counted, error) {
	o = o.withDefaults()
	n := c.Counter(o.Namespace)
	all := f.CounterBatches(o.Batch)
	out := Counted{Calls: len(all), Counters: len(f.names.all)}
	present, at, err := marked(ctx, n, all)
	if err != nil {
		return Counted{}, err
	}
	before, err := listCounts(ctx, n, at)
	if err != nil {
		return Counted{}, err
	}
	var left []CounterBatch
	known := make([]int64, len(f.names.all))
	for i := range all {
		if !present[i] {
			left = append(left, all[i])
			continue
		}
		for j, v := range f.countOf(all[i].trips) {
			known[j] += v
		}
	}
	if out.others, err = othersOf(f, before, known); err != nil {
		return Counted{}, err
	}
	out.Present = len(all) - len(left)
	t := tally{progress: o.Progress, done: f.Rows}
	for i := range left {
		t.done -= left[i].Flights
		out.Increments += left[i].Flights * IncrementsPerFlight
	}
	start := time.Now()
	err = each(ctx, o.Workers, len(left), func(ctx context.Context, i int) error {
		b := &left[i]
		adds := append(b.Adds(nil), client.CounterAdd{Counter: b.Marker(), Delta: 1})
		res, err := n.AddAll(ctx, adds, client.CounterWriteOptions{Token: client.Token{Key: b.Token}})
		if err != nil {
			return fmt.Errorf("count flights, call %d of %d: %w", i+1, len(left), err)
		}
		t.sent(b.Flights, res)
		return nil
	})
	if err != nil {
		return Counted{}, err
	}
	out.Durability, out.Repeated = t.durability, t.repeated
	if len(left) > 0 {
		out.Seconds = time.Since(start).Seconds()
		out.IncrementsPerSec = float64(out.Increments) / out.Seconds
	}
	return out, nil
}

// marked reads which batches are counted, and as of where.
func marked(ctx context.Context, n *client.Counter, all []CounterBatch) (present []bool, at []string, err error) {
	seen := map[string]bool{}
	for part := range slices.Chunk(all, client.MaxAdds) {
		names := make([]string, len(part))
		for i := range part {
			names[i] = part[i].Marker()
		}
		counts, err := n.GetMany(ctx, names, client.CountOptions{Accuracy: client.CountAccurate})
		if err != nil {
			return nil, nil, fmt.Errorf("read what is counted: %w", err)
		}
		for _, name := range names {
			count := counts[name]
			present = append(present, count.Value > 0)
			if p := count.Position; p != "" && !seen[p] {
				seen[p] = true
				at = append(at, p)
			}
		}
	}
	return present, at, nil
}

// listCounts reads every counter of a flight that the namespace has.
func listCounts(ctx context.Context, n *client.Counter, after []string) (map[string]int64, error) {
	counts := map[string]int64{}
	for _, kind := range kinds {
		for c, err := range n.List(ctx, client.ListCountsOptions{Prefix: kind + "/", After: after}) {
			if err != nil {
				return nil, fmt.Errorf("list the counters of %s: %w", kind, err)
			}
			counts[c.Counter] = c.Count.Value
		}
	}
	return counts, nil
}

// othersOf is what the counters hold beside known, which is by the places of
// names.
func othersOf(f *Flights, before map[string]int64, known []int64) (map[string]int64, error) {
	others := maps.Clone(before)
	for i, v := range known {
		name := f.names.all[i]
		if others[name] -= v; others[name] < 0 {
			return nil, &CountMismatch{Counters: 1, First: name, Want: v, Got: before[name]}
		}
	}
	maps.DeleteFunc(others, func(_ string, v int64) bool { return v == 0 })
	return others, nil
}

// CountMismatch is counters that do not hold what the flights add up to.
type CountMismatch struct {
	// Counters is how many. First is one of them, Want what the plain pass counts,
	// and Got what was read.
	Counters  int
	First     string
	Want, Got int64
}

func (m *CountMismatch) Error() string {
	return fmt.Sprintf("%d counters do not hold what a plain pass over the file counts: %s is %d, and must be %d; if nothing else has added to it or cleared it, this is a bug",
		m.Counters, m.First, m.Got, m.Want)
}

// CountReport is what was read back of the counters.
type CountReport struct {
	// Counters were read, each equal to the plain pass.
	Counters int `json:"counters"`
	// Top are the ten largest of each kind, of what was read.
	Top map[string][]Ranked `json:"top"`
	// Others are increments of the same counters, and of more of their kinds, that
	// are not of these flights. They are taken off what was read before anything is
	// compared.
	Others int64 `json:"otherIncrements"`
	// Series is the largest origin by days, from its events; nil where it has
	// others.
	Series []Day `json:"series,omitempty"`
}

// Day is one window of a series.
type Day struct {
	Start time.Time `json:"start"`
	Count int64     `json:"count"`
}

// ReadCounts reads every counter through the API and compares it, and the top ten
// of each kind, with the plain pass: *CountMismatch when they differ.
func ReadCounts(ctx context.Context, c *client.Client, f *Flights, loaded *Counted, o CounterOptions) (CountReport, error) {
	n := c.Counter(o.Namespace)
	got, err := listCounts(ctx, n, nil)
	if err != nil {
		return CountReport{}, err
	}
	r := CountReport{Top: make(map[string][]Ranked, len(kinds))}
	for name, v := range loaded.others {
		got[name] -= v
		r.Others += v
	}
	want := f.Counts()
	if m := mismatch(want, got); m != nil {
		return CountReport{}, m
	}
	r.Counters = len(want)
	for _, kind := range kinds {
		r.Top[kind] = top(got, kind)
		if !slices.Equal(r.Top[kind], top(want, kind)) {
			return CountReport{}, fmt.Errorf("the top ten of %s are %v, and a plain pass over the file finds %v", kind, r.Top[kind], top(want, kind))
		}
	}
	busiest := r.Top[kinds[0]][0].Counter
	if loaded.others[busiest] == 0 {
		r.Series, err = series(ctx, n, f, busiest)
	}
	return r, err
}

// mismatch compares what was read with what must be there; what is not in want
// must be 0.
func mismatch(want, got map[string]int64) *CountMismatch {
	var m CountMismatch
	found := func(name string) {
		if m.Counters++; m.First == "" || name < m.First {
			m.First, m.Want, m.Got = name, want[name], got[name]
		}
	}
	for name, v := range want {
		if got[name] != v {
			found(name)
		}
	}
	for name, v := range got {
		if _, ok := want[name]; !ok && v != 0 {
			found(name)
		}
	}
	if m.Counters == 0 {
		return nil
	}
	return &m
}

const day = 24 * time.Hour

// series reads a counter by days and compares each with the file.
func series(ctx context.Context, n *client.Counter, f *Flights, counter string) ([]Day, error) {
	want := map[time.Time]int64{}
	place := f.names.place[counter]
	first, last := time.Unix(f.trips[0].departed, 0), time.Unix(f.trips[0].departed, 0)
	for i := range f.trips {
		t := &f.trips[i]
		if !slices.Contains(t.names[:], place) {
			continue
		}
		at := time.Unix(t.departed, 0)
		want[at.UTC().Truncate(day)]++
		if at.Before(first) {
			first = at
		}
		if at.After(last) {
			last = at
		}
	}
	o := client.SeriesOptions{Since: first.UTC().Truncate(day), Until: last.UTC().Truncate(day).Add(day), Granularity: day}
	s, err := n.Series(ctx, counter, o)
	if err != nil {
		return nil, fmt.Errorf("read %s by days: %w", counter, err)
	}
	days := make([]Day, 0, len(s.Points))
	for _, p := range s.Points {
		if p.Sum != want[p.Start.UTC()] || p.Adds != p.Sum {
			return nil, fmt.Errorf("%s on %s is %d of %d adds; a plain pass over the file counts %d", counter, p.Start.UTC().Format(time.DateOnly), p.Sum, p.Adds, want[p.Start.UTC()])
		}
		if p.Sum != 0 {
			delete(want, p.Start.UTC())
		}
		days = append(days, Day{p.Start.UTC(), p.Sum})
	}
	if len(want) > 0 {
		return nil, fmt.Errorf("%s by days lacks %d days of the file", counter, len(want))
	}
	return days, nil
}

// absent words that there is no namespace to count in.
func absent(namespace string, err error) error {
	if !errors.Is(err, client.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w; restart `headwater dev`, which makes demo-counter, or make it: printf '%s' | headwater namespace apply -f -",
		err, strings.ReplaceAll("namespace: "+namespace+"\nabstraction: counter\n", "\n", `\n`))
}
