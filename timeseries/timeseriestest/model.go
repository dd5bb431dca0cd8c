package timeseriestest

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// model is what the store is to hold, in maps.
type model struct {
	slices timeseries.Slices
	events map[string]map[string]map[string]timeseries.Value // by series, place of the event, key
	at     wal.Offset                                        // of the batch in hand
	index  int
	// conflicts since the store was opened
	conflicts int64
}

// order is that of the next change.
func (m *model) order() timeseries.Order {
	m.index++
	return timeseries.Order{Decided: m.at, Record: m.at, Index: m.index}
}

func place(t int64, id string) string { return fmt.Sprintf("%020d %s", uint64(t)^1<<63, id) }

// testModel compares random programs with a plain model: events late, doubled and with
// other items, deletions, slices that are dropped, slices of other lengths, reopens; read
// in both orders, with filters, in pages of every size.
func testModel(t *testing.T, h Harness) {
	rapid.Check(t, func(t *rapid.T) {
		s := h.Open(t, 2)
		defer func() { h.Close(t, s) }()
		m := &model{events: make(map[string]map[string]map[string]timeseries.Value)}
		set := &timeseries.Settings{Slice: time.Hour, EventBuckets: 4, Index: timeseries.NewIndexKeys(rapid.SampledFrom([][]string{nil, {"k"}, {"k", "l"}}).Draw(t, "first index"))}
		hour := time.Hour.Microseconds()
		// Few times, so that events meet copies of themselves.
		at := rapid.OneOf(rapid.Int64Range(-3*hour, 3*hour), rapid.SampledFrom([]int64{-hour, -1, 0, 1, hour - 1, hour}))
		state := consumers.State{Applied: wal.NoOffset}
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			default:
				b := s.Begin(1)
				m.at, m.index = state.Applied+1, 0
				for range rapid.IntRange(1, 20).Draw(t, "events") {
					if rapid.IntRange(0, 9).Draw(t, "delete") == 9 {
						m.remove(b, seriesOf(t))
					}
					m.add(t, b, set, at.Draw(t, "time"))
				}
				state.Applied++
				if err := b.Commit(t.Context(), state); err != nil {
					t.Fatal(err)
				}
			case 6:
				series := seriesOf(t)
				b := s.Begin(1)
				m.at, m.index = state.Applied+1, 0
				m.remove(b, series)
				state.Applied++
				if err := b.Commit(t.Context(), state); err != nil {
					t.Fatal(err)
				}
			case 7:
				end := at.Draw(t, "drop before")
				r := timeseries.SweepRequest{Partition: 1, Limit: rapid.IntRange(1, 3).Draw(t, "limit"), Drop: func(x timeseries.Slice) bool { return x.End <= end }}
				for {
					res, err := s.Sweep(t.Context(), &r)
					if err != nil {
						t.Fatal(err)
					}
					if r.Cursor = res.Cursor; r.Cursor == nil {
						break
					}
				}
				m.drop(end)
			case 8:
				set.Index = timeseries.NewIndexKeys(rapid.SampledFrom([][]string{nil, {"k"}, {"k", "l"}}).Draw(t, "index"))
				set.Slice = time.Duration(rapid.IntRange(1, 90).Draw(t, "slice")) * time.Minute
			case 9:
				s, m.conflicts = h.Reopen(t, s), 0
			}
		}
		if got := s.Slices(1); !slices.Equal(got, m.slices) {
			t.Fatalf("slices are %v, not %v", got, m.slices)
		}
		if got := s.Conflicts(); h.Conflicts && got != m.conflicts {
			t.Fatalf("%d events differ from what was there, and %d are counted", m.conflicts, got)
		}
		m.checkMeasure(t, s)
		m.checkReads(t, s)
		m.checkList(t, s)
		m.checkSearch(t, s)
		for range 3 {
			m.checkAggregate(t, s)
		}
	})
}

// remove deletes a series in every slice, by one change.
func (m *model) remove(b timeseries.Batch, series string) {
	at := m.order()
	for _, x := range m.slices {
		b.DeleteSeries(at, x, []byte(series))
	}
	delete(m.events, series)
}

func seriesOf(t *rapid.T) string {
	return rapid.SampledFrom([]string{"a", "a\x00", "b", "long series"}).Draw(t, "series")
}

func (m *model) add(t *rapid.T, b timeseries.Batch, set *timeseries.Settings, at int64) {
	in, found := m.slices.Of(at)
	if !found {
		in = m.slices.New(at, set)
		b.AddSlice(in)
		m.slices = m.slices.With(in)
	}
	series, id := seriesOf(t), rapid.SampledFrom([]string{"1", "2", "2\x00"}).Draw(t, "id")
	e := timeseries.Event{}
	for _, key := range []string{"k", "l"} {
		if rapid.Bool().Draw(t, key) {
			e.Items = append(e.Items, timeseries.Item{Key: []byte(key), Value: valueOf(t)})
		}
	}
	b.AddEvent(m.order(), in, []byte(series), at, []byte(id), timeseries.AppendItems(nil, e.Items))
	if m.events[series] == nil {
		m.events[series] = make(map[string]map[string]timeseries.Value)
	}
	items := m.events[series][place(at, id)]
	if items == nil {
		items = make(map[string]timeseries.Value)
		m.events[series][place(at, id)] = items
	}
	differs := false
	for _, it := range e.Items {
		if v, there := items[string(it.Key)]; !there {
			items[string(it.Key)] = it.Value
		} else if !v.Same(&it.Value) {
			differs = true
		}
	}
	if differs {
		m.conflicts++
	}
}

// longText is longer than what an index may tell apart.
var longText = strings.Repeat("x", 200)

func valueOf(t *rapid.T) timeseries.Value {
	switch rapid.IntRange(0, 3).Draw(t, "type") {
	case 0:
		return timeseries.Value{Kind: timeseries.Int, Int: rapid.SampledFrom([]int64{0, 1, 2, -1, math.MaxInt64, math.MinInt64, 1<<53 + 1, 1 << 53}).Draw(t, "int")}
	case 1:
		return timeseries.Value{Kind: timeseries.Double, Double: rapid.SampledFrom([]float64{0, 0.5, 1, 1.5, -1, math.Copysign(0, -1), 1 << 63, -(1 << 63), 1 << 53}).Draw(t, "double")}
	case 2:
		return timeseries.Value{Kind: timeseries.String, Text: []byte(rapid.SampledFrom([]string{"", "x", "x\x00", "xy", longText + "a", longText + "b"}).Draw(t, "string"))}
	}
	return timeseries.Value{Kind: timeseries.Bytes, Text: []byte(rapid.SampledFrom([]string{"", "x"}).Draw(t, "bytes"))}
}

func (m *model) drop(end int64) {
	for _, x := range slices.Clone(m.slices) {
		if x.End > end {
			continue
		}
		m.slices = m.slices.Without(x.Start)
		for _, events := range m.events {
			maps.DeleteFunc(events, func(p string, _ map[string]timeseries.Value) bool {
				return timeOfPlace(p) >= x.Start && timeOfPlace(p) < x.End
			})
		}
	}
}

func timeOfPlace(p string) int64 {
	var v uint64
	_, _ = fmt.Sscanf(p[:20], "%d", &v)
	return int64(v ^ 1<<63)
}

// checkMeasure counts the events of each slice.
func (m *model) checkMeasure(t *rapid.T, s timeseries.Store) {
	sizes, err := s.Measure(t.Context(), 1)
	if err != nil || len(sizes) != len(m.slices) {
		t.Fatalf("%d slices are measured, not %d: %v", len(sizes), len(m.slices), err)
	}
	for i, x := range m.slices {
		want := int64(0)
		for _, events := range m.events {
			for p := range events {
				if at := timeOfPlace(p); at >= x.Start && at < x.End {
					want++
				}
			}
		}
		if sizes[i].Slice != x || sizes[i].Events != want || (sizes[i].Bytes > 0) != (want > 0) {
			t.Fatalf("slice %v has %d events, not %+v", x, want, sizes[i])
		}
	}
}

// checkReads reads every series in pages.
func (m *model) checkReads(t *rapid.T, s timeseries.Store) {
	hour := time.Hour.Microseconds()
	for _, series := range []string{"a", "a\x00", "b", "long series", "none"} {
		start := rapid.SampledFrom([]int64{math.MinInt64, -2 * hour, 0, 5}).Draw(t, "start")
		q := timeseries.Query{
			Partition: 1, Series: []byte(series), Start: start, End: start + rapid.SampledFrom([]int64{1, hour, 9 * hour, math.MaxInt64}).Draw(t, "length"),
			Oldest: rapid.Bool().Draw(t, "oldest"), Limit: rapid.IntRange(1, 9).Draw(t, "limit"), MaxBytes: rapid.SampledFrom([]int{1, 100, 1 << 20}).Draw(t, "bytes"),
		}
		if q.End < q.Start {
			q.End = math.MaxInt64
		}
		if rapid.Bool().Draw(t, "filter") {
			q.Filters = []timeseries.Item{{Key: []byte("k"), Value: valueOf(t)}}
		}
		want := m.read(series, &q)
		var got []string
		for {
			page, err := s.Read(t.Context(), &q)
			if err != nil {
				t.Fatal(err)
			}
			for i := range page.Events {
				got = append(got, show(&page.Events[i]))
			}
			if page.Next == nil {
				break
			}
			if len(page.Events) == 0 || len(got) > len(want) {
				t.Fatalf("a page of %d is not the last, after %d of %d events", len(page.Events), len(got), len(want))
			}
			q.After = page.Next
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q from %d to %d oldest %v reads\n%q, not\n%q", series, q.Start, q.End, q.Oldest, got, want)
		}
	}
}

func show(e *timeseries.Event) string {
	s := place(e.Time, string(e.ID))
	for _, it := range e.Items {
		s += fmt.Sprintf(" %s=%d:%q%d%v", it.Key, it.Value.Kind, it.Value.Text, it.Value.Int, it.Value.Double)
	}
	return s
}

func (m *model) read(series string, q *timeseries.Query) (out []string) {
	places := slices.Collect(maps.Keys(m.events[series]))
	slices.SortFunc(places, func(a, b string) int { // newest first, then by id
		if c := bytes.Compare([]byte(b[:20]), []byte(a[:20])); c != 0 {
			return c
		}
		return bytes.Compare([]byte(a[21:]), []byte(b[21:]))
	})
	if q.Oldest {
		slices.Reverse(places)
	}
	for _, p := range places {
		e := timeseries.Event{Time: timeOfPlace(p), ID: []byte(p[21:])}
		if e.Time < q.Start || e.Time >= q.End {
			continue
		}
		for k, v := range m.events[series][p] {
			e.Items = append(e.Items, timeseries.Item{Key: []byte(k), Value: v})
		}
		e.SortItems()
		passes := true
		for _, f := range q.Filters {
			v := e.Item(f.Key)
			passes = passes && v != nil && v.Equal(&f.Value)
		}
		if passes {
			out = append(out, show(&e))
		}
	}
	return out
}

// checkList lists the series by name, in pages.
func (m *model) checkList(t *rapid.T, s timeseries.Store) {
	q := timeseries.ListQuery{Partition: 1, Limit: rapid.IntRange(1, 3).Draw(t, "list limit")}
	if rapid.Bool().Draw(t, "list interval") {
		q.HasInterval, q.Start, q.End = true, 0, time.Hour.Microseconds()
	}
	var want, got []string
	for name, events := range m.events {
		first, last := int64(math.MaxInt64), int64(math.MinInt64)
		for p := range events {
			if at := timeOfPlace(p); !q.HasInterval || at >= q.Start && at < q.End {
				first, last = min(first, at), max(last, at)
			}
		}
		if first <= last {
			want = append(want, fmt.Sprintf("%q %d %d", name, first, last))
		}
	}
	slices.Sort(want)
	for {
		list, more, err := s.List(t.Context(), &q)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			got = append(got, fmt.Sprintf("%q %d %d", x.Name, x.First, x.Last))
			q.Above = x.Name
		}
		if !more {
			break
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Fatalf("series are %q, not %q", got, want)
	}
}

// checkSearch searches all series in pages, newest and oldest first.
func (m *model) checkSearch(t *rapid.T, s timeseries.Store) {
	hour := time.Hour.Microseconds()
	q := timeseries.SearchQuery{Where: conditionOf(t, 2)}
	q.Partition, q.Start, q.End, q.Oldest = 1, rapid.SampledFrom([]int64{math.MinInt64, -hour, 0}).Draw(t, "search from"), hour, rapid.Bool().Draw(t, "search oldest")
	q.Limit, q.MaxBytes = rapid.IntRange(1, 9).Draw(t, "search limit"), rapid.SampledFrom([]int{1, 200, 1 << 20}).Draw(t, "search bytes")
	var want []timeseries.Event
	m.each(func(e *timeseries.Event) {
		if e.Time >= q.Start && e.Time < q.End && q.Where.Match(e) {
			want = append(want, *e)
		}
	})
	slices.SortFunc(want, func(a, b timeseries.Event) int {
		c := timeseries.PlaceOf(&a).Compare(timeseries.PlaceOf(&b))
		if q.Oldest {
			return -c
		}
		return c
	})
	at := 0
	for {
		f, err := s.Search(t.Context(), &q)
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.Events {
			if at == len(want) || string(f.Events[i].Series)+show(&f.Events[i]) != string(want[at].Series)+show(&want[at]) {
				t.Fatalf("event %d of the search is %q %s; want %d events", at, f.Events[i].Series, show(&f.Events[i]), len(want))
			}
			at++
		}
		if q.Behind = f.Next; f.Next == nil {
			break
		}
		if len(f.Events) == 0 {
			t.Fatal("an empty page of a search is not the last")
		}
	}
	if at != len(want) {
		t.Fatalf("the search found %d events, want %d", at, len(want))
	}
}

// checkAggregate counts the events that meet a condition, and sums an item.
func (m *model) checkAggregate(t *rapid.T, s timeseries.Store) {
	hour := time.Hour.Microseconds()
	q := timeseries.AggregateQuery{Where: conditionOf(t, 2), Partition: 1, Start: rapid.SampledFrom([]int64{math.MinInt64, -hour, 0}).Draw(t, "aggregate from"), End: hour}
	spec := &timeseries.GroupSpec{Limit: 1, Aggregations: []timeseries.Aggregation{{Op: timeseries.Count}, {Op: timeseries.Sum, Key: []byte("k")}}}
	if rapid.Bool().Draw(t, "some keys") { // all that the conditions and the sum may name
		q.Keys = [][]byte{[]byte("k"), []byte("l"), []byte("m")}
	}
	want, got := timeseries.NewGroups(spec), timeseries.NewGroups(spec)
	m.each(func(e *timeseries.Event) {
		if e.Time >= q.Start && e.Time < q.End && q.Where.Match(e) {
			if err := want.Add(e); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err := s.Aggregate(t.Context(), &q, got); err != nil {
		t.Fatal(err)
	}
	if a, b := valuesOf(got), valuesOf(want); a != b {
		t.Fatalf("an aggregate is %s, not %s", a, b)
	}
}

func valuesOf(g *timeseries.Groups) (out string) {
	for _, group := range g.All() {
		for i := range 2 {
			v, ok := g.Value(group, i)
			out += fmt.Sprintln(v, ok)
		}
	}
	return out
}

// each calls f with every event.
func (m *model) each(f func(e *timeseries.Event)) {
	for series, events := range m.events {
		for p, items := range events {
			e := timeseries.Event{Series: []byte(series), Time: timeOfPlace(p), ID: []byte(p[21:])}
			for k, v := range items {
				e.Items = append(e.Items, timeseries.Item{Key: []byte(k), Value: v})
			}
			e.SortItems()
			f(&e)
		}
	}
}

func conditionOf(t *rapid.T, depth int) *timeseries.Condition {
	c := &timeseries.Condition{Key: []byte(rapid.SampledFrom([]string{"k", "l", "m"}).Draw(t, "condition key")), Value: valueOf(t)}
	most := timeseries.Exists
	if depth == 0 {
		c.Op = timeseries.CondOp(rapid.IntRange(int(timeseries.Equals), int(most)).Draw(t, "leaf"))
	} else {
		c.Op = timeseries.CondOp(rapid.IntRange(int(timeseries.And), int(most)).Draw(t, "op"))
	}
	switch c.Op {
	case timeseries.And, timeseries.Or, timeseries.Not:
		for range 2 {
			c.Kids = append(c.Kids, *conditionOf(t, depth-1))
		}
	case timeseries.Range:
		if v := valueOf(t); rapid.Bool().Draw(t, "lower") {
			c.Lower = &v
		}
		if v := valueOf(t); rapid.Bool().Draw(t, "upper") {
			c.Upper = &v
		}
		c.LowerExclusive, c.UpperInclusive = rapid.Bool().Draw(t, "exclusive"), rapid.Bool().Draw(t, "inclusive")
	case timeseries.Equals, timeseries.Prefix, timeseries.Exists:
	}
	return c
}
