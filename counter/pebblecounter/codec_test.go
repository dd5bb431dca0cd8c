package pebblecounter

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// everything commits one of each kind of row.
func everything(t testing.TB, s *Store) {
	b := s.Begin(1)
	row := benchRow(7)
	row.Fixed, row.ExpiresAt, row.Held, row.LastEvent = true, 1<<50, 3, wal.NoOffset
	b.SaveCounter([]byte("counter"), &row)
	row.Open = []counter.OpenBucket{{Start: -1, Bucket: counter.Bucket{Lo: 1, Hi: -1 << 63, Adds: 2}}, {}}
	row.Value = -5
	b.SaveCounter([]byte{}, &row)
	b.AddWindow(0x0102030405060708, 3600e9, -60*minute, counter.Bucket{Lo: 300, Adds: 2})
	b.AddWindow(0x0102030405060708, 3600e9, 60*minute, counter.Bucket{Lo: 1 << 63, Adds: 1})
	b.AddBase(9, counter.Base{Cleared: true, Sum: -3, Events: 4})
	b.Retire(9, 100)
	b.Retire(10, 7)
	b.SaveEvents(0x0a0b0c, []byte("events"))
	b.SaveToken(&counter.TokenEntry{ID: wal.TokenID{0xcc}, Hash: wal.Hash{0xdd}, Offset: 7, LogTime: 1 << 40, AcceptedAt: 3, Time: 1<<40 + 5, Outcome: counter.Applied})
	b.SaveToken(&counter.TokenEntry{ID: wal.TokenID{0xcd}, LogTime: 1 << 40, AcceptedAt: 1 << 40, Time: 1 << 40, Outcome: counter.Rejected, Value: -9, Held: 8, AppliedDelta: 300, Violation: counter.AtFloor, ExpiresAt: 1 << 41, Ended: counter.Expired})
	b.SaveReservation(&counter.Reservation{ID: wal.TokenID{0xaa}, Counter: []byte("counter"), Amount: 3, ExpiresAt: 1 << 41, State: counter.Held})
	b.SaveReservation(&counter.Reservation{ID: wal.TokenID{0xab}, Counter: []byte("counter"), Amount: 4, ExpiresAt: 1 << 41, State: counter.Cancelled, EndedAt: 1 << 40})
	b.SaveParked(&consumers.ParkedChange{Op: consumers.ParkedBegin, Key: []byte("parked"), Head: consumers.ParkedHead{Reason: "poison", Attempts: 3, At: 8, LogTime: 9}})
	b.SaveParked(&consumers.ParkedChange{Op: consumers.ParkedAdd, Key: []byte("parked"), Ref: wal.Ref{Partition: 1, Offset: 7, Index: wal.WholeRecord}})
	b.SaveException(7, []byte("exception"))
	st := counter.State{State: consumers.State{Applied: 7, LogTime: 1 << 40, MaxTime: 1<<40 + 5}, Folded: wal.NoOffset, Expiring: true}
	if err := b.Commit(context.Background(), st); err != nil {
		t.Fatal(err)
	}
	// One of the retired ids to where it waits for the fold.
	if _, err := s.Sweep(context.Background(), &counter.SweepRequest{Partition: 1, Limit: 1}); err != nil {
		t.Fatal(err)
	}
}

// TestFormatIsAsWrittenDown compares every row with the bytes of the first
// release: a change of the format must be meant.
func TestFormatIsAsWrittenDown(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, small(vfs.NewMem(), 2))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	everything(t, s)
	var b strings.Builder
	if err := eachRow(s, func(k, v []byte) { b.WriteString(hex.EncodeToString(k) + " " + hex.EncodeToString(v) + "\n") }); err != nil {
		t.Fatal(err)
	}
	const name = "testdata/rows.golden"
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o750), os.WriteFile(name, []byte(b.String()), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("rows are\n%swant\n%s", b.String(), want)
	}
}

func eachRow(s *Store, f func(k, v []byte)) error {
	it, err := s.DB.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		f(it.Key(), it.Value())
	}
	return errors.Join(it.Error(), it.Close())
}

// TestUnreadableRowsAreCorruption puts rows that this package never writes, and
// expects each read to say so and the store to stop.
func TestUnreadableRowsAreCorruption(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	id := wal.TokenID{1}
	name := []byte("name")
	at := func(key []byte) func(*Store, []byte) error {
		return func(s *Store, v []byte) error { return s.DB.Set(key, v, pebble.NoSync) }
	}
	merged := func(key []byte) func(*Store, []byte) error {
		return func(s *Store, v []byte) error {
			return errors.Join(s.DB.Merge(key, v, pebble.NoSync), s.DB.Merge(key, v, pebble.NoSync))
		}
	}
	snap := func(do func(counter.Snapshot) error) func(*Store) error {
		return func(s *Store) error {
			v, err := s.Snapshot(ctx, 0)
			if err != nil {
				return err
			}
			return errors.Join(do(v), v.Close())
		}
	}
	windows := snap(func(v counter.Snapshot) error {
		return v.Windows(1, 60e9, -1, 1, func(int64, counter.Bucket) bool { return true })
	})
	base := snap(func(v counter.Snapshot) error { _, err := v.Base(1); return err })
	counters := func(s *Store) error {
		return s.Counters(ctx, 0, [][]byte{name, {1}}, make([]counter.Row, 2), make([]bool, 2))
	}
	sweep := func(s *Store) error {
		_, err := s.Sweep(ctx, &counter.SweepRequest{Limit: 10})
		return err
	}
	held := func(s *Store) error {
		return s.HeldReservations(ctx, 0, func(*counter.Reservation) error { return nil })
	}
	for what, c := range map[string]struct {
		put  func(*Store, []byte) error
		read func(*Store) error
	}{
		"counter": {at(appendCounterKey(nil, 0, name)), counters},
		"one counter": {at(appendCounterKey(nil, 0, name)), func(s *Store) error {
			return s.Counters(ctx, 0, [][]byte{name}, make([]counter.Row, 1), make([]bool, 1))
		}},
		"a counter listed": {at(appendCounterKey(nil, 0, name)), snap(func(v counter.Snapshot) error {
			return v.List(nil, nil, func([]byte, *counter.Row) bool { return true })
		})},
		"a counter viewed": {at(appendCounterKey(nil, 0, name)), snap(func(v counter.Snapshot) error { _, _, err := v.Counter(name); return err })},
		"window":           {at(appendWindowKey(nil, 0, 1, 60, 0)), windows},
		"window merged":    {merged(appendWindowKey(nil, 0, 1, 60, 0)), windows},
		"base":             {at(appendIDKey(nil, tableBase, 0, 1)), base},
		"base merged":      {merged(appendIDKey(nil, tableBase, 0, 1)), base},
		"reservation":      {at(appendTokenKey(nil, tableHeld, 0, &id)), func(s *Store) error { _, _, err := s.Reservation(ctx, 0, id); return err }},
		"held":             {at(appendTokenKey(nil, tableHeld, 0, &id)), held},
		"key of a held":    {at(pebblestore.AppendTable(nil, tableHeld, 0)), held},
		"ended":            {at(appendTokenKey(nil, tableEnded, 0, &id)), sweep},
		"retired":          {at(appendIDKey(nil, tableRetired, 0, 1)), sweep},
		"key of a retired": {at(pebblestore.AppendTable(nil, tableRetired, 0)), sweep},
		"parked":           {at(append(pebblestore.AppendTable(nil, pebblestore.TableParked, 0), name...)), func(s *Store) error { _, err := s.Parked(ctx, 0); return err }},
		"state viewed":     {at(pebblestore.StateKey(0)), snap(func(counter.Snapshot) error { return nil })},
	} {
		for form, v := range map[string][]byte{"empty": {}, "short": pebblestore.AppendVersion(nil), "of a later version": {2, 0, 0, 0}} {
			if what == "parked" && form == "short" {
				v = append(v, 0)
			}
			t.Run(what+" "+form, func(t *testing.T) {
				t.Parallel()
				told := make(chan error, 1)
				cfg := small(vfs.NewMem(), 1)
				cfg.OnFail = func(err error) { told <- err }
				s := mustOpen(t, cfg)
				if err := c.put(s, v); err != nil {
					t.Fatal(err)
				}
				if err := c.read(s); !errors.Is(err, wal.ErrCorrupt) {
					t.Fatalf("read: %v, want ErrCorrupt", err)
				}
				if err := <-told; !errors.Is(err, wal.ErrCorrupt) {
					t.Errorf("OnFail: %v", err)
				}
				if err := s.Begin(0).Commit(ctx, counter.State{}); !errors.Is(err, wal.ErrCorrupt) {
					t.Errorf("commit after it: %v", err)
				}
				if err := s.Close(); !errors.Is(err, wal.ErrCorrupt) {
					t.Errorf("close after it: %v", err)
				}
			})
		}
	}
}

// TestABatchRefusesWhatItCannotKeep: the error is Commit's, and nothing of the
// batch is there.
func TestABatchRefusesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, small(vfs.NewMem(), 1))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	for name, do := range map[string]func(counter.Batch){
		"a window of half a second": func(b counter.Batch) { b.AddWindow(1, 5e8, 0, counter.Bucket{}) },
		"a window of nothing":       func(b counter.Batch) { b.AddWindow(1, 0, 0, counter.Bucket{}) },
		"a window of a century":     func(b counter.Batch) { b.AddWindow(1, 1<<62, 0, counter.Bucket{}) },
		"events of no record":       func(b counter.Batch) { b.SaveEvents(wal.NoOffset, nil) },
		"a reservation in no state": func(b counter.Batch) { b.SaveReservation(&counter.Reservation{}) },
	} {
		b := s.Begin(0)
		b.SaveCounter([]byte("a"), &counter.Row{})
		do(b)
		if err := b.Commit(context.Background(), counter.State{}); err == nil {
			t.Errorf("%s: no error", name)
		}
		var row [1]counter.Row
		var found [1]bool
		if err := s.Counters(context.Background(), 0, [][]byte{[]byte("a")}, row[:], found[:]); err != nil || found[0] {
			t.Errorf("%s: part of the batch is there: %v", name, err)
		}
	}
}

func FuzzDecoders(f *testing.F) {
	s := mustOpen(f, small(vfs.NewMem(), 2))
	everything(f, s)
	if err := errors.Join(eachRow(s, func(_, v []byte) { f.Add(bytes.Clone(v)) }), s.Close()); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add(append([]byte{1, 0}, bytes.Repeat([]byte{0xff}, 40)...))
	f.Fuzz(func(t *testing.T, v []byte) {
		corrupt := func(what string, err error) bool {
			if err != nil && !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("%s %x: %v", what, v, err)
			}
			return err != nil
		}
		same := func(what string, a, b any, err error) {
			if err != nil || !reflect.DeepEqual(a, b) {
				t.Errorf("%s %x: %+v, encoded again %+v %v", what, v, a, b, err)
			}
		}
		var row, row2 counter.Row
		if !corrupt("row", rowcodec.DecodeRow(v, &row)) {
			err := rowcodec.DecodeRow(rowcodec.AppendRow(nil, &row), &row2)
			same("row", row, row2, err)
		}
		if w, err := rowcodec.DecodeWindow(v); !corrupt("window", err) {
			w2, err := rowcodec.DecodeWindow(rowcodec.AppendWindow(nil, &w))
			same("window", w, w2, err)
		}
		if b, err := decodeBase(v); !corrupt("base", err) {
			b2, err := decodeBase(appendBase(nil, &b))
			same("base", b, b2, err)
		}
		n := wal.TokenID{7}
		if e, err := decodeToken(n, v); !corrupt("token", err) {
			e2, err := decodeToken(n, appendToken(nil, &e))
			same("token", e, e2, err)
		}
		if r, err := rowcodec.DecodeReservation(n, v); !corrupt("reservation", err) {
			r2, err := rowcodec.DecodeReservation(n, rowcodec.AppendReservation(nil, &r))
			same("reservation", r, r2, err)
		}
		var st, st2 counter.State
		if rest, err := decodeState(v, &st); !corrupt("state", err) {
			rest2, err := decodeState(append(appendState(nil, &st), rest...), &st2)
			same("state", st, st2, err)
			same("state", len(rest), len(rest2), err)
		}
		_, err := decodeRetired(v)
		corrupt("retired", err)
	})
}
