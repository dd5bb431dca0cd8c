package kvtest

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

var saveCases = []testCase{
	{"a token is found at once, after a reopen, and nowhere else", tokensFound},
	{"of two entries of a token the newer is found", tokenTwice},
	{"a sweep evicts tokens by log time alone", tokensEvicted},
	{"parked queues are replaced, removed and listed by key", parkedQueues},
	{"the state is what the last commit said", stateKept},
	{"an aborted batch leaves nothing", aborted},
	{"a synced offset is the last that was committed", synced},
}

var lifeCases = []testCase{
	{"use after close is ErrClosed", afterClose},
	{"readers see whole commits while the applier writes", concurrent},
}

// nonce is different for every i.
func nonce(i int) (n wal.Nonce) {
	binary.BigEndian.PutUint64(n[4:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint32(n[12:], uint32(i))
	return n
}

func entry(i int, logTime int64) kv.TokenEntry {
	e := kv.TokenEntry{Nonce: nonce(i), Hash: wal.Hash{byte(i)}, Offset: wal.Offset(i), LogTime: logTime, AcceptedAt: logTime - 5, Time: logTime - 7, Outcome: kv.Applied}
	if i%3 == 0 {
		e.Outcome, e.Current = kv.ConditionFailed, expiring(logTime, 99)
	}
	if i%2 == 0 { // other entries are as they were before it was kept
		e.DefaultTTL, e.HasDefaultTTL = int64(i/2)*1e6, true
	}
	return e
}

func (p *pair) checkToken(part wal.Partition, i int) {
	p.t.Helper()
	got, ok, err := p.s.Token(bg, part, nonce(i))
	want, wantOK := p.m.Token(part, nonce(i))
	if err != nil || ok != wantOK || got != want {
		p.t.Fatalf("token %d of partition %d: %+v %v %v, want %+v %v", i, part, got, ok, err, want, wantOK)
	}
}

const minute = 60_000_000

func tokensFound(t *testing.T, h Harness) {
	n := 6_000
	if testing.Short() {
		n = 2_000
	}
	p := open(t, h, 2)
	for i := 0; i < n; i += 100 {
		p.commit(0, func(w *write) {
			for j := i; j < i+100; j++ {
				w.token(entry(j, int64(j)*40*minute/int64(n)))
			}
		})
		p.checkToken(0, i+99)
		p.checkToken(0, n+i)
	}
	for range 2 {
		for i := range 2 * n {
			p.checkToken(0, i)
		}
		for i := 0; i < n; i += 97 {
			p.checkToken(1, i)
		}
		if live := p.s.LiveTokens(0); live != int64(n) {
			t.Fatalf("%d live tokens, want %d", live, n)
		}
		if u, err := p.s.Usage(bg); err != nil || u.Tokens != int64(n) {
			t.Fatalf("%d tokens in use, %v; want %d", u.Tokens, err, n)
		}
		p.reopen()
	}
}

func tokenTwice(t *testing.T, h Harness) {
	p := open(t, h, 1)
	for _, logTime := range []int64{minute, 2 * minute, 300 * minute, 300*minute + 1} {
		p.commit(0, func(w *write) {
			e := entry(1, logTime)
			e.Offset = wal.Offset(logTime)
			w.token(e)
		})
		p.checkToken(0, 1)
		p.reopen()
		p.checkToken(0, 1)
	}
}

func (p *pair) sweep(part wal.Partition, logTime, horizon int64, limit int) (sum kv.SweepResult) {
	p.t.Helper()
	req := kv.SweepRequest{Partition: part, LogTime: logTime, Horizon: horizon, Limit: limit}
	for range 1 << 20 {
		r, err := p.s.Sweep(bg, &req)
		if err != nil {
			p.t.Fatalf("sweep: %v", err)
		}
		if r.Looked > limit {
			p.t.Fatalf("a sweep looked at %d keys, at most %d", r.Looked, limit)
		}
		sum.Looked += r.Looked
		sum.Expired += r.Expired
		sum.Covered += r.Covered
		sum.Tombstones += r.Tombstones
		sum.Tokens += r.Tokens
		sum.Uploads += r.Uploads
		if req.Cursor = r.Cursor; req.Cursor == nil {
			return sum
		}
	}
	p.t.Fatal("a sweep without end")
	return sum
}

func tokensEvicted(t *testing.T, h Harness) {
	const n = 600
	p := open(t, h, 2)
	for part := range wal.Partition(2) {
		p.commit(part, func(w *write) {
			for i := range n {
				w.token(entry(i, int64(i)*minute/10)) // an hour
			}
		})
	}
	freed := 0
	for horizon := int64(0); horizon <= 100*minute; horizon += 10 * minute {
		freed += p.sweep(0, horizon+15*minute, horizon, 1000).Tokens
		for i := range n {
			e, ok, err := p.s.Token(bg, 0, nonce(i))
			want, _ := p.m.Token(0, nonce(i))
			if err != nil || (ok && e != want) || (!ok && want.LogTime >= horizon) {
				t.Fatalf("token logged at %d is found %v (%v) after a sweep with the horizon %d", want.LogTime, ok, err, horizon)
			}
			if ok && want.LogTime < horizon-30*minute {
				t.Fatalf("token logged at %d is there after a sweep with the horizon %d", want.LogTime, horizon)
			}
			p.checkToken(1, i)
		}
		p.reopen()
	}
	if live := p.s.LiveTokens(0); live != 0 || freed != n {
		t.Fatalf("%d tokens live, %d freed; want 0 and %d", live, freed, n)
	}
}

func parkedQueues(t *testing.T, h Harness) {
	p := open(t, h, 2)
	queue := func(key string, n int) kv.ParkedQueue {
		q := kv.ParkedQueue{Key: []byte(key), Reason: "poison: " + key, Attempts: n}
		for i := range n {
			q.Refs = append(q.Refs, wal.Ref{Partition: 1, Offset: wal.Offset(i) << 33, Index: i})
		}
		return q
	}
	p.commit(1, func(w *write) {
		w.parked(queue("b", 1))
		w.parked(queue("a", 100))
		w.parked(queue("", 3))
		w.parked(queue("\xff\xff", 3))
	})
	for range 2 {
		p.checkAll(0, 1)
		p.checkAll(1, 1)
		if u, err := p.s.Usage(bg); err != nil || u.Parked != 4 {
			t.Fatalf("%d parked, %v; want 4", u.Parked, err)
		}
		p.reopen()
	}
	p.commit(1, func(w *write) {
		w.parked(queue("a", 2))
		w.parked(queue("b", 0))
		w.parked(queue("never", 0))
	})
	p.checkAll(1, 1)
}

func stateKept(t *testing.T, h Harness) {
	p := open(t, h, 3)
	for part := range wal.Partition(3) {
		p.checkAll(part, 1) // of a new store
	}
	for i := range 10 {
		p.commit(2, func(w *write) { w.put("r", at(int64(i+5)), item("k", "v")) })
		p.checkAll(2, 1)
	}
	p.commit(1, func(*write) {}) // a commit of nothing but a state
	p.reopen()
	for part := range wal.Partition(3) {
		p.checkAll(part, 1)
	}
}

func aborted(t *testing.T, h Harness) {
	p := open(t, h, 1)
	fill(p, "r", 10, 3)
	b := p.s.Begin(0)
	if !b.Empty() {
		t.Error("a new batch is not empty")
	}
	b.Put([]byte("r"), at(11), &kv.StoredItem{Key: []byte("new")})
	b.DeleteRecord([]byte("r"), deleted(12), false)
	e := entry(1, 5)
	b.SaveToken(&e)
	if b.Empty() {
		t.Error("a batch with changes is empty")
	}
	b.Abort()
	b.Abort()
	p.checkAll(0, 1)
	p.checkToken(0, 1)
	p.commit(0, func(w *write) { w.put("r", at(13), item("k", "v")) })
	p.checkAll(0, 1)
	if live := p.s.LiveTokens(0); live != 0 {
		t.Fatalf("%d tokens, want 0", live)
	}
}

func synced(t *testing.T, h Harness) {
	p := open(t, h, 2)
	fill(p, "r", 10, 3)
	fill(p, "r", 11, 3)
	at, err := p.s.Sync(bg)
	if err != nil || at[0] != 1 || at[1] != wal.NoOffset || len(at) != 2 {
		t.Fatalf("synced at %v, %v; want 0:1 1:-1", at, err)
	}
}

func afterClose(t *testing.T, h Harness) {
	s := h.Open(t, 1)
	open := s.Begin(0)
	open.Put([]byte("r"), at(1), &kv.StoredItem{Key: []byte("k")})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second close: %v", err)
	}
	check := func(what string, err error) {
		if !errors.Is(err, kv.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
	check("commit of an open batch", open.Commit(bg, kv.State{}))
	open.Abort()
	b := s.Begin(0)
	b.DeleteRecord([]byte("r"), deleted(1), true)
	b.DeleteRange([]byte("r"), keysBetween(1, 2), deleted(1), true)
	check("commit", b.Commit(bg, kv.State{}))
	_, err := s.State(bg, 0)
	check("state", err)
	_, _, err = s.Token(bg, 0, wal.Nonce{})
	check("token", err)
	_, _, _, err = s.Item(bg, 0, []byte("r"), []byte("k"), 1)
	check("item", err)
	_, err = s.Get(bg, &kv.Query{ID: []byte("r")})
	check("get", err)
	_, err = s.Scan(bg, &kv.ScanQuery{})
	check("scan", err)
	_, _, err = s.Upload(bg, 0, kv.UploadID{})
	check("upload", err)
	_, err = s.ReadChunk(bg, 0, kv.UploadID{}, 0)
	check("chunk", err)
	_, err = s.Parked(bg, 0)
	check("parked", err)
	_, err = s.Sweep(bg, &kv.SweepRequest{Limit: 1})
	check("sweep", err)
	_, err = s.Sync(bg)
	check("sync", err)
	_, err = s.Usage(bg)
	check("usage", err)
}
