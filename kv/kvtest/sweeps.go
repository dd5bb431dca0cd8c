package kvtest

import (
	"testing"

	"github.com/headwater-db/headwater/kv"
)

var sweepCases = []testCase{
	{"a sweep frees what is expired, covered and settled, and no read can tell", sweepFrees},
	{"a sweep leaves what an older write could still bring back", sweepLeaves},
	{"a tombstone goes only after what it hides", sweepOrder},
	{"a sweep frees uploads that were given up or have lost", sweepUploads},
	{"a cursor that was tampered with is refused", sweepCursor},
}

func sweepFrees(t *testing.T, h Harness) {
	for _, limit := range []int{1, 7, 100_000} {
		p := open(t, h, 2)
		p.newest = false // leave the covered ones to the sweep
		mixed(p, "r", 120)
		mixed(p, "s", 20)
		fill(p, "gone", 10, 50)
		p.commit(0, func(w *write) { w.deleteRecord("gone", deleted(15)) })
		p.commit(1, func(w *write) { w.put("r", deleted(5), item("k", "")) })
		r := p.sweep(0, 200, 100, limit)
		if r.Expired == 0 || r.Covered < 50 || r.Tombstones == 0 {
			t.Fatalf("sweep: %+v", r)
		}
		p.checkAll(0, 200)
		p.reopen()
		p.checkAll(0, 200)
		p.sweep(0, 200, 100, limit)
		if r := p.sweep(0, 200, 100, limit); r.Expired+r.Covered+r.Tombstones != 0 {
			t.Fatalf("a third sweep finds something: %+v", r)
		}
		p.checkAll(0, 200)
		p.checkAll(1, 200)
	}
}

func sweepLeaves(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) {
		w.put("r", deleted(50), item("deleted", ""))
		w.put("r", expiring(50, 60), item("expired", "v"))
		w.put("r", expiring(5, 200), item("lives", "v"))
		w.deleteRange("r", kv.Range{Start: []byte("m"), End: []byte("n")}, deleted(50))
		w.deleteRecord("gone", deleted(50))
	})
	for _, horizon := range []int64{-1000, 0, 50} {
		if r := p.sweep(0, 100, horizon, 3); r.Expired+r.Tombstones != 0 {
			t.Fatalf("horizon %d: %+v", horizon, r)
		}
	}
	// What is older and comes late changes nothing.
	p.commit(0, func(w *write) {
		w.put("r", at(49), item("deleted", "late"))
		w.put("r", at(49), item("expired", "late"))
		w.put("r", at(49), item("m", "late"))
		w.put("gone", at(49), item("k", "late"))
	})
	p.sweep(0, 100, 50, 3)
	p.checkAll(0, 100)
	p.checkItem(0, "r", "deleted", 100)
}

// sweepOrder stops a sweep at every key of a record and lets a write that the
// horizon of the first half allowed come in between.
func sweepOrder(t *testing.T, h Harness) {
	for stop := 1; stop < 40; stop++ {
		p := open(t, h, 1)
		p.newest = false
		fill(p, "r", 10, 20)
		p.commit(0, func(w *write) {
			w.deleteRecord("r", deleted(50))
			w.deleteRange("r", keysBetween(0, 300), deleted(60))
			w.deleteRange("r", keysBetween(5, 10), deleted(70))
		})
		req := kv.SweepRequest{LogTime: 1000, Horizon: 40, Limit: stop}
		r, err := p.s.Sweep(bg, &req)
		if err != nil {
			t.Fatal(err)
		}
		fill(p, "r", 45, 20) // allowed by the horizon 40
		req = kv.SweepRequest{LogTime: 2000, Horizon: 1900, Limit: 1000, Cursor: r.Cursor}
		if _, err := p.s.Sweep(bg, &req); err != nil {
			t.Fatal(err)
		}
		p.checkAll(0, 2000)
		p.sweep(0, 2000, 1900, 5)
		p.checkAll(0, 2000)
	}
}

func sweepUploads(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w *write) {
		staged(w, kv.UploadID{1}, "r", "kept", 10, 2, 100)
		staged(w, kv.UploadID{3}, "r", "lost", 10, 2, 100)
		staged(w, kv.UploadID{5}, "gone", "k", 10, 2, 100)
		staged(w, kv.UploadID{11}, "r", "expires", 10, 1, 100)
		w.put("r", at(20), item("lost", "a newer value"))
		w.deleteRecord("gone", deleted(20))
		w.upload(kv.StoredUpload{ID: kv.UploadID{7}, Record: []byte("r"), Key: []byte("k"), Expiry: 500})
		w.chunk(kv.UploadID{7}, 0, []byte("x"))
		w.upload(kv.StoredUpload{ID: kv.UploadID{9}, Record: []byte("r"), Key: []byte("k"), Expiry: 501})
	})
	n := 0
	for range 3 {
		n += p.sweep(0, 500, 400, 2).Uploads
		p.checkAll(0, 500)
	}
	if n != 3 {
		t.Errorf("%d uploads freed, want 3", n)
	}
	for id, want := range map[byte]bool{1: true, 3: false, 5: false, 7: false, 9: true, 11: true} {
		_, ok, err := p.s.Upload(bg, 0, kv.UploadID{id})
		_, chunkErr := p.s.ReadChunk(bg, 0, kv.UploadID{id}, 0)
		if err != nil || ok != want || (chunkErr == nil) != (want && id != 9) {
			t.Errorf("upload %d: there %v (%v), chunk %v; want %v", id, ok, err, chunkErr, want)
		}
	}
}

func sweepCursor(t *testing.T, h Harness) {
	p := open(t, h, 1)
	mixed(p, "r", 50)
	r, err := p.s.Sweep(bg, &kv.SweepRequest{LogTime: 10, Horizon: 5, Limit: 3})
	if err != nil || r.Cursor == nil {
		t.Fatalf("sweep: %+v, %v", r, err)
	}
	for _, c := range [][]byte{{1}, []byte("x nonsense that is long enough to be one"), r.Cursor[:3]} {
		if _, err := p.s.Sweep(bg, &kv.SweepRequest{LogTime: 10, Horizon: 5, Limit: 3, Cursor: c}); err == nil {
			t.Errorf("cursor %q: no error", c)
		}
	}
	p.checkAll(0, 10)
}
