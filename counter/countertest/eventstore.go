package countertest

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// EventsHarness is how the suite of event stores gets at an implementation. The suite closes
// nothing.
type EventsHarness struct {
	// Open returns a new, empty store.
	Open func(t testing.TB, partitions int) counter.EventStore
	// Reopen returns a store over the same events.
	Reopen func(t testing.TB, s counter.EventStore) counter.EventStore
}

// RunEvents runs the contract of event stores.
func RunEvents(t *testing.T, h EventsHarness) {
	t.Run("sums are those of a plain pass, copies or not", func(t *testing.T) { eventSums(t, h) })
	t.Run("events are folded oldest first, each once", func(t *testing.T) { eventFolds(t, h) })
	t.Run("stores and partitions are apart", func(t *testing.T) { eventsApart(t, h) })
	t.Run("a store without events sums to nothing", func(t *testing.T) { noEvents(t, h) })
}

// plainEvents are the events of a partition, record by record.
type plainEvents struct {
	rows   []counter.EventRow
	names  [][]string
	events [][]counter.Event
}

const eventsDay = 24 * 3600 * 1_000_000 // microseconds

// randomEvents are records of some lives, over several days.
func randomEvents(rng *rand.Rand, records int) *plainEvents {
	m := &plainEvents{}
	last := make(map[uint64]wal.Offset)
	logTime, o := int64(1_700_000_000_000_000), wal.Offset(rng.IntN(3))
	deltas := []int64{1, 1, 1, -1, 5, 0, math.MaxInt64, math.MinInt64, -7}
	for range records {
		row := counter.EventRow{Offset: o, LogTime: logTime, AcceptedAt: logTime - rng.Int64N(5)}
		row.Nonce[0], row.Nonce[15] = byte(o), 7
		var names []string
		var events []counter.Event
		for range 1 + rng.IntN(4) {
			id := uint64(rng.IntN(6))<<58 + 1
			e := counter.Event{ID: id, Prev: wal.NoOffset, Delta: deltas[rng.IntN(len(deltas))], Time: row.AcceptedAt}
			if at, ok := last[id]; ok {
				e.Prev = at
			}
			switch rng.IntN(12) {
			case 0:
				e.Kind, e.Delta = counter.EventClear, 0
			case 1:
				e.Kind = counter.EventSettle
			case 2:
				e.Time = rng.Int64N(5 * eventsDay)
			}
			last[id] = o
			events, names = append(events, e), append(names, fmt.Sprintf("it's %d'); DROP TABLE x; --\x00\xff", id))
		}
		m.rows, m.names, m.events = append(m.rows, row), append(m.names, names), append(m.events, events)
		o += wal.Offset(1 + rng.IntN(3))
		logTime += rng.Int64N(eventsDay / 20)
	}
	return m
}

// save writes the records from <= i < to, cut into blocks.
func (m *plainEvents) save(t testing.TB, rng *rand.Rand, s counter.EventStore, p wal.Partition, from, to int) {
	t.Helper()
	for from < to {
		b := &counter.EventBlock{}
		for n := 1 + rng.IntN(40); n > 0 && from < to; n-- {
			b.Add(&m.rows[from], m.names[from], m.events[from])
			from++
		}
		if err := s.SaveEvents(bg, p, b); err != nil {
			t.Fatal(err)
		}
	}
}

// sum is what the events of a life in after < record <= upTo come to. A recount does not count those
// before a clear.
func (m *plainEvents) sum(id uint64, after, upTo wal.Offset, recount bool) (b counter.Base) {
	m.each(after, upTo, func(_ *counter.EventRow, e *counter.Event) {
		if e.ID == id {
			if e.Kind == counter.EventClear && recount {
				b.Events = 0
			}
			b.Merge(counter.Base{Cleared: e.Kind == counter.EventClear, Sum: e.Delta, Events: 1})
		}
	})
	return b
}

func (m *plainEvents) each(after, upTo wal.Offset, f func(*counter.EventRow, *counter.Event)) {
	for i := range m.rows {
		if o := m.rows[i].Offset; o > after && o <= upTo {
			for j := range m.events[i] {
				f(&m.rows[i], &m.events[i][j])
			}
		}
	}
}

func (m *plainEvents) last() wal.Offset { return m.rows[len(m.rows)-1].Offset }

func eventSums(t *testing.T, h EventsHarness) {
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := randomEvents(rng, 150)
		s := h.Open(t, 1)
		m.save(t, rng, s, 0, 0, 100)
		m.save(t, rng, s, 0, 30, 120) // a crash before the store had them, and other blocks
		s = h.Reopen(t, s)
		m.save(t, rng, s, 0, 90, 150)
		for range 25 {
			id := uint64(rng.IntN(7))<<58 + 1
			after, upTo := wal.Offset(rng.Int64N(int64(m.last())))-1, wal.Offset(rng.Int64N(int64(m.last())+3))
			if rng.IntN(3) == 0 {
				after = wal.NoOffset
			}
			got, err := s.SumEvents(bg, 0, id, after, upTo)
			if want := m.sum(id, after, upTo, true); err != nil || got != want {
				t.Fatalf("seed %d: events of %d in %d..%d: %+v %v, want %+v", seed, id, after, upTo, got, err, want)
			}
			m.checkBuckets(t, rng, s, id, after, upTo)
		}
	}
}

func (m *plainEvents) checkBuckets(t *testing.T, rng *rand.Rand, s counter.EventStore, id uint64, after, upTo wal.Offset) {
	t.Helper()
	size := []int64{1_000_000, 3_600_000_000, eventsDay, 7_000_001}[rng.IntN(4)]
	from := rng.Int64N(3 * eventsDay)
	to := from + rng.Int64N(3*eventsDay)
	if rng.IntN(2) == 0 {
		to = math.MaxInt64
	}
	want, got := make(map[int64]counter.Bucket), make(map[int64]counter.Bucket)
	m.each(after, upTo, func(_ *counter.EventRow, e *counter.Event) {
		if e.ID == id && e.Kind != counter.EventClear && e.Time >= from && e.Time < to {
			b := want[e.Time-e.Time%size]
			b.Add(e.Delta)
			want[e.Time-e.Time%size] = b
		}
	})
	req := &counter.BucketRequest{ID: id, After: after, UpTo: upTo, From: from, To: to, Size: size}
	err := s.BucketEvents(bg, 0, req, func(start int64, b counter.Bucket) { got[start] = b })
	if err != nil || !maps.Equal(got, want) {
		t.Fatalf("spans of %d of %d in %d..%d: %+v %v, want %+v", size, id, from, to, got, err, want)
	}
}

func eventFolds(t *testing.T, h EventsHarness) {
	rng := rand.New(rand.NewPCG(3, 1))
	m := randomEvents(rng, 200)
	s := h.Open(t, 1)
	m.save(t, rng, s, 0, 0, 200)
	m.save(t, rng, s, 0, 50, 150)
	folded := wal.NoOffset
	for round := range 1000 {
		before := m.rows[min(len(m.rows)-1, 10*round+5)].LogTime // falls into the middle of a record's neighbours
		req := &counter.FoldRequest{After: folded, UpTo: m.rows[min(len(m.rows)-1, 12*round)].Offset, Before: before, Limit: 1 + rng.IntN(60)}
		got, err := s.FoldEvents(bg, 0, req)
		if err != nil {
			t.Fatal(err)
		}
		may := folded
		m.each(folded, req.UpTo, func(r *counter.EventRow, _ *counter.Event) {
			if r.LogTime < before {
				may = r.Offset
			}
		})
		if got.UpTo == wal.NoOffset {
			if may != folded {
				t.Fatalf("nothing is folded above %d, and up to %d may be", folded, may)
			}
			if folded == m.rows[len(m.rows)-2].Offset {
				break
			}
			continue
		}
		if got.UpTo <= folded || got.UpTo > may || got.UpTo < may && !got.More {
			t.Fatalf("folded from %d to %d, up to %d may be; more %t", folded, got.UpTo, may, got.More)
		}
		want := make(map[uint64]counter.Base)
		m.each(folded, got.UpTo, func(_ *counter.EventRow, e *counter.Event) {
			want[e.ID] = m.sum(e.ID, folded, got.UpTo, false)
		})
		if !maps.Equal(got.Bases, want) {
			t.Fatalf("folded %d to %d: %+v, want %+v", folded, got.UpTo, got.Bases, want)
		}
		folded = got.UpTo
		if rng.IntN(3) == 0 {
			if err := s.DropEvents(bg, 0, folded); err != nil {
				t.Fatal(err)
			}
		}
	}
	if folded != m.rows[len(m.rows)-2].Offset {
		t.Fatalf("folded up to %d and not to %d", folded, m.rows[len(m.rows)-2].Offset)
	}
	m.checkAbove(t, s, 0, folded)
}

// checkAbove looks at the sums of each life above after.
func (m *plainEvents) checkAbove(t *testing.T, s counter.EventStore, p wal.Partition, after wal.Offset) {
	t.Helper()
	for i := range uint64(7) {
		id := i<<58 + 1
		if got, err := s.SumEvents(bg, p, id, after, m.last()); err != nil || got != m.sum(id, after, m.last(), true) {
			t.Fatalf("partition %d: events of %d above %d: %+v %v, want %+v", p, id, after, got, err, m.sum(id, after, m.last(), true))
		}
	}
}

func eventsApart(t *testing.T, h EventsHarness) {
	rng := rand.New(rand.NewPCG(4, 1))
	a, b := h.Open(t, 3), h.Open(t, 3)
	all := []*plainEvents{randomEvents(rng, 20), randomEvents(rng, 30), randomEvents(rng, 40)}
	all[0].save(t, rng, a, 0, 0, 20)
	all[1].save(t, rng, a, 2, 0, 30)
	all[2].save(t, rng, b, 2, 0, 40)
	if err := a.DropEvents(bg, 0, all[0].last()); err != nil {
		t.Fatal(err)
	}
	all[1].checkAbove(t, a, 2, wal.NoOffset)
	all[2].checkAbove(t, b, 2, wal.NoOffset)
	for _, s := range []counter.EventStore{a, b} {
		if got, err := s.SumEvents(bg, 1, 1, wal.NoOffset, math.MaxInt64); err != nil || got != (counter.Base{}) {
			t.Fatalf("a partition without events: %+v %v", got, err)
		}
	}
}

func noEvents(t *testing.T, h EventsHarness) {
	s := h.Open(t, 1)
	if err := s.SaveEvents(bg, 0, &counter.EventBlock{}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.SumEvents(bg, 0, 1, wal.NoOffset, 100); err != nil || got != (counter.Base{}) {
		t.Fatalf("%+v %v", got, err)
	}
	f, err := s.FoldEvents(bg, 0, &counter.FoldRequest{After: wal.NoOffset, UpTo: 100, Before: math.MaxInt64, Limit: 10})
	if err != nil || f.UpTo != wal.NoOffset || f.More || len(f.Bases) != 0 {
		t.Fatalf("fold: %+v %v", f, err)
	}
	if err := s.DropEvents(bg, 0, 100); err != nil {
		t.Fatal(err)
	}
	var spans []int64
	req := &counter.BucketRequest{ID: 1, After: wal.NoOffset, UpTo: 100, To: math.MaxInt64, Size: 60}
	err = s.BucketEvents(bg, 0, req, func(start int64, _ counter.Bucket) { spans = append(spans, start) })
	if err != nil || !slices.Equal(spans, nil) {
		t.Fatalf("%v %v", spans, err)
	}
}
