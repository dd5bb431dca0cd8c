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
	{"a batch shows nothing before its commit, and an aborted one never", aborted},
	{"a batch keeps nothing that it was given", batchCopies},
	{"a batch may be filled while the one before is committed", pipelined},
	{"a commit of a hundred thousand counters is whole", largeCommit},
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
		name, events := fmt.Append(nil, "name", i), fmt.Append(nil, "events", i)
		row := counter.Row{ID: uint64(i), Open: []counter.OpenBucket{{Start: minute, Bucket: bucketOf(int64(i))}}}
		e, r := token(i, 5), reservation(i, counter.Held)
		for _, w := range []changes{b, m} {
			w.SaveCounter(name, &row)
			w.SaveEvents(wal.Offset(i), events)
			w.SaveToken(e)
			w.SaveReservation(r)
		}
		given, open = append(given, name, events, r.Counter), append(open, row.Open)
		e.Hash, r.Amount = wal.Hash{1}, -1
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
