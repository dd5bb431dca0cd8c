package countertest

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// Harness is how the suite gets at an implementation.
type Harness struct {
	// Open returns a new, empty store. The suite closes it.
	Open func(t testing.TB, partitions int) counter.Store
	// Reopen closes the store and returns one over the same data.
	Reopen func(t testing.TB, s counter.Store) counter.Store
	// Crash returns a store over what is left when the power fails now, with so
	// many percent of what was not synced kept. s goes on. The suite closes both.
	// Where the power cannot be made to fail, Crash is nil and its cases are
	// skipped.
	Crash func(t testing.TB, s counter.Store, percent int, seed uint64) counter.Store
	// Lacks names the cases that the implementation cannot meet, with the reason.
	Lacks map[string]string
}

type testCase struct {
	name string
	run  func(t *testing.T, h Harness)
}

// Run runs the contract.
func Run(t *testing.T, h Harness) {
	for _, c := range slices.Concat(rowCases, sumCases, eventCases, tokenCases, batchCases, sweepCases, lifeCases, randomCases) {
		t.Run(c.name, func(t *testing.T) {
			if why := h.Lacks[c.name]; why != "" {
				t.Skip(why)
			}
			c.run(t, h)
		})
	}
}

// pair is a store and a model of each partition, written together.
type pair struct {
	t      testing.TB
	h      Harness
	s      counter.Store
	models []*Model
}

var bg = context.Background()

func open(t testing.TB, h Harness, partitions int) *pair {
	p := &pair{t: t, h: h, s: h.Open(t, partitions)}
	for range partitions {
		p.models = append(p.models, NewModel())
	}
	t.Cleanup(func() {
		if err := p.s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

// changes is what a counter.Batch and a Model have in common.
type changes interface {
	SaveCounter(name []byte, r *counter.Row)
	DropCounter(name []byte)
	Retire(id uint64, o wal.Offset)
	SaveEvents(o wal.Offset, row []byte)
	DropEvents(o wal.Offset)
	AddBase(id uint64, b counter.Base)
	SaveToken(e *counter.TokenEntry)
	SaveReservation(r *counter.Reservation)
	windows
}

// commit writes the next commit of a partition to the store and its model. do is
// called once for each.
func (p *pair) commit(part wal.Partition, do func(w changes, st *counter.State)) {
	p.t.Helper()
	m := p.models[part]
	st := m.State()
	st.Applied++
	again := st
	b := p.s.Begin(part)
	defer b.Abort()
	do(b, &st)
	do(m, &again)
	if err := b.Commit(bg, st); err != nil {
		p.t.Fatalf("commit: %v", err)
	}
	m.SetState(st)
}

func (p *pair) reopen() {
	p.t.Helper()
	p.s = p.h.Reopen(p.t, p.s)
}

// check compares everything with the models.
func (p *pair) check() {
	p.t.Helper()
	for part, m := range p.models {
		if err := Check(bg, p.s, wal.Partition(part), m); err != nil {
			p.t.Fatalf("partition %d: %v", part, err)
		}
	}
}

// checkKept compares now and after a reopen.
func (p *pair) checkKept() {
	p.t.Helper()
	p.check()
	p.reopen()
	p.check()
}

func (p *pair) snapshot(part wal.Partition) counter.Snapshot {
	p.t.Helper()
	snap, err := p.s.Snapshot(bg, part)
	if err != nil {
		p.t.Fatalf("snapshot: %v", err)
	}
	p.t.Cleanup(func() {
		if err := snap.Close(); err != nil {
			p.t.Errorf("close snapshot: %v", err)
		}
	})
	return snap
}

// bucketOf sums deltas.
func bucketOf(deltas ...int64) (b counter.Bucket) {
	for _, d := range deltas {
		b.Add(d)
	}
	return b
}

const (
	second = 1_000_000 // microseconds
	minute = 60 * second
	hour   = 60 * minute
)

// rows are some of every kind.
var rows = []counter.Row{
	{},
	{ID: 1, Value: 1, LastEvent: wal.NoOffset},
	{ID: 2, Value: -7, Held: 3, ExpiresAt: 99 * minute, Fixed: true, LastOffset: 12, LastEvent: 11},
	{ID: math.MaxUint64, Value: math.MaxInt64, Held: math.MaxInt64, ExpiresAt: math.MaxInt64, LastOffset: math.MaxInt64, LastEvent: math.MaxInt64},
	{ID: 1 << 40, Value: math.MinInt64, LastOffset: 1 << 33, LastEvent: wal.NoOffset, Open: []counter.OpenBucket{
		{Start: 1_700_000_040 * second, Bucket: bucketOf(5)},
		{},
		{Start: 1_699_999_200 * second, Bucket: bucketOf(5, -9, math.MaxInt64, math.MaxInt64, math.MaxInt64)},
	}},
	{ID: 5, Open: []counter.OpenBucket{{Start: -minute, Bucket: bucketOf(math.MinInt64, math.MinInt64)}, {Start: 0, Bucket: bucketOf(0)}}},
	{ID: 6, Open: []counter.OpenBucket{{Start: math.MinInt64, Bucket: bucketOf(1)}, {Start: math.MaxInt64, Bucket: bucketOf(2)}, {Start: 7, Bucket: bucketOf(3)}}},
	{ID: 7, Open: []counter.OpenBucket{{Start: minute, Bucket: counter.Bucket{Lo: math.MaxUint64, Hi: math.MinInt64, Adds: math.MaxInt64}}}},
	{ID: 8, Open: []counter.OpenBucket{{}, {}}},
}
