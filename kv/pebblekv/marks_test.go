package pebblekv

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// TestRecordsWithTombstonesAreMarked holds after every step that a record whose
// summary is stored is marked, through commits, aborts, sweeps of any size,
// sweeps that begin anew, and restarts.
func TestRecordsWithTombstonesAreMarked(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		cfg := small(vfs.NewMem(), 1)
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}()
		var cursor []byte
		now := int64(1)
		id := func() []byte { return fmt.Appendf(nil, "r%d", rapid.IntRange(0, 7).Draw(t, "id")) }
		write := func(do func(b kv.Batch, v wal.Version)) {
			now++
			b := s.Begin(0)
			do(b, wal.Version{Time: now, Nonce: nonceOf(int64(now))})
			if rapid.IntRange(0, 5).Draw(t, "abort") == 0 {
				b.Abort()
			} else if err := b.Commit(ctx, kv.State{LogTime: now, MaxTime: now}); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				write(func(b kv.Batch, v wal.Version) { b.Put(id(), v, &kv.StoredItem{Key: []byte("k")}) })
			},
			"delete record": func(t *rapid.T) {
				write(func(b kv.Batch, v wal.Version) {
					v.Class = wal.Deleted
					b.DeleteRecord(id(), v, true)
				})
			},
			"delete range": func(t *rapid.T) {
				write(func(b kv.Batch, v wal.Version) {
					v.Class = wal.Deleted
					b.DeleteRange(id(), kv.Range{Start: []byte("a"), End: []byte("z")}, v, true)
				})
			},
			"sweep": func(t *rapid.T) {
				if rapid.IntRange(0, 5).Draw(t, "anew") == 0 {
					cursor = nil
				}
				r, err := s.Sweep(ctx, &kv.SweepRequest{LogTime: now, Horizon: now - rapid.Int64Range(0, 20).Draw(t, "window"), Limit: rapid.IntRange(1, 20).Draw(t, "limit"), Cursor: cursor})
				if err != nil {
					t.Fatal(err)
				}
				cursor = r.Cursor
			},
			"restart": func(t *rapid.T) {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(cfg); err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "forget the cursor") {
					cursor = nil
				}
			},
			"": func(t *rapid.T) {
				for i := range 8 {
					id := fmt.Appendf(nil, "r%d", i)
					sum, err := s.summary(recordKey(0, id, kindSummary, 0))
					if err != nil {
						t.Fatal(err)
					}
					if sum != (summary{}) && !s.parts[0].marks.may(id) {
						t.Fatalf("record %s has tombstones, and no mark", id)
					}
				}
			},
		})
	})
}

// TestMarksAreKnown holds when a read needs not look for tombstones: from the
// start in a new store, after a round of the sweep in another.
func TestMarksAreKnown(t *testing.T) {
	ctx := context.Background()
	cfg := small(vfs.NewMem(), 1)
	s := mustOpen(t, cfg)
	commit := func(do func(b kv.Batch)) {
		t.Helper()
		b := s.Begin(0)
		do(b)
		if err := b.Commit(ctx, kv.State{}); err != nil {
			t.Fatal(err)
		}
	}
	deleted, other := []byte("deleted"), []byte("other")
	check := func(when string, wantDeleted, wantOther bool) {
		t.Helper()
		if m := &s.parts[0].marks; m.may(deleted) != wantDeleted || m.may(other) != wantOther {
			t.Errorf("%s: marks say %v and %v, want %v and %v", when, m.may(deleted), m.may(other), wantDeleted, wantOther)
		}
	}
	check("before the first commit", false, false)
	commit(func(b kv.Batch) { b.Put(other, wal.Version{Time: 1}, &kv.StoredItem{Key: []byte("k")}) })
	check("in a new store", false, false)
	commit(func(b kv.Batch) { b.DeleteRecord(deleted, wal.Version{Time: 2, Class: wal.Deleted}, true) })
	check("after a delete", true, false)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, cfg)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	commit(func(b kv.Batch) { b.Put(other, wal.Version{Time: 3}, &kv.StoredItem{Key: []byte("k")}) })
	check("after a restart", true, true)
	r := kv.SweepRequest{Limit: 1}
	for {
		res, err := s.Sweep(ctx, &r)
		if err != nil {
			t.Fatal(err)
		}
		if r.Cursor = res.Cursor; r.Cursor == nil {
			break
		}
		check("within a round", true, true)
	}
	check("after a round", true, false)
}

func TestAMarkSetGrowsWithItsRecords(t *testing.T) {
	for _, n := range []int{0, 100, 10_000, 1 << 20} {
		s := newMarkSet(n)
		for i := range n {
			s.add(uint64(i) * 0x9e3779b97f4a7c15)
		}
		wrong := 0
		for i := range 10_000 {
			if s.has(uint64(n+i) * 0x9e3779b97f4a7c15) {
				wrong++
			}
		}
		if n <= maxMarkBits/bitsForRecord && wrong > 500 {
			t.Errorf("of 10,000 records that are not marked among %d that are, %d seem to be", n, wrong)
		}
		if len(s.bits)*64 > maxMarkBits {
			t.Errorf("%d bits for %d records", len(s.bits)*64, n)
		}
	}
}
