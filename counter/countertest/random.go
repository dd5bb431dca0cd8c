package countertest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var randomCases = []testCase{
	{"random batches, sweeps and reopens answer as the model does", randomProgram},
	{"after a crash a store is as of some commit, and of the last sync at least", randomCrashes},
}

const programPartitions = 2

// Program writes random batches to the two partitions of a store and their
// models.
type Program struct {
	Store  counter.Store
	Models [programPartitions]*Model
	// History is the models as of each commit, from before the first.
	History [programPartitions][]*Model

	cursor [programPartitions][]byte
	tokens int
}

// NewProgram returns a program over a store that is empty.
func NewProgram(s counter.Store) *Program {
	g := &Program{Store: s}
	for p := range g.Models {
		g.Models[p] = NewModel()
		g.History[p] = []*Model{NewModel()}
	}
	return g
}

// Commit applies one random batch to store and model.
func (g *Program) Commit(t *rapid.T) error {
	p := rapid.IntRange(0, programPartitions-1).Draw(t, "partition")
	m := g.Models[p]
	st := m.State()
	st.Applied++
	st.LogTime += rapid.Int64Range(0, 3*second).Draw(t, "log time passes")
	b := g.Store.Begin(wal.Partition(p))
	defer b.Abort()
	for range rapid.IntRange(0, 6).Draw(t, "changes") {
		do := g.change(t, m, &st)
		do(b)
		do(m)
	}
	m.SetState(st)
	g.History[p] = append(g.History[p], m.Clone())
	return b.Commit(bg, st)
}

func (g *Program) change(t *rapid.T, m *Model, st *counter.State) func(w changes) {
	name := []byte(rapid.SampledFrom(names).Draw(t, "name"))
	id := rapid.Uint64Range(1, 6).Draw(t, "id")
	small := func(what string) int64 { return rapid.Int64Range(-3, 3).Draw(t, what) }
	switch rapid.SampledFrom([]string{"save", "save", "drop", "retire", "window", "window", "base", "base", "events", "events", "drop events", "token", "reserve", "end"}).Draw(t, "op") {
	case "save":
		row := rapid.SampledFrom(rows).Draw(t, "row")
		row.Value = rapid.Int64().Draw(t, "value")
		return func(w changes) { w.SaveCounter(name, &row) }
	case "drop":
		return func(w changes) { w.DropCounter(name) }
	case "retire":
		if len(m.retired) > 2 { // leave some to be looked at
			return func(changes) {}
		}
		g.tokens++
		id = uint64(1000 + g.tokens)
		return func(w changes) { w.AddBase(id, counter.Base{Events: 1}); w.Retire(id, st.Applied) }
	case "window":
		size := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "size")
		start := small("start") * size.Microseconds()
		delta := rapid.SampledFrom([]int64{1, -1, math.MaxInt64, math.MinInt64}).Draw(t, "delta")
		return func(w changes) { w.AddWindow(id, size, start, bucketOf(delta)) }
	case "base":
		base := counter.Base{Cleared: rapid.Bool().Draw(t, "cleared"), Sum: small("sum"), Events: 1}
		return func(w changes) { w.AddBase(id, base) }
	case "events":
		row := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "row")
		return func(w changes) { w.SaveEvents(st.Applied, row) }
	case "drop events":
		st.Folded = max(st.Folded, st.Applied-wal.Offset(rapid.IntRange(0, 5).Draw(t, "kept")))
		o := st.Folded
		return func(w changes) { w.DropEvents(o) }
	case "token":
		g.tokens++
		e := token(g.tokens, st.LogTime)
		e.Offset = st.Applied
		return func(w changes) { w.SaveToken(e) }
	case "reserve":
		g.tokens++
		r := reservation(g.tokens, counter.Held)
		return func(w changes) { w.SaveReservation(r) }
	case "end":
		for _, r := range m.reservations {
			if r.State == counter.Held && r.Amount%2 == 0 {
				r.State, r.EndedAt = counter.Settled, st.LogTime
				return func(w changes) { w.SaveReservation(&r) }
			}
		}
	}
	return func(changes) {}
}

// Sweep runs one bounded sweep of a random partition.
func (g *Program) Sweep(t *rapid.T) error {
	p := rapid.IntRange(0, programPartitions-1).Draw(t, "partition")
	horizon := g.Models[p].State().LogTime - 2*second
	g.Models[p].Swept(horizon)
	for _, m := range g.History[p] { // a crash may keep the sweep and a later commit
		m.Swept(horizon)
	}
	r, err := g.Store.Sweep(bg, &counter.SweepRequest{Partition: wal.Partition(p), Horizon: horizon, Limit: rapid.IntRange(1, 10).Draw(t, "limit"), Cursor: g.cursor[p]})
	g.cursor[p] = r.Cursor
	return err
}

// CheckHistory compares a store with the models as of some commit of each
// partition, not before the one that is given.
func (g *Program) CheckHistory(s counter.Store, from [programPartitions]int) error {
	for p, history := range g.History {
		st, err := s.State(bg, wal.Partition(p))
		if err != nil {
			return err
		}
		at := int(st.Applied) + 1 // each commit is one record
		if at < from[p] || at >= len(history) {
			return fmt.Errorf("partition %d is as of commit %d, of %d to %d", p, at, from[p], len(history)-1)
		}
		if err := Check(bg, s, wal.Partition(p), history[at]); err != nil {
			return fmt.Errorf("partition %d as of commit %d of %d: %w", p, at, len(history)-1, err)
		}
	}
	return nil
}

func randomProgram(t *testing.T, h Harness) {
	rapid.Check(t, func(rt *rapid.T) {
		fail := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		g := NewProgram(h.Open(t, programPartitions))
		defer func() { fail(g.Store.Close()) }()
		var snap counter.Snapshot
		var then *Model
		rt.Repeat(map[string]func(*rapid.T){
			"commit":      func(t *rapid.T) { fail(g.Commit(t)) },
			"commit more": func(t *rapid.T) { fail(g.Commit(t)) },
			"sweep":       func(t *rapid.T) { fail(g.Sweep(t)) },
			"snapshot": func(*rapid.T) {
				if snap != nil {
					fail(CheckSnapshot(snap, then))
					fail(snap.Close())
				}
				var err error
				snap, err = g.Store.Snapshot(bg, 0)
				fail(err)
				then = g.Models[0].Clone()
			},
			"reopen": func(rt *rapid.T) {
				if rapid.IntRange(0, 3).Draw(rt, "one in four") > 0 {
					return // it takes longer than all else together
				}
				g.Store = h.Reopen(t, g.Store)
				snap = nil
			},
			"": func(*rapid.T) {
				for p, m := range g.Models {
					fail(Check(bg, g.Store, wal.Partition(p), m))
				}
			},
		})
	})
}

func randomCrashes(t *testing.T, h Harness) {
	if h.Crash == nil {
		t.Skip("the power cannot be made to fail")
	}
	rapid.Check(t, func(rt *rapid.T) {
		fail := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		g := NewProgram(h.Open(t, programPartitions))
		defer func() { fail(g.Store.Close()) }()
		var synced [programPartitions]int
		crash := func(percent int) {
			s := h.Crash(t, g.Store, percent, rapid.Uint64().Draw(rt, "seed"))
			fail(g.CheckHistory(s, synced))
			s = h.Reopen(t, s) // recovery itself loses nothing
			fail(g.CheckHistory(s, synced))
			fail(s.Close())
		}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"commit", "commit", "commit", "sweep", "sync", "crash"}).Draw(rt, "step") {
			case "commit":
				fail(g.Commit(rt))
			case "sweep":
				fail(g.Sweep(rt))
			case "sync":
				durable, err := g.Store.Sync(bg)
				fail(err)
				for p, m := range g.Models {
					if durable[wal.Partition(p)] != m.State().Applied {
						rt.Fatalf("synced at %v, partition %d is at %d", durable, p, m.State().Applied)
					}
					synced[p] = len(g.History[p]) - 1
				}
				crash(0)
			case "crash":
				crash(rapid.IntRange(0, 100).Draw(rt, "percent kept"))
			}
		}
	})
}
