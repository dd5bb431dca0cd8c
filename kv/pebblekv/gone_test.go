package pebblekv

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
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
		// Values of half a page make many blocks of a few items: bounds then lie
		// between blocks, and not only within one.
		value := make([]byte, rapid.SampledFrom([]int{0, 0, 3000}).Draw(t, "value bytes"))
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
						b.Put(id, v, &kv.StoredItem{Key: fmt.Appendf(nil, "%02d", rapid.IntRange(0, 30).Draw(t, "key")), Value: value})
					}
				}
			}
			if rapid.IntRange(0, 5).Draw(t, "abort") == 0 {
				b.Abort()
			} else if err := b.Commit(ctx, kv.State{}); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 5).Draw(t, "flush") == 0 {
				if err := s.DB.Flush(); err != nil {
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
				if err := s.DB.Flush(); err != nil {
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
				w := newWalk(ctx, 0, kv.PageLimits{MaxBytes: 1 << 20})
				w.view = view
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
				if w.Looked > want+2 || covered > 12 {
					t.Errorf("flushed %v, ranged %v, descending %v: %d keys were looked at, %d stepped over", flushed, ranged, descending, w.Looked, covered)
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

// TestWhatIsLeftIsNotGone compares left with a look at every key, over keys that
// begin with one another and ranges that overlap.
func TestWhatIsLeftIsNotGone(t *testing.T) {
	keys := []string{"", "\x00", "\x00\x00", "\x00\xff", "a", "a\x00", "a\x00\x00", "ab", "b", "\xff", "\xff\x00", "\xff\xff"}
	key := rapid.SampledFrom(keys)
	ranges := rapid.Custom(func(t *rapid.T) kv.Range {
		return kv.Range{Start: []byte(key.Draw(t, "start")), End: []byte(key.Draw(t, "end")), Open: rapid.IntRange(0, 3).Draw(t, "open") == 0}
	})
	rapid.Check(t, func(t *rapid.T) {
		var g gone
		hidden := make(map[string]bool)
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "put") {
				k := key.Draw(t, "key")
				g.note([]byte("r"), []byte(k))
				delete(hidden, k)
				continue
			}
			r := ranges.Draw(t, "deleted")
			g.end([]*span{g.begin([]byte("r"), &r)}, true)
			for _, k := range keys {
				if contains(&r, []byte(k)) {
					hidden[k] = true
				}
			}
		}
		r := ranges.Draw(t, "read")
		left := g.left(g.before([]byte("r")), &r)
		for i := range left {
			if left[i].Empty() || !within(&left[i], &r) || i > 0 && (left[i-1].Open || bytes.Compare(left[i-1].End, left[i].Start) > 0) {
				t.Fatalf("of %+v these are left: %+v", r, left)
			}
		}
		for _, k := range keys {
			is := func(l kv.Range) bool { return contains(&l, []byte(k)) }
			if contains(&r, []byte(k)) && !hidden[k] && !slices.ContainsFunc(left, is) {
				t.Fatalf("%q is not deleted, and not left of %+v: %+v", k, r, left)
			}
		}
	})
}

// TestReadsNeverGoBack holds that no reader, by a point read or by a page, sees an
// item that is older than what it, or any other, has seen of its key: with deletes
// that are the newest and late ones, sweeps that free tombstones and marks, and
// batches that are given up.
func TestReadsNeverGoBack(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, small(vfs.NewMem(), 1))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	id, key := []byte("r"), []byte("k")
	var acked atomic.Int64 // the time of the newest delete that is committed
	done := make(chan struct{})
	var wg sync.WaitGroup
	for reader := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				deleted := acked.Load()
				var seen int64
				if reader%2 == 0 {
					it, newest, ok, err := s.Item(ctx, 0, id, key, 0)
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						seen = it.Version.Time
					}
					if ok && newest != it.Version {
						t.Errorf("an item of %d, where the newest write is of %d", seen, newest.Time)
						return
					}
				} else {
					page, err := s.Get(ctx, &kv.Query{ID: id, MaxBytes: 1 << 20, Descending: reader == 1})
					if err != nil {
						t.Error(err)
						return
					}
					for _, it := range page.Items {
						if string(it.Key) == string(key) {
							seen = it.Version.Time
						}
					}
				}
				if seen != 0 && seen <= deleted {
					t.Errorf("reader %d sees an item of %d, which was deleted as of %d", reader, seen, deleted)
					return
				}
			}
		})
	}
	var cursor []byte
	rounds := 1500
	if testing.Short() {
		rounds = 300
	}
	for i := range int64(rounds) {
		at := 10 * (i + 1)
		step := func(do func(b kv.Batch), abort bool) {
			t.Helper()
			b := s.Begin(0)
			do(b)
			if abort {
				b.Abort()
			} else if err := b.Commit(ctx, kv.State{LogTime: at, MaxTime: at}); err != nil {
				t.Fatal(err)
			}
		}
		del := func(b kv.Batch, time int64, newest bool) {
			v := wal.Version{Time: time, Class: wal.Deleted}
			switch i % 3 {
			case 0:
				b.DeleteRecord(id, v, newest)
			case 1:
				b.DeleteRange(id, kv.Range{Start: []byte("k"), End: []byte("l")}, v, newest)
			default:
				b.DeleteRange(id, kv.Range{Start: []byte("a"), Open: true}, v, newest)
			}
		}
		put := func(b kv.Batch, time int64) {
			b.Put(id, wal.Version{Time: time}, &kv.StoredItem{Key: key, Value: make([]byte, 300)})
		}
		step(func(b kv.Batch) { put(b, at) }, false)
		step(func(b kv.Batch) { del(b, at+3, true) }, true)
		step(func(b kv.Batch) { del(b, at+1, true); put(b, at-1) }, false) // a put from before comes behind it
		acked.Store(at + 1)
		step(func(b kv.Batch) { put(b, at+3); put(b, at) }, false)
		step(func(b kv.Batch) { del(b, at+2, false) }, false) // late: the put stands
		if it, _, ok, err := s.Item(ctx, 0, id, key, 0); err != nil || !ok || it.Version.Time != at+3 {
			t.Fatalf("an item of %d is not found after a delete as of %d: %v", at+3, at+2, err)
		}
		step(func(b kv.Batch) { del(b, at+4, true) }, false)
		acked.Store(at + 4)
		if i%5 < 3 {
			r, err := s.Sweep(ctx, &kv.SweepRequest{LogTime: at + 6, Horizon: at + 5, Limit: 1 + int(i%4), Cursor: cursor})
			if err != nil {
				t.Fatal(err)
			}
			cursor = r.Cursor
		}
	}
	close(done)
	wg.Wait()
}

// TestADeleteStandsWhenItIsNotRemembered holds across a kill, where gone and marks
// are empty, for writes that come before and after it.
func TestADeleteStandsWhenItIsNotRemembered(t *testing.T) {
	ctx := context.Background()
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, small(mem, 1))
	commit := func(do func(b kv.Batch)) {
		t.Helper()
		b := s.Begin(0)
		do(b)
		if err := b.Commit(ctx, kv.State{}); err != nil {
			t.Fatal(err)
		}
	}
	put := func(b kv.Batch, key string, at int64) {
		b.Put([]byte("r"), wal.Version{Time: at}, &kv.StoredItem{Key: []byte(key)})
	}
	check := func(when, want string) {
		t.Helper()
		for _, descending := range []bool{false, true} {
			items, err := pages(s, kv.Query{ID: []byte("r"), MaxBytes: 1, Descending: descending})
			if descending {
				slices.Reverse(items)
			}
			if err != nil || fmt.Sprint(items) != want {
				t.Errorf("%s: a page has %v, %v; want %s", when, items, err, want)
			}
		}
		var found []string
		for i := range 10 {
			key := fmt.Appendf(nil, "%d", i)
			if it, _, ok, err := s.Item(ctx, 0, []byte("r"), key, 0); err != nil {
				t.Error(err)
			} else if ok {
				found = append(found, fmt.Sprintf("%s@%d", key, it.Version.Time))
			}
		}
		if fmt.Sprint(found) != want {
			t.Errorf("%s: %v are found, want %s", when, found, want)
		}
	}
	commit(func(b kv.Batch) {
		for i := range 10 {
			put(b, fmt.Sprint(i), 10)
		}
	})
	commit(func(b kv.Batch) {
		b.DeleteRange([]byte("r"), kv.Range{Start: []byte("2"), End: []byte("8")}, wal.Version{Time: 20, Class: wal.Deleted}, true)
		put(b, "3", 15)
		put(b, "4", 25)
	})
	check("before the kill", "[0@10 1@10 4@25 8@10 9@10]")
	if _, err := s.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		killed := mem.CrashClone(vfs.CrashCloneCfg{})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		mem = killed
		s = mustOpen(t, small(mem, 1))
		if g := &s.parts[0].gone; g.n.Load() != 0 {
			t.Fatalf("%d deletes are remembered", g.n.Load())
		}
		if n == 0 {
			check("after the kill", "[0@10 1@10 4@25 8@10 9@10]")
			commit(func(b kv.Batch) { put(b, "5", 19); put(b, "6", 21); put(b, "7", 20) })
			check("after an older and a newer put", "[0@10 1@10 4@25 6@21 8@10 9@10]")
			commit(func(b kv.Batch) {
				b.DeleteRange([]byte("r"), kv.Range{Start: []byte("4"), Open: true}, wal.Version{Time: 23, Class: wal.Deleted}, false)
			})
			if _, err := s.Sync(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if n == 1 {
			check("after a delete that came late, and another kill", "[0@10 1@10 4@25]")
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestABatchOfManyDeletesKeepsFew holds that a batch does not hold on to more
// deletes than its partition remembers, and to none when it is done.
func TestABatchOfManyDeletesKeepsFew(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, small(vfs.NewMem(), 1))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	time := int64(0)
	for _, abort := range []bool{false, true} {
		b := s.Begin(0)
		own := b.(*batch)
		for i := range 3 * maxGone {
			time++
			id, r := fmt.Appendf(nil, "r%d", i%(maxGone+100)), kv.Range{Start: fmt.Appendf(nil, "%d", i), Open: true}
			if i%2 == 0 {
				id = []byte("r")
			}
			b.DeleteRange(id, r, wal.Version{Time: time, Class: wal.Deleted}, true)
		}
		if n := len(own.gone); n > 2*maxGone {
			t.Errorf("a batch of %d deletes keeps %d", 3*maxGone, n)
		}
		if abort {
			b.Abort()
		} else if err := b.Commit(ctx, kv.State{}); err != nil {
			t.Fatal(err)
		}
		if len(own.gone) > 0 {
			t.Fatalf("aborted %v: the batch keeps %d deletes that it is done with", abort, len(own.gone))
		}
		g := &s.parts[0].gone
		g.mu.Lock()
		for _, o := range g.order {
			if !o.live {
				t.Errorf("aborted %v: a delete of record %s is remembered that is not live", abort, o.id)
				break
			}
		}
		g.mu.Unlock()
	}
}

// TestAForgottenDeleteForgetsNoOther holds that a delete that is forgotten before
// its batch is committed does not take those along that came behind it.
func TestAForgottenDeleteForgetsNoOther(t *testing.T) {
	var g gone
	spans := []*span{g.begin([]byte("r"), &kv.Range{Open: true})}
	for i := range maxGoneOfRecord {
		spans = append(spans, g.begin([]byte("r"), &kv.Range{Start: []byte{byte(i)}, End: []byte{byte(i), 0}}))
	}
	g.end(spans, true)
	if n := len(g.before([]byte("r"))); n != maxGoneOfRecord {
		t.Errorf("%d deletes are remembered, want %d", n, maxGoneOfRecord)
	}
}
