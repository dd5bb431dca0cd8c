package countertest

import (
	"fmt"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var batchCases = []testCase{
	{"the state is what the last commit said", stateKept},
	{"a batch shows nothing before its commit, and an aborted one never", aborted},
	{"a batch keeps nothing that it was given", batchCopies},
	{"a batch is used up by its commit", batchUsed},
	{"a batch may be filled while the one before is committed", pipelined},
	{"a synced offset is the last that was committed", synced},
	{"a commit of a hundred thousand counters is whole", largeCommit},
}

func stateKept(t *testing.T, h Harness) {
	p := open(t, h, 3)
	states := []counter.State{
		{State: consumers.State{Applied: 0}, Folded: wal.NoOffset, NextID: 1},
		{State: consumers.State{Applied: 1 << 62, LogTime: -1, MaxTime: 1 << 62}, NextID: 1<<64 - 1, Folded: 1 << 61, Expiring: true},
		{State: consumers.State{Applied: wal.NoOffset, LogTime: 1}, Folded: wal.NoOffset, NextID: 9},
	}
	for round := range states {
		for part := range wal.Partition(3) {
			st := states[(int(part)+round)%len(states)]
			b := p.s.Begin(part) // with nothing else in it
			if err := b.Commit(bg, st); err != nil {
				t.Fatal(err)
			}
			p.models[part].SetState(st)
			p.check()
		}
		p.checkKept()
	}
}

func aborted(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, everything(1))
	for range 3 {
		b := p.s.Begin(0)
		st := p.models[0].State()
		everything(2)(b, &st)
		b.SaveCounter([]byte("a"), &rows[4])
		b.DropEvents(1 << 40)
		p.check()
		b.Abort()
		b.Abort()
		p.check()
		if err := b.Commit(bg, st); err == nil {
			t.Fatal("an aborted batch can be committed")
		}
		if n := p.s.LiveTokens(0); n != 1 {
			t.Fatalf("%d live tokens, want 1", n)
		}
	}
	p.checkKept()
	p.commit(0, everything(3))
	p.checkKept()
}

func batchCopies(t *testing.T, h Harness) {
	p := open(t, h, 1)
	var given [][]byte
	var open [][]counter.OpenBucket
	b := p.s.Begin(0)
	m := p.models[0]
	for i := range 50 {
		name, events, key := fmt.Append(nil, "name", i), fmt.Append(nil, "events", i), fmt.Append(nil, "key", i)
		row := counter.Row{ID: uint64(i), Open: []counter.OpenBucket{{Start: minute, Bucket: bucketOf(int64(i))}}}
		e, r := token(i, 5), reservation(i, counter.Held)
		q := consumers.ParkedQueue{Key: key, Refs: []wal.Ref{{Offset: 7}}}
		for _, w := range []changes{b, m} {
			w.SaveCounter(name, &row)
			w.SaveEvents(wal.Offset(i), events)
			w.SaveToken(e)
			w.SaveReservation(r)
			w.SaveParked(&q)
		}
		given, open = append(given, name, events, key, r.Counter), append(open, row.Open)
		e.Hash, r.Amount, q.Refs[0].Offset = wal.Hash{1}, -1, 99
	}
	for _, s := range given {
		clear(s)
	}
	for _, o := range open {
		clear(o)
	}
	st := m.State()
	st.Applied = 50
	if err := b.Commit(bg, st); err != nil {
		t.Fatal(err)
	}
	m.SetState(st)
	p.checkKept()
}

func batchUsed(t *testing.T, h Harness) {
	p := open(t, h, 1)
	b := p.s.Begin(0)
	st := counter.State{State: consumers.State{Applied: 3}}
	everything(1)(b, &st)
	everything(1)(p.models[0], new(counter.State))
	if err := b.Commit(bg, st); err != nil {
		t.Fatal(err)
	}
	p.models[0].SetState(st)
	b.Abort()
	everything(2)(b, &st)
	if err := b.Commit(bg, st); err == nil {
		t.Fatal("a batch can be committed twice")
	}
	p.checkKept()
	p.commit(0, everything(3))
	p.check()
}

// pipelined fills each batch while a goroutine commits the one before, in two
// partitions at once.
func pipelined(t *testing.T, h Harness) {
	p := open(t, h, 2)
	done := make(chan error, len(p.models))
	for part := range p.models {
		go func() {
			m := p.models[part]
			var last chan error
			for n := range 200 {
				b := p.s.Begin(wal.Partition(part))
				st := m.State()
				st.Applied++
				again := st
				everything(n)(b, &st)
				b.AddBase(7, counter.Base{Cleared: n%17 == 0, Sum: int64(n)})
				everything(n)(m, &again)
				m.AddBase(7, counter.Base{Cleared: n%17 == 0, Sum: int64(n)})
				m.SetState(st)
				if last != nil {
					if err := <-last; err != nil {
						done <- err
						return
					}
				}
				last = make(chan error, 1)
				go func() {
					last <- b.Commit(bg, st)
					b.Abort()
				}()
			}
			done <- <-last
		}()
	}
	for range p.models {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	p.checkKept()
}

func synced(t *testing.T, h Harness) {
	p := open(t, h, 3)
	for n := range 10 {
		p.commit(wal.Partition(n%2), everything(n))
		got, err := p.s.Sync(bg)
		if err != nil || len(got) != 3 {
			t.Fatalf("sync: %v %v", got, err)
		}
		for part, m := range p.models {
			if got[wal.Partition(part)] != m.State().Applied {
				t.Fatalf("partition %d is synced at %d, want %d", part, got[wal.Partition(part)], m.State().Applied)
			}
		}
	}
	p.check()
}

func largeCommit(t *testing.T, h Harness) {
	n := 100_000
	if testing.Short() {
		n = 20_000
	}
	p := open(t, h, 1)
	row := rows[4]
	for round := range int64(2) {
		b := p.s.Begin(0)
		for i := range n {
			row.ID, row.Value = uint64(i), round
			b.SaveCounter(fmt.Appendf(nil, "counter-%06d", i), &row)
			b.AddWindow(uint64(i), time.Minute, 0, bucketOf(1))
		}
		if err := b.Commit(bg, counter.State{State: consumers.State{Applied: wal.Offset(round)}}); err != nil {
			t.Fatal(err)
		}
		p.reopen()
		snap := p.snapshot(0)
		i := 0
		err := snap.List(nil, nil, func(name []byte, r *counter.Row) bool {
			if string(name) != fmt.Sprintf("counter-%06d", i) || r.Value != round || r.ID != uint64(i) {
				t.Errorf("row %d is %q %+v", i, name, *r)
			}
			if i++; i%5000 == 0 {
				werr := snap.Windows(r.ID, time.Minute, 0, 1, func(_ int64, b counter.Bucket) bool {
					if b != (counter.Bucket{Lo: uint64(round) + 1, Adds: round + 1}) {
						t.Errorf("window of %q: %+v", name, b)
					}
					return true
				})
				if werr != nil {
					t.Error(werr)
				}
			}
			return !t.Failed()
		})
		if err != nil || i != n {
			t.Fatalf("%d rows, %v; want %d", i, err, n)
		}
		if err := snap.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
