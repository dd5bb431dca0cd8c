package pebblestore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
)

// TestAParkedQueueCostsWhatItGrows: a record that waits behind a poisonous key
// costs a row, and a change of a long queue costs what one of a short one does.
func TestAParkedQueueCostsWhatItGrows(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, pebblestore.Config{FS: vfs.NewMem(), Partitions: 1})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	const n = 5000
	key := []byte("a key of some bytes")
	ref := func(i int) wal.Ref { return wal.Ref{Offset: wal.Offset(i)} }
	commit := func(what string, rows, bytes int, changes ...consumers.ParkedChange) {
		t.Helper()
		b := s.Begin(0)
		for i := range changes {
			changes[i].Key = key
			b.SaveParked(&changes[i])
		}
		if got, size := int(b.W.Count()), b.W.Len(); got > rows || size > bytes {
			t.Errorf("%s: %d rows of %d bytes, want at most %d of %d", what, got, size, rows, bytes)
		}
		if err := b.Commit(t.Context(), state{}); err != nil {
			t.Fatal(err)
		}
	}
	all := []consumers.ParkedChange{{Op: consumers.ParkedBegin, Head: consumers.ParkedHead{Reason: "poison"}}}
	for i := range n {
		all = append(all, consumers.ParkedChange{Op: consumers.ParkedAdd, Ref: ref(i)})
	}
	commit("park and queue", n+1, 40*n, all...)
	commit("one more", 1, 100, consumers.ParkedChange{Op: consumers.ParkedAdd, Ref: ref(n)})
	commit("half of it goes", 1, 100, consumers.ParkedChange{Op: consumers.ParkedBelow, Ref: ref(n / 2)})
	commit("it is tried again", 1, 100, consumers.ParkedChange{Op: consumers.ParkedAgain, Head: consumers.ParkedHead{Reason: "still", Attempts: 2}})
	q, err := s.Parked(t.Context(), 0)
	if err != nil || len(q) != 1 || len(q[0].Refs) != n/2+1 || q[0].Refs[0] != ref(n/2) || q[0].Refs[n/2] != ref(n) || q[0].Attempts != 2 {
		t.Fatalf("%d queues, %v", len(q), err)
	}
	commit("it goes", 2, 150, consumers.ParkedChange{Op: consumers.ParkedGone})
	if q, err := s.Parked(t.Context(), 0); err != nil || len(q) != 0 {
		t.Errorf("%d queues, %v", len(q), err)
	}
}

// TestRowsOfAQueueThatDoNotBelongTogetherAreDamage.
func TestRowsOfAQueueThatDoNotBelongTogetherAreDamage(t *testing.T) {
	t.Parallel()
	add := func(key string) consumers.ParkedChange {
		return consumers.ParkedChange{Op: consumers.ParkedAdd, Key: []byte(key)}
	}
	begin := func(key string) consumers.ParkedChange { return consumers.ParkedChange{Key: []byte(key)} }
	for i, changes := range [][]consumers.ParkedChange{
		{begin("a")},                                 // a queue without records
		{add("a")},                                   // a record without its queue
		{begin("a"), add("a"), begin("b")},           // some order of ids
		{begin("a"), add("a"), add("b")},             //
		{begin("a"), begin("b"), add("c")},           //
		{begin("a"), add("a"), begin("b"), add("c")}, //
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			s := mustOpen(t, pebblestore.Config{FS: vfs.NewMem(), Partitions: 1})
			b := s.Begin(0)
			for i := range changes {
				b.SaveParked(&changes[i])
			}
			if err := b.Commit(t.Context(), state{}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Parked(t.Context(), 0); !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
			if err := s.Close(); !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("close: %v", err)
			}
		})
	}
	s := mustOpen(t, pebblestore.Config{FS: vfs.NewMem(), Partitions: 1})
	short := pebblestore.AppendTable(nil, pebblestore.TableParkedRef, 0)
	if err := s.DB.Set(append(short, 1, 2, 3), nil, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Parked(t.Context(), 0); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("a short key: %v, want ErrCorrupt", err)
	}
	if err := s.Close(); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("close: %v", err)
	}
}
