package kvtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/headwater-db/headwater/kv"
)

var readCases = []testCase{
	{"an item is gone at its expiry, not a microsecond later", expiry},
	{"every predicate answers as the model does, in pages of any size", predicates},
	{"keys come in the order they were asked for", keysInOrder},
	{"a scan returns every record once, in pages of any size", scans},
	{"a page ends at its bytes, but never before its first item", pageBytes},
	{"a page that ends at its deadline has progressed", deadline},
	{"a page over 300,000 dead items ends and progresses", manyDead},
	{"an upload is inlined below the limit and named above it", uploads},
	{"a chunk that is not there is ErrNoChunk", noChunk},
	{"a partition that does not exist is an error", noPartition},
	{"a call with a cancelled context returns its error", cancelled},
}

func expiry(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) {
		w.put("r", expiring(10, 100), item("a", "v"))
		w.put("r", expiring(10, 101), item("b", "v"))
		w.put("r", at(10), item("c", "v"))
		w.put("r", at(9), item("a", "older, for ever"))
	})
	for _, now := range []int64{0, 99, 100, 101, 1 << 60} {
		p.checkAll(0, now)
		for _, k := range []string{"a", "b", "c"} {
			p.checkItem(0, "r", k, now)
		}
	}
}

// mixed fills a record with living, deleted and expired items.
func mixed(p *pair, id string, n int) {
	fill(p, id, 10, n)
	p.commit(0, func(w *write) {
		for i := 0; i < n; i += 3 {
			w.put(id, deleted(11), item(key(i), ""))
		}
		for i := 1; i < n; i += 5 {
			w.put(id, expiring(11, 50), item(key(i), "short"))
		}
		for i := 2; i < n; i += 7 {
			w.put(id, at(12), item(key(i), string(make([]byte, i*3))))
		}
		w.put(id, at(12), item("", "the empty key"))
		w.deleteRange(id, keysBetween(n/2, n/2+9), deleted(13))
	})
}

func predicates(t *testing.T, h Harness) {
	p := open(t, h, 1)
	mixed(p, "r", 120)
	mixed(p, "r\x00", 10)
	open60 := keysBetween(60, 0)
	open60.Open = true
	queries := []kv.Query{
		{}, {HasRange: true, Range: keysBetween(10, 70)}, {HasRange: true, Range: open60}, {HasRange: true, Range: kv.Range{End: []byte(key(30))}},
		{HasRange: true, Range: keysBetween(70, 10)}, {HasRange: true, Range: keysBetween(10, 10)}, {HasRange: true, Range: kv.Range{Open: true}},
		{HasRange: true, Range: kv.Range{Start: []byte("l"), Open: true}}, {HasKeys: true}, {ID: []byte("none")}, {ID: []byte("r\x00")},
	}
	for _, q := range queries {
		if q.ID == nil {
			q.ID = []byte("r")
		}
		for _, q.Now = range []int64{1, 50} {
			for _, q.Descending = range []bool{false, true} {
				for _, q.OmitValues = range []bool{false, true} {
					for _, q.MaxBytes = range []int{1, 200, 1000, plenty} {
						for _, q.ItemLimit = range []int{0, 1, 7} {
							if h.Slow && (q.MaxBytes == 1 || q.ItemLimit == 1) && (q.OmitValues || q.Now > 1 || q.MaxBytes == q.ItemLimit) {
								continue
							}
							p.check(q)
						}
					}
				}
			}
		}
	}
	// Continued behind every key, there or not.
	for i := range 121 {
		for _, descending := range []bool{false, true} {
			q := kv.Query{ID: []byte("r"), HasRange: true, Range: keysBetween(20, 90), HasAfter: true, After: []byte(key(i)), Descending: descending, MaxBytes: 500, Now: 1}
			want := kv.Query{ID: q.ID, HasRange: true, Range: q.Range, Descending: descending, Now: 1}
			if descending {
				want.Range.End = []byte(key(min(i, 90)))
			} else {
				want.Range.Start = []byte(key(max(i+1, 20)))
			}
			if diff := same(p.all(q), p.m.Get(&want)); diff != "" {
				t.Fatalf("after %d, descending %v: %s", i, descending, diff)
			}
		}
	}
}

func keysInOrder(t *testing.T, h Harness) {
	p := open(t, h, 1)
	mixed(p, "r", 120)
	var keys [][]byte
	for i := range 150 {
		keys = append(keys, []byte(key((i*37)%150)))
	}
	keys = append(keys, []byte(""), []byte("absent"), []byte(key(4)), []byte(key(4)))
	for _, limit := range []int{0, 1, 7} {
		for _, maxBytes := range []int{1, 333, plenty} {
			for _, omit := range []bool{false, true} {
				if h.Slow && (maxBytes == 1 || limit == 1) && omit {
					continue
				}
				p.check(kv.Query{ID: []byte("r"), HasKeys: true, Keys: keys, ItemLimit: limit, MaxBytes: maxBytes, OmitValues: omit, Now: 1})
			}
		}
	}
	for _, k := range keys { // one by one
		p.check(kv.Query{ID: []byte("r"), HasKeys: true, Keys: [][]byte{k}, Now: 50})
		p.check(kv.Query{ID: []byte("none"), HasKeys: true, Keys: [][]byte{k}, Now: 50})
	}
}

func scans(t *testing.T, h Harness) {
	p := open(t, h, 2)
	for i := range 60 {
		fill(p, fmt.Sprintf("record-%d", i), 10, 1+i%9)
	}
	mixed(p, "mixed", 40)
	p.commit(0, func(w *write) {
		for i := 0; i < 60; i += 4 {
			w.deleteRecord(fmt.Sprintf("record-%d", i), deleted(20))
		}
		w.deleteRecord("never-was", deleted(20))
	})
	p.commit(1, func(w *write) { w.put("elsewhere", at(10), item("k", "v")) })
	none := kv.Share{Nth: 2, Of: 2}
	for _, share := range []kv.Share{{}, {Nth: 0, Of: 2}, {Nth: 1, Of: 2}, none} {
		for _, maxBytes := range []int{1, 150, 500, 2000, plenty} {
			for _, omit := range []bool{false, true} {
				for _, now := range []int64{1, 50} {
					if h.Slow && maxBytes < 500 && (omit || now > 1) {
						continue
					}
					p.checkScan(kv.ScanQuery{MaxBytes: maxBytes, OmitValues: omit, Share: share, Now: now})
					p.checkScan(kv.ScanQuery{Partition: 1, MaxBytes: maxBytes, OmitValues: omit, Share: share, Now: now})
				}
			}
		}
	}
}

func pageBytes(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) {
		w.put("r", at(1), item("a", string(make([]byte, 1000))))
		w.put("r", at(1), item("b", string(make([]byte, 1000))))
		w.put("r", at(1), item("c", string(make([]byte, 5000))))
	})
	two := 2 * (1 + 1000 + kv.ItemOverhead)
	for maxBytes, want := range map[int]int{1: 1, two - 1: 1, two: 2, two + 5000: 2, two + 5000 + 1 + kv.ItemOverhead: 3} {
		page, err := p.s.Get(bg, &kv.Query{ID: []byte("r"), MaxBytes: maxBytes})
		if err != nil || len(page.Items) != want || page.More != (want < 3) || string(page.LastKey) != string(rune('a'+want-1)) {
			t.Fatalf("page of %d bytes: %d items, more %v, last %q, %v; want %d items", maxBytes, len(page.Items), page.More, page.LastKey, err, want)
		}
	}
	page, err := p.s.Get(bg, &kv.Query{ID: []byte("r"), MaxBytes: 1, HasAfter: true, After: []byte("b")})
	if err != nil || len(page.Items) != 1 || page.More {
		t.Fatalf("a page of one large item: %+v, %v", page, err)
	}
	page, err = p.s.Get(bg, &kv.Query{ID: []byte("r"), MaxBytes: plenty, ItemLimit: 3})
	if err != nil || len(page.Items) != 3 || page.More {
		t.Fatalf("a page of all items by number says more: %+v, %v", page, err)
	}
}

func deadline(t *testing.T, h Harness) {
	const n = 500
	p := open(t, h, 1)
	fill(p, "r", 10, n)
	var keys [][]byte
	for i := range n {
		keys = append(keys, []byte(key(i)))
	}
	for dead := range 2 {
		if dead == 1 {
			p.commit(0, func(w *write) {
				for i := range n {
					w.put("r", deleted(11), item(key(i), ""))
				}
			})
		}
		past := time.Now().Add(-time.Hour)
		for _, q := range []kv.Query{{}, {Descending: true}, {HasKeys: true, Keys: keys}} {
			q.ID, q.Deadline, q.MaxBytes = []byte("r"), past, plenty
			page, err := p.s.Get(bg, &q)
			if h.HidesDead && dead == 1 && err == nil {
				continue // it ends before the first look at the clock
			}
			if err != nil || !page.Partial || !page.More {
				t.Fatalf("a page past its deadline: %+v, %v", page, err)
			}
			p.check(q) // progress, and nothing twice
		}
		p.checkScan(kv.ScanQuery{Deadline: past})
		page, err := p.s.Get(bg, &kv.Query{ID: []byte("r"), MaxBytes: plenty, Deadline: time.Now().Add(time.Hour)})
		if err != nil || page.Partial || page.More {
			t.Fatalf("a page before its deadline: partial %v, more %v, %v", page.Partial, page.More, err)
		}
	}
}

func manyDead(t *testing.T, h Harness) {
	if testing.Short() {
		t.Skip("a page looks at 262,144 items before it ends, which is ten seconds of work with the race detector")
	}
	n := 300_000
	if testing.Short() {
		n = 1<<18 + 10_000 // still more than a page looks at
	}
	p := open(t, h, 1)
	for i := 0; i < n; i += 10_000 {
		b := p.s.Begin(0)
		for j := i; j < i+10_000; j++ {
			b.Put([]byte("r"), deleted(10), &kv.StoredItem{Key: []byte(fmt.Sprintf("%08d", j))})
		}
		if err := b.Commit(bg, kv.State{Applied: 0, MaxTime: 10}); err != nil {
			t.Fatal(err)
		}
	}
	p.s.Begin(0).Abort()
	b := p.s.Begin(0)
	b.Put([]byte("r"), at(11), &kv.StoredItem{Key: []byte("z"), Value: []byte("v")})
	if err := b.Commit(bg, kv.State{Applied: 1, MaxTime: 11}); err != nil {
		t.Fatal(err)
	}
	if items := p.all(kv.Query{ID: []byte("r"), MaxBytes: plenty}); len(items) != 1 {
		t.Fatalf("%d items, want 1", len(items))
	}
	if got := p.scan(kv.ScanQuery{MaxBytes: plenty}); len(got["r"]) != 1 {
		t.Fatalf("scan: %d items, want 1", len(got["r"]))
	}
}

// staged saves an upload of n chunks and commits it as an item.
func staged(w *write, u kv.UploadID, record, key string, time int64, n, size int) {
	w.upload(kv.StoredUpload{ID: u, Record: []byte(record), Key: []byte(key), Expiry: 1000})
	var whole []byte
	for i := range n {
		data := bytes.Repeat([]byte{u[0] + u[2] + byte(i)}, size)
		whole = append(whole, data...)
		w.chunk(u, i, data)
	}
	it := kv.StoredItem{Key: []byte(key), Size: int64(len(whole)), Upload: u, Chunks: n, SHA256: sha256.Sum256(whole), ContentType: "x/y"}
	w.put(record, at(time), it)
	w.upload(kv.StoredUpload{ID: u, Record: []byte(record), Key: []byte(key), Expiry: 1000, Committed: true, Version: at(time), Chunks: n})
}

func uploads(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) {
		w.put("r", at(10), item("a", "inline"))
		staged(w, kv.UploadID{1}, "r", "b", 10, 3, 1000)
		staged(w, kv.UploadID{9}, "r", "c", 10, 1, 10)
		w.upload(kv.StoredUpload{ID: kv.UploadID{7}, Record: []byte("r"), Key: []byte("d"), Expiry: 5000})
		w.chunk(kv.UploadID{7}, 0, []byte("x"))
	})
	for range 2 {
		for _, limit := range []int64{0, 9, 10, 2999, 3000, plenty} {
			for _, maxBytes := range []int{1, 300, 3100, plenty} {
				p.check(kv.Query{ID: []byte("r"), InlineLimit: limit, MaxBytes: maxBytes})
				p.check(kv.Query{ID: []byte("r"), InlineLimit: limit, MaxBytes: maxBytes, OmitValues: true})
				for _, above := range []int64{1, 5, 6, 9, 10, 2999, 3000} { // around "inline" and the uploads
					p.check(kv.Query{ID: []byte("r"), InlineLimit: limit, MaxBytes: maxBytes, OmitAbove: above})
				}
				p.checkScan(kv.ScanQuery{InlineLimit: limit, MaxBytes: maxBytes})
				p.check(kv.Query{ID: []byte("r"), InlineLimit: limit, MaxBytes: maxBytes, HasKeys: true, Keys: [][]byte{[]byte("c"), []byte("b")}})
				p.check(kv.Query{ID: []byte("r"), InlineLimit: limit, MaxBytes: maxBytes, HasKeys: true, Keys: [][]byte{[]byte("b")}})
			}
		}
		p.checkItem(0, "r", "b", 1)
		for _, id := range []kv.UploadID{{1}, {9}, {7}, {8}} {
			got, ok, err := p.s.Upload(bg, 0, id)
			want, wantOK := p.m.Upload(0, id)
			if err != nil || ok != wantOK || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("upload %s: %+v %v %v, want %+v %v", id, got, ok, err, want, wantOK)
			}
		}
		p.reopen()
	}
	p.commit(0, func(w *write) { w.dropUpload(kv.UploadID{7}) })
	if _, ok, err := p.s.Upload(bg, 0, kv.UploadID{7}); ok || err != nil {
		t.Fatalf("a dropped upload is there: %v", err)
	}
	if _, err := p.s.ReadChunk(bg, 0, kv.UploadID{7}, 0); !errors.Is(err, kv.ErrNoChunk) {
		t.Fatalf("chunk of a dropped upload: %v", err)
	}
}

func noChunk(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) { w.chunk(kv.UploadID{1}, 1, []byte("one")) })
	for _, i := range []int{-1, 0, 2, 1 << 40} {
		if _, err := p.s.ReadChunk(bg, 0, kv.UploadID{1}, i); !errors.Is(err, kv.ErrNoChunk) {
			t.Errorf("chunk %d: %v", i, err)
		}
	}
	if c, err := p.s.ReadChunk(bg, 0, kv.UploadID{1}, 1); err != nil || string(c) != "one" {
		t.Errorf("chunk 1: %q, %v", c, err)
	}
}

func noPartition(t *testing.T, h Harness) {
	p := open(t, h, 2)
	if _, err := p.s.State(bg, 2); err == nil {
		t.Error("State of partition 2 of 2: no error")
	}
	if _, err := p.s.Get(bg, &kv.Query{Partition: 2, ID: []byte("r")}); err == nil {
		t.Error("Get of partition 2 of 2: no error")
	}
	b := p.s.Begin(2)
	b.Put([]byte("r"), at(1), &kv.StoredItem{Key: []byte("k")})
	if err := b.Commit(bg, kv.State{}); err == nil {
		t.Error("Commit to partition 2 of 2: no error")
	}
}

func cancelled(t *testing.T, h Harness) {
	p := open(t, h, 1)
	fill(p, "r", 1, 3)
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if _, err := p.s.Get(ctx, &kv.Query{ID: []byte("r"), MaxBytes: plenty}); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
	if _, err := p.s.Scan(ctx, &kv.ScanQuery{MaxBytes: plenty}); !errors.Is(err, context.Canceled) {
		t.Errorf("Scan: %v", err)
	}
	if _, err := p.s.Sync(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Sync: %v", err)
	}
	b := p.s.Begin(0)
	b.Put([]byte("r"), at(5), &kv.StoredItem{Key: []byte("new")})
	if err := b.Commit(ctx, kv.State{Applied: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit: %v", err)
	}
	p.checkAll(0, 1)
}
