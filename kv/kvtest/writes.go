package kvtest

import (
	"bytes"
	"testing"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

var writeCases = []testCase{
	{"an item comes back as it was written", roundTrip},
	{"the largest version wins in any order of arrival", anyOrder},
	{"of two writes of one version the later call wins", equalVersions},
	{"an item delete hides what is older and nothing newer", deleteItem},
	{"a record delete hides what is older, also when that comes later", deleteRecord},
	{"a range delete hides what is older, also when that comes later", deleteRange},
	{"deletes answer the same whether newest is told or not", newestFlag},
	{"many range deletes of one record stay right", manyRanges},
	{"puts and deletes of one batch take effect by version", oneBatch},
	{"a caller may scribble on what it handed over and on what it got", scribble},
}

func roundTrip(t *testing.T, h Harness) {
	p := open(t, h, 3)
	meta := item("meta", "compressed")
	meta.Compression, meta.ContentType = "zstd", "application/json; charset=utf-8"
	odd := item("odd", "x")
	odd.Compression = "lz77"
	ids := []string{"a", "ab", "a\x00", "a\x00b", "b", "ü", "\x00", "\xff\xff", string(bytes.Repeat([]byte("i"), 512))}
	keys := []string{"", "\x00", "\x00\x00", "a", "a\x00", "a\xff", "ab", "\xff", "\xff\xff", string(bytes.Repeat([]byte{0xff}, 1024))}
	time := int64(0)
	for part := range wal.Partition(3) {
		for _, id := range ids {
			p.commit(part, func(w *write) {
				for _, k := range keys {
					time++
					w.put(id, at(time), item(k, id+k))
				}
				w.put(id, at(time), meta)
				w.put(id, at(time), odd)
				w.put(id, at(time), item("empty", ""))
				if id == "a" {
					w.put(id, at(time), item("large", string(make([]byte, 1<<20))))
				}
			})
		}
	}
	for range 2 {
		for part := range wal.Partition(3) {
			p.checkAll(part, 1)
			for _, id := range ids {
				for _, k := range append(keys, "absent", "empty") {
					p.checkItem(part, id, k, 1)
				}
			}
			p.checkItem(part, "none", "k", 1)
		}
		p.reopen()
	}
}

// versions covers every rule of a tie: time, class, expiry, offset.
var versions = []wal.Version{
	{Time: 10, Nonce: nonce(9)},
	{Time: 11, Nonce: nonce(1)},
	{Time: 11, Nonce: nonce(2)},
	{Time: 11, Class: wal.Expiring, Expiry: 50, Nonce: nonce(0)},
	{Time: 11, Class: wal.Expiring, Expiry: 60, Nonce: nonce(0)},
	{Time: 11, Class: wal.Deleted, Nonce: nonce(0)},
}

func permutations(n int, do func(order []int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var step func(i int)
	step = func(i int) {
		if i == n {
			do(order)
			return
		}
		for j := i; j < n; j++ {
			order[i], order[j] = order[j], order[i]
			step(i + 1)
			order[i], order[j] = order[j], order[i]
		}
	}
	step(0)
}

func anyOrder(t *testing.T, h Harness) {
	p := open(t, h, 1)
	// Without the delete too, so that a put is the winner.
	for n := 2; n <= len(versions); n++ {
		permutations(n, func(order []int) {
			id := string(rune('0'+n)) + string(bytes.TrimSpace([]byte{byte('a' + order[0]), byte('a' + order[1])}))
			for _, i := range order[2:] {
				id += string(rune('a' + i))
			}
			// Every other record in one batch, the rest in one commit each.
			if order[0]%2 == 0 {
				p.commit(0, func(w *write) {
					for _, i := range order {
						w.put(id, versions[i], item("k", string(rune('0'+i))))
					}
				})
				return
			}
			for _, i := range order {
				p.commit(0, func(w *write) { w.put(id, versions[i], item("k", string(rune('0'+i)))) })
			}
		})
	}
	for _, now := range []int64{0, 49, 50, 59, 60} {
		for id := range p.m.partition(0).records {
			p.checkItem(0, id, "k", now)
		}
	}
}

func equalVersions(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) {
		w.put("r", at(5), item("k", "first"))
		w.put("r", at(5), item("k", "second"))
	})
	p.checkItem(0, "r", "k", 1)
	p.commit(0, func(w *write) { w.put("r", at(5), item("k", "third")) })
	p.checkItem(0, "r", "k", 1)
	p.reopen()
	p.checkItem(0, "r", "k", 1)
}

func deleteItem(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) { w.put("r", deleted(10), item("k", "")) })
	p.checkItem(0, "r", "k", 1)
	for _, time := range []int64{9, 11, 8} {
		p.commit(0, func(w *write) { w.put("r", at(time), item("k", "v")) })
		p.checkItem(0, "r", "k", 1)
	}
	p.commit(0, func(w *write) { w.put("r", deleted(11), item("k", "")) })
	p.checkItem(0, "r", "k", 1)
	p.checkAll(0, 1)
}

func fill(p *pair, id string, time int64, n int) {
	p.commit(0, func(w *write) {
		for i := range n {
			w.put(id, at(time), item(key(i), "v"))
		}
	})
}

// key is an item key that sorts by i.
func key(i int) string { return string([]byte{'k', byte(i >> 8), byte(i)}) }

func keysBetween(a, b int) kv.Range { return kv.Range{Start: []byte(key(a)), End: []byte(key(b))} }

func deleteRecord(t *testing.T, h Harness) {
	for _, n := range []int{1, 200} {
		p := open(t, h, 1)
		fill(p, "r", 10, n)
		fill(p, "ra", 10, n)
		p.commit(0, func(w *write) { w.deleteRecord("r", deleted(20)) })
		p.checkAll(0, 1)
		p.checkItem(0, "r", key(0), 1)
		fill(p, "r", 15, n) // late and older
		p.checkAll(0, 1)
		p.commit(0, func(w *write) { w.put("r", at(21), item(key(0), "newer")) })
		p.commit(0, func(w *write) { w.deleteRecord("r", deleted(19)) }) // an older delete
		p.checkAll(0, 1)
		p.checkItem(0, "r", key(0), 1)
		p.reopen()
		p.checkAll(0, 1)
		p.checkItem(0, "r", "never", 1)
	}
}

func deleteRange(t *testing.T, h Harness) {
	open50 := keysBetween(50, 51)
	open50.Open = true
	for _, r := range []kv.Range{keysBetween(3, 7), keysBetween(3, 150), open50, keysBetween(7, 3), keysBetween(4, 4), {End: []byte(key(2))}, {Open: true}} {
		p := open(t, h, 1)
		fill(p, "r", 10, 200)
		p.commit(0, func(w *write) { w.deleteRange("r", r, deleted(20)) })
		p.checkAll(0, 1)
		fill(p, "r", 15, 200)
		p.checkAll(0, 1)
		p.commit(0, func(w *write) { w.put("r", at(21), item(key(5), "newer")) })
		p.commit(0, func(w *write) { w.deleteRange("r", keysBetween(0, 300), deleted(12)) })
		p.checkAll(0, 1)
		p.reopen()
		p.checkAll(0, 1)
		for i := range 200 {
			p.checkItem(0, "r", key(i), 1)
		}
	}
}

func newestFlag(t *testing.T, h Harness) {
	for _, newest := range []bool{true, false} {
		p := open(t, h, 1)
		p.newest = newest
		for i := range 40 {
			time := int64(i * 10)
			fill(p, "r", time, 60)
			p.commit(0, func(w *write) {
				w.put("r", at(time+1), item(key(i), "before"))
				switch i % 3 {
				case 0:
					w.deleteRange("r", keysBetween(i, i+20), deleted(time+2))
				case 1:
					w.deleteRecord("r", deleted(time+2))
				case 2:
					w.put("r", deleted(time+2), item(key(i), ""))
				}
				w.put("r", at(time+3), item(key(i+1), "after"))
			})
			p.checkAll(0, 1)
		}
	}
}

func manyRanges(t *testing.T, h Harness) {
	const n = 700
	p := open(t, h, 1)
	fill(p, "r", 1, n)
	// Fragments far above what is merged at once, newest first and last.
	for i := 0; i < n; i += 2 {
		time := int64(1000 + i)
		if i%4 == 0 {
			time = int64(5000 - i)
		}
		p.commit(0, func(w *write) { w.deleteRange("r", keysBetween(i, i+1), deleted(time)) })
	}
	p.checkAll(0, 1)
	p.commit(0, func(w *write) { w.deleteRange("r", keysBetween(10, 600), deleted(3000)) }) // between them
	p.commit(0, func(w *write) { w.deleteRange("r", keysBetween(20, 400), deleted(2999)) })
	fill(p, "r", 2000, n)
	p.checkAll(0, 1)
	fill(p, "r", 3500, n)
	p.checkAll(0, 1)
	for i := 0; i < n; i += 7 {
		p.checkItem(0, "r", key(i), 1)
	}
	p.commit(0, func(w *write) {
		w.deleteRange("r", keysBetween(5, 650), deleted(9000))
		w.deleteRange("r", keysBetween(100, 120), deleted(9001))
	})
	fill(p, "r", 8999, n)
	p.checkAll(0, 1)
	p.commit(0, func(w *write) { w.deleteRecord("r", deleted(9500)) })
	fill(p, "r", 9400, n)
	p.commit(0, func(w *write) { w.put("r", at(9600), item(key(1), "alive")) })
	p.checkAll(0, 1)
	p.reopen()
	p.checkAll(0, 1)
}

func oneBatch(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) {
		w.put("r", at(10), item("a", "1"))
		w.put("r", at(10), item("b", "1"))
		w.put("r", at(10), item("c", "1"))
		w.deleteRange("r", kv.Range{Start: []byte("b"), Open: true}, deleted(11))
		w.put("r", at(12), item("b", "2"))
		w.deleteRange("r", kv.Range{Start: []byte("a"), End: []byte("b")}, deleted(9))
		w.deleteRange("r", kv.Range{Start: []byte("a"), End: []byte("c\x00")}, deleted(10))
	})
	p.checkAll(0, 1)
	p.commit(0, func(w *write) {
		w.deleteRecord("r", deleted(20))
		w.put("r", at(21), item("a", "3"))
		w.put("r", at(19), item("b", "3"))
	})
	p.checkAll(0, 1)
	for _, k := range []string{"a", "b", "c"} {
		p.checkItem(0, "r", k, 1)
	}
}

func scribble(t *testing.T, h Harness) {
	p := open(t, h, 1)
	id, k, v := []byte("record"), []byte("key"), []byte("value")
	start, end := []byte("x"), []byte("z")
	token := kv.TokenEntry{ID: wal.TokenID{1}, LogTime: 1, Outcome: kv.Applied}
	b := p.s.Begin(0)
	b.Put(id, at(5), &kv.StoredItem{Key: k, Value: v})
	b.DeleteRange(id, kv.Range{Start: start, End: end}, deleted(5), false)
	b.SaveToken(&token)
	data := []byte("chunk")
	b.SaveChunk(kv.UploadID{2}, 0, data)
	for _, s := range [][]byte{id, k, v, start, end, data} {
		clear(s)
	}
	token = kv.TokenEntry{}
	if err := b.Commit(bg, kv.State{Applied: 1}); err != nil {
		t.Fatal(err)
	}
	q := kv.Query{ID: []byte("record"), MaxBytes: plenty, HasKeys: true, Keys: [][]byte{[]byte("key")}}
	for range 2 {
		page, err := p.s.Get(bg, &q)
		if err != nil || len(page.Items) != 1 || string(page.Items[0].Value) != "value" || string(page.Items[0].Key) != "key" {
			t.Fatalf("get: %+v, %v", page, err)
		}
		clear(page.Items[0].Value)
		clear(page.Items[0].Key)
		c, err := p.s.ReadChunk(bg, 0, kv.UploadID{2}, 0)
		if err != nil || string(c) != "chunk" {
			t.Fatalf("chunk: %q, %v", c, err)
		}
		clear(c)
	}
	if _, ok, err := p.s.Token(bg, 0, wal.TokenID{1}); err != nil || !ok {
		t.Fatalf("token: %v, %v", ok, err)
	}
}
