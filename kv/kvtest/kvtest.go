package kvtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// Harness is how the suite gets at an implementation.
type Harness struct {
	// Open returns a new, empty store. The suite closes it.
	Open func(t testing.TB, partitions int) kv.Store
	// Reopen closes the store and returns one over the same data.
	Reopen func(t testing.TB, s kv.Store) kv.Store
	// Lacks names the cases that the implementation cannot meet, with the reason.
	Lacks map[string]string
	// HidesDead: the implementation does not come by what was deleted. Of a key that is not found, Item is
	// told a version that is as new as any delete or end in the partition, and a page over deleted items
	// costs no looks.
	HidesDead bool
	// Slow: a page costs a round trip, so that pages of one item are tried in a few ways only.
	Slow bool
	// TiesOfEnds: of two writes of one microsecond that both end, either may win.
	TiesOfEnds bool
}

type testCase struct {
	name string
	run  func(t *testing.T, h Harness)
}

// Run runs the contract.
func Run(t *testing.T, h Harness) {
	for _, c := range slices.Concat(writeCases, readCases, saveCases, sweepCases, lifeCases, randomCases) {
		t.Run(c.name, func(t *testing.T) {
			if why := h.Lacks[c.name]; why != "" {
				t.Skip(why)
			}
			c.run(t, h)
		})
	}
}

// reporter is what a *testing.T and a *rapid.T have in common.
type reporter interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// pair is a store and its model, written together.
type pair struct {
	t      reporter
	tb     testing.TB
	h      Harness
	s      kv.Store
	m      *Model
	state  map[wal.Partition]kv.State
	newest bool // what deletes say where nothing is newer
	pages  int  // read
}

var bg = context.Background()

func open(t testing.TB, h Harness, partitions int) *pair {
	p := &pair{t: t, tb: t, h: h, s: h.Open(t, partitions), m: NewModel(), state: make(map[wal.Partition]kv.State), newest: true}
	t.Cleanup(func() {
		if err := p.s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

// write is one change, for the store and the model.
type write struct {
	p       wal.Partition
	batch   kv.Batch
	model   *Model
	newest  bool
	maxTime int64
	logTime int64
}

func (w *write) seen(v wal.Version) (newest bool) {
	newest = v.Time > w.maxTime && w.newest
	w.maxTime = max(w.maxTime, v.Time)
	return newest
}

func (w *write) put(id string, v wal.Version, it kv.StoredItem) {
	w.seen(v)
	w.model.Put(w.p, []byte(id), v, &it)
	w.batch.Put([]byte(id), v, &it)
}

func (w *write) deleteRange(id string, r kv.Range, v wal.Version) {
	newest := w.seen(v)
	w.model.DeleteRange(w.p, []byte(id), r, v)
	w.batch.DeleteRange([]byte(id), r, v, newest)
}

func (w *write) deleteRecord(id string, v wal.Version) {
	newest := w.seen(v)
	w.model.DeleteRecord(w.p, []byte(id), v)
	w.batch.DeleteRecord([]byte(id), v, newest)
}

func (w *write) token(e kv.TokenEntry) {
	w.logTime = max(w.logTime, e.LogTime)
	w.model.SaveToken(w.p, &e)
	w.batch.SaveToken(&e)
}

func (w *write) upload(u kv.StoredUpload) {
	w.model.SaveUpload(w.p, &u)
	w.batch.SaveUpload(&u)
}

func (w *write) chunk(id kv.UploadID, index int, data []byte) {
	w.model.SaveChunk(w.p, id, index, data)
	w.batch.SaveChunk(id, index, data)
}

func (w *write) dropUpload(id kv.UploadID) {
	w.model.DropUpload(w.p, id)
	w.batch.DropUpload(id)
}

// commit applies what do writes, as the next record of the partition.
func (p *pair) commit(part wal.Partition, do func(w *write)) {
	p.t.Helper()
	st, ok := p.state[part]
	if !ok {
		st = kv.State{Applied: wal.NoOffset}
	}
	b := p.s.Begin(part)
	defer b.Abort()
	w := &write{p: part, batch: b, model: p.m, newest: p.newest, maxTime: st.MaxTime, logTime: st.LogTime}
	do(w)
	st.Applied++
	st.MaxTime, st.LogTime = w.maxTime, w.logTime
	if err := b.Commit(bg, st); err != nil {
		p.t.Fatalf("commit: %v", err)
	}
	p.state[part] = st
	p.m.SetState(part, st)
}

func (p *pair) reopen() {
	p.t.Helper()
	p.s = p.h.Reopen(p.tb, p.s)
}

// nonce is the n-th of some that are in order.
func nonce(n int64) (x wal.Nonce) {
	binary.BigEndian.PutUint64(x[8:], uint64(n))
	return x
}

// at and its like are versions of a time above 0: the zero version is none.
func at(t int64) wal.Version { return wal.Version{Time: t, Nonce: nonce(t)} }

func deleted(t int64) wal.Version {
	return wal.Version{Time: t, Class: wal.Deleted, Nonce: nonce(t)}
}

func expiring(t, expiry int64) wal.Version {
	return wal.Version{Time: t, Class: wal.Expiring, Expiry: expiry, Nonce: nonce(t)}
}

func item(key, value string) kv.StoredItem {
	return kv.StoredItem{Key: []byte(key), Value: []byte(value)}
}

// plenty is a page for all that a case writes, but for one large value. Stores take
// memory ahead for a page as large as asked for.
const plenty = 128 << 10

// same reports how two answers differ, "" when they do not. A nil value and an
// empty one differ.
func same(got, want []kv.StoredItem) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("item %d is missing: want %s", i, show(&want[i]))
		case i >= len(want):
			return fmt.Sprintf("item %d is too many: %s", i, show(&got[i]))
		case !sameItem(&got[i], &want[i]):
			return fmt.Sprintf("item %d is %s, want %s", i, show(&got[i]), show(&want[i]))
		}
	}
	return ""
}

func sameItem(a, b *kv.StoredItem) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Value, b.Value) && (len(a.Value) > 0 || a.Size > 0 || (a.Value == nil) == (b.Value == nil)) &&
		a.Version == b.Version && a.Size == b.Size && a.Compression == b.Compression && a.ContentType == b.ContentType &&
		a.Upload == b.Upload && a.Chunks == b.Chunks && a.SHA256 == b.SHA256
}

func show(it *kv.StoredItem) string {
	v := it.Value
	if len(v) > 16 {
		v = v[:16]
	}
	return fmt.Sprintf("{%q=%q(%d) %+v %s %s upload %s/%d}", it.Key, v, it.Size, it.Version, it.Compression, it.ContentType, it.Upload, it.Chunks)
}

// all reads every page of q, and checks each page against its limits.
func (p *pair) all(q kv.Query) []kv.StoredItem {
	p.t.Helper()
	var items []kv.StoredItem
	for range 1 << 20 {
		page, err := p.s.Get(bg, &q)
		if err != nil {
			p.t.Fatalf("get: %v", err)
		}
		if p.pages++; p.pages%4 == 0 {
			p.checkEach(q, page)
			p.checkFull(q, page)
		}
		size := 0
		for i := range page.Items {
			size += len(page.Items[i].Key) + len(page.Items[i].Value) + kv.ItemOverhead
		}
		if size > q.MaxBytes && len(page.Items) > 1 {
			p.t.Fatalf("a page of %d items has %d bytes, at most %d", len(page.Items), size, q.MaxBytes)
		}
		if q.ItemLimit > 0 && len(page.Items) > q.ItemLimit {
			p.t.Fatalf("a page has %d items, at most %d", len(page.Items), q.ItemLimit)
		}
		items = append(items, page.Items...)
		if !page.More {
			return items
		}
		if q.HasKeys {
			if page.NextIndex <= q.AfterIndex {
				p.t.Fatalf("a page with more behind it ends at index %d, where it began", page.NextIndex)
			}
			q.AfterIndex = page.NextIndex
			continue
		}
		if q.HasAfter && bytes.Compare(page.LastKey, q.After) > 0 == q.Descending || q.HasAfter && bytes.Equal(page.LastKey, q.After) {
			p.t.Fatalf("a page with more behind it makes no progress: %q after %q", page.LastKey, q.After)
		}
		q.HasAfter, q.After = true, page.LastKey
	}
	p.t.Fatal("pages without end")
	return nil
}

// checkEach compares the page with one whose items are lent.
func (p *pair) checkEach(q kv.Query, want *kv.Page) {
	p.t.Helper()
	var lent []kv.StoredItem
	q.Each = func(it *kv.StoredItem) error {
		c := *it
		c.Key, c.Value = bytes.Clone(it.Key), bytes.Clone(it.Value)
		lent = append(lent, c)
		return nil
	}
	page, err := p.s.Get(bg, &q)
	if err != nil {
		p.t.Fatalf("get each: %v", err)
	}
	if diff := same(lent, want.Items); diff != "" {
		p.t.Fatalf("query %+v: lent items: %s", q, diff)
	}
	if len(page.Items) != 0 || page.More != want.More || page.NextIndex != want.NextIndex || !bytes.Equal(page.LastKey, want.LastKey) {
		p.t.Fatalf("query %+v: the page of lent items is %+v, want %+v", q, page, want)
	}
}

// checkFull has Each end the page in its middle, and compares what follows.
func (p *pair) checkFull(q kv.Query, want *kv.Page) {
	p.t.Helper()
	half := len(want.Items) / 2
	if half == 0 {
		return
	}
	n := 0
	q.Each = func(*kv.StoredItem) error {
		if n == half {
			return kv.ErrFull
		}
		n++
		return nil
	}
	page, err := p.s.Get(bg, &q)
	if err != nil || !page.More || page.Partial {
		p.t.Fatalf("query %+v: a page that Each ends is %+v, %v", q, page, err)
	}
	q.Each, q.AfterIndex = nil, page.NextIndex
	if !q.HasKeys {
		q.HasAfter, q.After = true, page.LastKey
	}
	if page, err = p.s.Get(bg, &q); err != nil || len(page.Items) == 0 {
		p.t.Fatalf("query %+v: behind a page that Each ended: %+v, %v", q, page, err)
	}
	if diff := same(page.Items[:1], want.Items[half:half+1]); diff != "" {
		p.t.Fatalf("query %+v: behind a page that Each ended: %s", q, diff)
	}
}

// check compares one query, through pages of its own limits, with the model.
func (p *pair) check(q kv.Query) {
	p.t.Helper()
	if q.MaxBytes == 0 {
		q.MaxBytes = plenty
	}
	if diff := same(p.all(q), p.m.Get(&q)); diff != "" {
		p.t.Fatalf("query %+v: %s", q, diff)
	}
}

// checkItem compares a point read with the model.
func (p *pair) checkItem(part wal.Partition, id, key string, now int64) {
	p.t.Helper()
	it, newest, ok, err := p.s.Item(bg, part, []byte(id), []byte(key), now)
	if err != nil {
		p.t.Fatalf("item: %v", err)
	}
	wantIt, wantNewest, wantOK := p.m.Item(part, []byte(id), []byte(key), now)
	if p.h.HidesDead && !ok && newest.Time >= wantNewest.Time {
		newest = wantNewest
	}
	if ok != wantOK || newest != wantNewest || (ok && !sameItem(&it, &wantIt)) {
		p.t.Fatalf("item %q %q at %d: %v %s newest %+v, want %v %s newest %+v", id, key, now, ok, show(&it), newest, wantOK, show(&wantIt), wantNewest)
	}
}

// scan reads a partition through pages.
func (p *pair) scan(q kv.ScanQuery) map[string][]kv.StoredItem {
	p.t.Helper()
	got := make(map[string][]kv.StoredItem)
	for range 1 << 20 {
		page, err := p.s.Scan(bg, &q)
		if err != nil {
			p.t.Fatalf("scan: %v", err)
		}
		size, n := 0, 0
		for _, r := range page.Records {
			for i := range r.Items {
				size += len(r.Items[i].Key) + len(r.Items[i].Value) + kv.ItemOverhead
				n++
			}
			got[string(r.ID)] = append(got[string(r.ID)], r.Items...)
		}
		if size > q.MaxBytes && n > 1 {
			p.t.Fatalf("a page of a scan has %d bytes in %d items, at most %d", size, n, q.MaxBytes)
		}
		if !page.More {
			return got
		}
		if q.HasAfter && bytes.Equal(q.AfterID, page.LastID) && bytes.Equal(q.AfterKey, page.LastKey) {
			p.t.Fatalf("a page of a scan makes no progress at %q %q", page.LastID, page.LastKey)
		}
		q.HasAfter, q.AfterID, q.AfterKey = true, page.LastID, page.LastKey
	}
	p.t.Fatal("pages without end")
	return nil
}

// checkScan compares a scan with the model.
func (p *pair) checkScan(q kv.ScanQuery) {
	p.t.Helper()
	if q.MaxBytes == 0 {
		q.MaxBytes = plenty
	}
	got := p.scan(q)
	var ids []string
	for _, id := range p.m.Records(q.Partition, q.Now) {
		if !q.Share.Has([]byte(id)) {
			continue
		}
		ids = append(ids, id)
		want := p.m.Get(&kv.Query{Partition: q.Partition, ID: []byte(id), Now: q.Now, OmitValues: q.OmitValues, InlineLimit: q.InlineLimit})
		if diff := same(got[id], want); diff != "" {
			p.t.Fatalf("scan: record %q: %s", id, diff)
		}
	}
	if len(ids) != len(got) {
		p.t.Fatalf("scan has %d records, want %d", len(got), len(ids))
	}
}

// checkAll compares everything of a partition as readers at now see it.
func (p *pair) checkAll(part wal.Partition, now int64) {
	p.t.Helper()
	p.checkScan(kv.ScanQuery{Partition: part, Now: now, InlineLimit: plenty})
	for id := range p.m.partition(part).records {
		p.check(kv.Query{Partition: part, ID: []byte(id), Now: now, InlineLimit: plenty})
		p.check(kv.Query{Partition: part, ID: []byte(id), Now: now, InlineLimit: plenty, Descending: true})
	}
	st, err := p.s.State(bg, part)
	if err != nil {
		p.t.Fatalf("state: %v", err)
	}
	if st != p.m.State(part) {
		p.t.Fatalf("state %+v, want %+v", st, p.m.State(part))
	}
}
