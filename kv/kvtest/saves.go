package kvtest

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

var saveCases = []testCase{
	{"an aborted batch leaves nothing", aborted},
}

var lifeCases = []testCase{
	{"use after close is ErrClosed", afterClose},
	{"readers see whole commits while the applier writes", concurrent},
}

// tokenID is different for every i.
func tokenID(i int) (n wal.TokenID) {
	binary.BigEndian.PutUint64(n[4:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint32(n[12:], uint32(i))
	return n
}

func entry(i int, logTime int64) kv.TokenEntry {
	e := kv.TokenEntry{ID: tokenID(i), Hash: wal.Hash{byte(i)}, Offset: wal.Offset(i), LogTime: logTime, AcceptedAt: logTime - 5, Time: logTime - 7, Outcome: kv.Applied}
	if i%3 == 0 {
		e.Outcome, e.Current = kv.ConditionFailed, expiring(logTime, 99)
	}
	if i%2 == 0 { // other entries are as they were before it was kept
		e.DefaultTTL = int64(i/2) * 1e6
	}
	return e
}

func (p *pair) checkToken(part wal.Partition, i int) {
	p.t.Helper()
	got, ok, err := p.s.Token(bg, part, tokenID(i))
	want, wantOK := p.m.Token(part, tokenID(i))
	if err != nil || ok != wantOK || got != want {
		p.t.Fatalf("token %d of partition %d: %+v %v %v, want %+v %v", i, part, got, ok, err, want, wantOK)
	}
}

const minute = 60_000_000

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
	_, _, _, err := s.Item(bg, 0, []byte("r"), []byte("k"), 1)
	check("item", err)
	_, err = s.Get(bg, &kv.Query{ID: []byte("r")})
	check("get", err)
	_, err = s.Scan(bg, &kv.ScanQuery{})
	check("scan", err)
	_, _, err = s.Upload(bg, 0, kv.UploadID{})
	check("upload", err)
	_, err = s.ReadChunk(bg, 0, kv.UploadID{}, 0)
	check("chunk", err)
	_, err = s.Sweep(bg, &kv.SweepRequest{Limit: 1})
	check("sweep", err)
}
