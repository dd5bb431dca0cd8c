package countertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var rowCases = []testCase{
	{"a new store is empty", emptyStore},
	{"rows are read as they were saved", rowsKept},
	{"a row is replaced, dropped, and saved again", rowReplaced},
	{"a name is any bytes", anyName},
	{"partitions are apart", partitionsApart},
	{"many counters are read at once", manyCounters},
	{"a list is in byte order, by prefix, above a name", listed},
	{"a snapshot does not change", snapshotKept},
	{"a partition that does not exist is refused", noPartition},
	{"a call whose context has ended is refused", contextEnded},
}

func emptyStore(t *testing.T, h Harness) {
	p := open(t, h, 2)
	p.checkKept()
	if r, err := p.s.Sweep(bg, &counter.SweepRequest{Horizon: math.MaxInt64, Limit: 10}); err != nil || r.Cursor != nil || r.Looked != 0 {
		t.Fatalf("sweep: %+v, %v", r, err)
	}
	if err := p.s.Counters(bg, 0, nil, nil, nil); err != nil {
		t.Fatalf("no counters: %v", err)
	}
}

func rowsKept(t *testing.T, h Harness) {
	p := open(t, h, 2)
	p.commit(1, func(w changes, _ *counter.State) {
		for i := range rows {
			w.SaveCounter(fmt.Append(nil, "row ", i), &rows[i])
		}
	})
	p.checkKept()
}

func rowReplaced(t *testing.T, h Harness) {
	p := open(t, h, 1)
	a, b := []byte("a"), []byte("b")
	for i := range rows {
		p.commit(0, func(w changes, _ *counter.State) {
			w.SaveCounter(a, &rows[i])
			w.SaveCounter(b, &rows[0])
			w.DropCounter(b)
		})
		p.check()
	}
	p.commit(0, func(w changes, _ *counter.State) { w.DropCounter(a); w.DropCounter([]byte("never was")) })
	p.checkKept()
	p.commit(0, func(w changes, _ *counter.State) { w.DropCounter(a); w.SaveCounter(a, &rows[1]) })
	p.checkKept()
}

// names are in byte order.
var names = []string{"", "\x00", "\x00\x00", "a", "a\x00", "a\x00b", "aa", "b", "b\xff", "b\xff\xff", "c", "\xff", "\xff\xff", "\xff\xff\xff"}

func save(names []string) func(w changes, st *counter.State) {
	return func(w changes, st *counter.State) {
		for i, name := range names {
			w.SaveCounter([]byte(name), &counter.Row{ID: uint64(i + 1), Value: int64(st.Applied) + 1})
		}
	}
}

func anyName(t *testing.T, h Harness) {
	p := open(t, h, 2)
	long := strings.Repeat("\xff", counter.MaxNameBytes)
	p.commit(0, save(append([]string{long, long[1:]}, names...)))
	p.commit(1, save(names[3:5]))
	p.checkKept()
}

func partitionsApart(t *testing.T, h Harness) {
	p := open(t, h, 300) // both bytes of a number
	for part := range p.models {
		if part%43 == 0 || part == 255 || part == 256 {
			p.commit(wal.Partition(part), everything(part))
		}
	}
	p.check()
	p.commit(255, func(w changes, _ *counter.State) { w.DropCounter([]byte("a")); w.DropEvents(1 << 40); w.Retire(1, 0) })
	p.sweep(255, math.MaxInt64, 1000)
	p.checkKept()
}

// everything writes one of each kind, all different for another n.
func everything(n int) func(w changes, st *counter.State) {
	return func(w changes, st *counter.State) {
		id := uint64(n + 1)
		w.SaveCounter([]byte("a"), &counter.Row{ID: id, Value: int64(n)})
		w.SaveCounter(fmt.Append(nil, "counter ", n), &rows[n%len(rows)])
		w.AddWindow(id, 60e9, int64(n)*minute, bucketOf(int64(n), 1))
		w.AddBase(id, counter.Base{Sum: int64(n), Events: 1})
		w.Retire(id+1_000_000, st.Applied)
		w.SaveEvents(wal.Offset(n), fmt.Append(nil, "events ", n))
		w.SaveToken(token(n, int64(n)*second))
		w.SaveReservation(reservation(n, counter.Held))
		w.SaveReservation(reservation(n+1_000_000, counter.Settled))
		st.LogTime, st.MaxTime, st.Folded, st.Expiring = int64(n)*second, int64(n)*2, wal.Offset(n-1), n%2 == 0
	}
}

func manyCounters(t *testing.T, h Harness) {
	p := open(t, h, 1)
	var some []string
	for i := range 3000 {
		some = append(some, fmt.Sprintf("counter-%d", i*7919%3000))
		if len(some)%500 == 0 {
			p.commit(0, save(some[len(some)-500:]))
		}
	}
	p.checkKept()
	name := []byte("counter-5")
	var row [1]counter.Row
	var found [1]bool
	for _, c := range []struct {
		name  string
		found bool
	}{{string(name), true}, {"counter-", false}, {"", false}} {
		if err := p.s.Counters(bg, 0, [][]byte{[]byte(c.name)}, row[:], found[:]); err != nil || found[0] != c.found {
			t.Fatalf("%q: %+v %v %v", c.name, row[0], found[0], err)
		}
	}
}

func listed(t *testing.T, h Harness) {
	p := open(t, h, 2)
	p.commit(0, save(names))
	p.commit(1, save(names[:4]))
	for range 2 {
		snap := p.snapshot(0)
		if !slices.IsSorted(names) {
			t.Fatal("the names of the test are not in order")
		}
		for _, limit := range []int{1, 3, math.MaxInt} {
			for _, prefix := range append([]string{"no such", "\xfe"}, names...) {
				if err := p.models[0].checkList(snap, []byte(prefix), nil, limit); err != nil {
					t.Fatal(err)
				}
				for _, after := range append([]string{"A", "bb"}, names...) {
					if err := p.models[0].checkList(snap, []byte(prefix), []byte(after), limit); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		// A page begins after the last name of the one before.
		var all []string
		after := []byte(nil)
		for done := false; !done; {
			done = true
			err := snap.List([]byte("a"), after, func(name []byte, _ *counter.Row) bool {
				all, after, done = append(all, string(name)), bytes.Clone(name), false
				return false
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if want := []string{"a", "a\x00", "a\x00b", "aa"}; !slices.Equal(all, want) {
			t.Fatalf("pages of one: %q, want %q", all, want)
		}
		if err := snap.Close(); err != nil {
			t.Fatal(err)
		}
		p.reopen()
	}
}

func snapshotKept(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, everything(1))
	p.commit(0, everything(2))
	before, snap := p.models[0].Clone(), p.snapshot(0)
	empty := p.snapshot(0)
	for n := 3; n < 40; n++ {
		p.commit(0, everything(n))
		p.commit(0, func(w changes, st *counter.State) {
			w.SaveCounter([]byte("a"), &rows[n%len(rows)])
			w.DropCounter([]byte("counter 2"))
			w.AddWindow(2, 60e9, minute, bucketOf(100))
			w.AddBase(2, counter.Base{Cleared: true, Sum: 3})
			w.DropEvents(wal.Offset(n - 1))
			w.Retire(2, 0)
			st.Folded = wal.Offset(n)
		})
		p.sweep(0, math.MaxInt64, 1000)
		if err := CheckSnapshot(snap, before); err != nil {
			t.Fatal(err)
		}
	}
	// A callback may read the snapshot that it is called by.
	err := snap.List(nil, nil, func(name []byte, r *counter.Row) bool {
		row, ok, err := snap.Counter(name)
		if err != nil || !ok || !sameRow(&row, r) {
			t.Errorf("counter %q in a callback: %+v %v %v", name, row, ok, err)
		}
		if err := CheckSnapshot(snap, before); err != nil {
			t.Error(err)
		}
		return !t.Failed()
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := empty.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	if _, _, err := empty.Counter([]byte("a")); err == nil {
		t.Error("a closed snapshot answers")
	}
	p.check()
}

func noPartition(t *testing.T, h Harness) {
	p := open(t, h, 2)
	for name, err := range reads(bg, p.s, 2) {
		if !errors.Is(err, wal.ErrNoPartition) {
			t.Errorf("%s: %v, want ErrNoPartition", name, err)
		}
	}
	p.check()
}

// reads calls everything that takes a context and a partition.
func reads(ctx context.Context, s counter.Store, p wal.Partition) map[string]error {
	errs := make(map[string]error)
	errs["Counters"] = s.Counters(ctx, p, [][]byte{{1}, {2}}, make([]counter.Row, 2), make([]bool, 2))
	errs["Counters of one"] = s.Counters(ctx, p, [][]byte{{1}}, make([]counter.Row, 1), make([]bool, 1))
	_, _, errs["Reservation"] = s.Reservation(ctx, p, tokenID(1))
	errs["HeldReservations"] = s.HeldReservations(ctx, p, func(*counter.Reservation) error { return nil })
	_, errs["Snapshot"] = s.Snapshot(ctx, p)
	_, errs["Sweep"] = s.Sweep(ctx, &counter.SweepRequest{Partition: p, Limit: 10})
	return errs
}

func contextEnded(t *testing.T, h Harness) {
	p := open(t, h, 1)
	cause := errors.New("the reason")
	ctx, cancel := context.WithCancelCause(bg)
	cancel(cause)
	errs := reads(ctx, p.s, 0)
	for name, err := range errs {
		if !errors.Is(err, cause) {
			t.Errorf("%s: %v, want the cause", name, err)
		}
	}
	p.check()
}
