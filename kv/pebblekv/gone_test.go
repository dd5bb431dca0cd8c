package pebblekv

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// pages reads all pages of a query and shows its items.
func pages(s *Store, q kv.Query) (items []string, err error) {
	for {
		page, err := s.Get(context.Background(), &q)
		if err != nil {
			return nil, err
		}
		for _, it := range page.Items {
			items = append(items, fmt.Sprintf("%s@%d", it.Key, it.Version.Time))
		}
		if !page.More {
			return items, nil
		}
		q.HasAfter, q.After = true, page.LastKey
	}
}

func drawRange(t *rapid.T) kv.Range {
	key := rapid.Custom(func(t *rapid.T) []byte { return fmt.Appendf(nil, "%02d", rapid.IntRange(0, 30).Draw(t, "key")) })
	return kv.Range{Start: key.Draw(t, "start"), End: key.Draw(t, "end"), Open: rapid.IntRange(0, 3).Draw(t, "open") == 0}
}

// TestReadsThatLeaveOutWhatIsGone compares them with reads that step over it.
func TestReadsThatLeaveOutWhatIsGone(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		s, err := Open(small(vfs.NewMem(), 1))
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}()
		g := &s.parts[0].gone
		var top int64
		commits := rapid.IntRange(1, 12).Draw(t, "commits")
		for range commits {
			b := s.Begin(0)
			for range rapid.IntRange(1, 6).Draw(t, "writes") {
				id := fmt.Appendf(nil, "r%d", rapid.IntRange(0, 1).Draw(t, "id"))
				v := wal.Version{Time: top + rapid.Int64Range(-5, 2).Draw(t, "later")}
				v.Time = max(v.Time, 1)
				newest := v.Time > top
				top = max(top, v.Time)
				switch rapid.IntRange(0, 9).Draw(t, "what") {
				case 0:
					v.Class = wal.Deleted
					b.DeleteRecord(id, v, newest)
				case 1, 2:
					v.Class = wal.Deleted
					b.DeleteRange(id, drawRange(t), v, newest)
				case 3:
					v.Class = wal.Deleted
					b.Put(id, v, &kv.StoredItem{Key: fmt.Appendf(nil, "%02d", rapid.IntRange(0, 30).Draw(t, "key"))})
				default:
					for range rapid.IntRange(1, 8).Draw(t, "items") {
						b.Put(id, v, &kv.StoredItem{Key: fmt.Appendf(nil, "%02d", rapid.IntRange(0, 30).Draw(t, "key"))})
					}
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "abort") == 0 {
				b.Abort()
			} else if err := b.Commit(ctx, kv.State{}); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 5).Draw(t, "flush") == 0 {
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			for range 4 {
				q := kv.Query{ID: fmt.Appendf(nil, "r%d", rapid.IntRange(0, 1).Draw(t, "read id")), MaxBytes: rapid.SampledFrom([]int{1, 300, 1 << 20}).Draw(t, "bytes"),
					HasRange: rapid.Bool().Draw(t, "ranged"), Range: drawRange(t), Descending: rapid.Bool().Draw(t, "descending")}
				got, err := pages(s, q)
				if err != nil {
					t.Fatal(err)
				}
				n := g.n.Swap(0) // hides them
				want, err := pages(s, q)
				g.n.Store(n)
				if err != nil {
					t.Fatal(err)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("query %+v:\nwith what is gone left out %v\nstepped over               %v", q, got, want)
				}
			}
			if len(g.order) != int(g.n.Load()) || len(g.order) > maxGone || len(g.of["r0"]) > maxGoneOfRecord || len(g.order) != len(g.of["r0"])+len(g.of["r1"]) {
				t.Fatalf("%d deletes are remembered, %d and %d of the records, %d are said", len(g.order), len(g.of["r0"]), len(g.of["r1"]), g.n.Load())
			}
		}
	})
}

// TestAReadOfADeletedRecordDoesNotCountItsItems holds that what Pebble steps over
// does not depend on what was deleted, be it freed at once or not.
func TestAReadOfADeletedRecordDoesNotCountItsItems(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Config{FS: vfs.NewMem(), Dir: "kv", Partitions: 1})
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	top := int64(0)
	commit := func(do func(b kv.Batch, v wal.Version)) {
		t.Helper()
		top++
		b := s.Begin(0)
		do(b, wal.Version{Time: top})
		if err := b.Commit(ctx, kv.State{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, flushed := range []bool{false, true} {
		for _, ranged := range []bool{false, true} {
			commit(func(b kv.Batch, v wal.Version) {
				for i := range 5000 {
					b.Put([]byte("r"), v, &kv.StoredItem{Key: fmt.Appendf(nil, "%06d", i), Value: make([]byte, 100)})
				}
			})
			if flushed {
				if err := s.db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			commit(func(b kv.Batch, v wal.Version) { // again, into the memtable
				for i := range 5000 {
					b.Put([]byte("r"), v, &kv.StoredItem{Key: fmt.Appendf(nil, "%06d", i), Value: make([]byte, 100)})
				}
			})
			commit(func(b kv.Batch, v wal.Version) {
				v.Class = wal.Deleted
				if ranged {
					b.DeleteRange([]byte("r"), kv.Range{Start: []byte("000001"), Open: true}, v, true)
				} else {
					b.DeleteRecord([]byte("r"), v, true)
				}
			})
			commit(func(b kv.Batch, v wal.Version) {
				b.Put([]byte("r"), v, &kv.StoredItem{Key: []byte("004000")})
				b.Put([]byte("r"), v, &kv.StoredItem{Key: []byte("004001")})
			})
			want := 2
			if ranged {
				want = 3
			}
			for _, descending := range []bool{false, true} {
				g := &s.parts[0].gone
				deletes := g.before([]byte("r"))
				view, err := s.recordView(0, []byte("r"))
				if err != nil {
					t.Fatal(err)
				}
				w := walk{ctx: ctx, maxBytes: 1 << 20, view: view}
				var items []kv.StoredItem
				more, err := w.stretches([]byte("r"), g.left(deletes, &kv.Range{Open: true}), descending, &items)
				if err != nil || len(items) != want || more {
					t.Fatalf("flushed %v, ranged %v: %d items, more %v, %v; want %d", flushed, ranged, len(items), more, err, want)
				}
				st := view.Stats()
				covered := st.InternalStats.PointsCoveredByRangeTombstones
				if err := view.Close(); err != nil {
					t.Fatal(err)
				}
				// One deleted key may lie on either side of each item that is found.
				if w.looked > want+2 || covered > 12 {
					t.Errorf("flushed %v, ranged %v, descending %v: %d keys were looked at, %d stepped over", flushed, ranged, descending, w.looked, covered)
				}
			}
		}
	}
}

// TestPutsBesideReadsOfWhatIsGone holds that a reader sees a group of puts whole
// that comes behind a delete while it reads.
func TestPutsBesideReadsOfWhatIsGone(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, small(vfs.NewMem(), 1))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				page, err := s.Get(ctx, &kv.Query{ID: []byte("r"), MaxBytes: 1 << 20})
				if err != nil {
					t.Error(err)
					return
				}
				if n := len(page.Items); n != 0 && (n != 3 || page.Items[0].Version != page.Items[n-1].Version || !bytes.Equal(page.Items[1].Key, []byte("m"))) {
					t.Errorf("a page has %d items: %+v", n, page.Items)
					return
				}
			}
		})
	}
	for i := range int64(3000) {
		b := s.Begin(0)
		if i%2 == 0 {
			for _, k := range []string{"a", "m", "z"} {
				b.Put([]byte("r"), wal.Version{Time: i + 1}, &kv.StoredItem{Key: []byte(k)})
			}
		} else {
			b.DeleteRecord([]byte("r"), wal.Version{Time: i + 1, Class: wal.Deleted}, true)
		}
		if err := b.Commit(ctx, kv.State{}); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
}

// TestWhatIsNotCommittedIsNotGone holds it for a delete that is on its way, and for
// one that is given up.
func TestWhatIsNotCommittedIsNotGone(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, small(vfs.NewMem(), 1))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	b := s.Begin(0)
	b.Put([]byte("r"), wal.Version{Time: 1}, &kv.StoredItem{Key: []byte("k")})
	if err := b.Commit(ctx, kv.State{}); err != nil {
		t.Fatal(err)
	}
	read := func(when string, want int) {
		t.Helper()
		if items, err := pages(s, kv.Query{ID: []byte("r"), MaxBytes: 1 << 20}); err != nil || len(items) != want {
			t.Errorf("%s: %d items, %v; want %d", when, len(items), err, want)
		}
	}
	b = s.Begin(0)
	b.DeleteRecord([]byte("r"), wal.Version{Time: 2, Class: wal.Deleted}, true)
	read("before the commit", 1)
	b.Abort()
	read("when it was given up", 1)
	b = s.Begin(0)
	b.DeleteRecord([]byte("r"), wal.Version{Time: 2, Class: wal.Deleted}, true)
	if err := b.Commit(ctx, kv.State{}); err != nil {
		t.Fatal(err)
	}
	read("after the commit", 0)
}

// TestForgottenDeletesHideNothing holds that a reader does not trust a delete that
// was forgotten after it asked: puts behind it were not noted.
func TestForgottenDeletesHideNothing(t *testing.T) {
	var g gone
	all := kv.Range{Open: true}
	del := func(id string, r kv.Range) { g.end([]*span{g.begin([]byte(id), &r)}, true) }
	for name, forget := range map[string]func(){
		"by deletes of other records": func() {
			for i := range maxGone {
				del(fmt.Sprint(i), all)
			}
		},
		"by deletes of the record": func() {
			for i := range maxGoneOfRecord {
				del("r", kv.Range{Start: []byte{byte(i)}, End: []byte{byte(i), 0}})
			}
		},
		"by one that holds it": func() { del("r", all) },
	} {
		del("r", all)
		live := g.before([]byte("r"))
		if left := g.left(live, &all); len(left) != 0 {
			t.Fatalf("%s: %v is left of what is gone", name, left)
		}
		forget()
		g.note([]byte("r"), []byte("k"))
		if left := g.left(live, &all); len(left) != 1 || !left[0].Open || len(left[0].Start) != 0 {
			t.Errorf("%s: %v is left", name, left)
		}
	}
}
