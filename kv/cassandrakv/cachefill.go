package cassandrakv

import (
	"errors"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// touched is what commits and fills of a partition know of one another. A fill registers its record before it
// reads Cassandra; a commit that touches the record meanwhile marks it, and a marked fill is answered from and
// not kept. A record that a commit is about to change marks the fills that begin until it has.
type touched struct {
	mu      sync.Mutex // guards what follows, and is held while a fill is kept and while records are evicted
	fills   map[string]map[*fill]struct{}
	writing map[string]int
	cursor  []byte // of eviction
}

// fill is a read of Cassandra whose answer may be kept.
type fill struct {
	s      *Store
	c      *cache
	p      wal.Partition
	id     string
	marked bool // guarded by touched.mu
	rows   []cachedRow
	size   int
	large  bool // what was read is too large to be kept whole
}

func (s *Store) beginFill(c *cache, p wal.Partition, id []byte) *fill {
	f := &fill{s: s, c: c, p: p, id: string(id)}
	t := &s.parts[p].touched
	t.mu.Lock()
	defer t.mu.Unlock()
	f.marked = t.writing[f.id] > 0
	if t.fills == nil {
		t.fills = make(map[string]map[*fill]struct{})
	}
	if t.fills[f.id] == nil {
		t.fills[f.id] = make(map[*fill]struct{})
	}
	t.fills[f.id][f] = struct{}{}
	return f
}

// passed notes a row of a record that is read in a stretch. More of it than may be kept is not collected.
func (f *fill) passed(r *row) {
	if f.large = f.large || f.size > mostWholeBytes || len(f.rows) >= mostWholeRows; f.large {
		f.rows = nil
		return
	}
	f.seen(r, r.raw)
}

// seen notes a row that was read.
func (f *fill) seen(r *row, cell []byte) {
	f.rows = append(f.rows, cachedRow{known: true, row: *r, cell: cell})
	f.size += len(r.key) + len(cell)
}

// missing notes a key that was asked for and is not there.
func (f *fill) missing(key []byte) {
	f.rows = append(f.rows, cachedRow{known: true, absent: true, row: row{key: key}})
	f.size += len(key) + 1
}

// end forgets the fill, and keeps what was read where no commit has touched the record. whole: that is all
// of it.
func (f *fill) end(keep, whole bool) error {
	t := &f.s.parts[f.p].touched
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.fills[f.id], f)
	if len(t.fills[f.id]) == 0 {
		delete(t.fills, f.id)
	}
	keep = keep && !f.large && f.s.cache.Load() == f.c
	switch {
	case !keep:
		return nil
	case f.marked:
		f.c.unkept.Add(1)
		return nil
	}
	if err := f.s.evictFor(f.c, f.p, t); err != nil || f.c.bytes.Load() > f.c.cfg.MaxBytes {
		return err
	}
	return f.write(whole)
}

// write puts the rows into the cache. The caller holds touched.mu.
func (f *fill) write(whole bool) (err error) {
	id := []byte(f.id)
	h, _, err := headerOf(f.s.DB.DB, f.p, id)
	if err != nil {
		return err
	}
	w := f.s.DB.NewBatch()
	defer func() { err = errors.Join(err, w.Close()) }()
	for i := range f.rows {
		c := &f.rows[i]
		switch {
		case c.absent:
			err = w.Set(itemCacheKey(f.p, id, c.row.key), []byte{0}, nil)
		case len(c.cell) > mostCellBytes:
			whole = false
			continue
		default:
			err = w.Set(itemCacheKey(f.p, id, c.row.key), encodeItem(&c.row, c.cell), nil)
		}
		if err != nil {
			return err
		}
	}
	added := f.size + len(f.id) + 64
	h = header{whole: h.whole || whole, bytes: h.bytes + uint32(added), filled: time.Now().Unix()}
	if err := w.Set(recordCacheKey(f.p, id, cacheHeader, 0), h.encode(), nil); err != nil {
		return err
	}
	f.c.bytes.Add(int64(added))
	f.c.filled.Add(1)
	return f.s.DB.Apply(w)
}

// write marks the fills of the records of a batch, and those that begin until written.
func (t *touched) write(all []*record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.writing == nil {
		t.writing = make(map[string]int)
	}
	for _, r := range all {
		id := string(r.id)
		t.writing[id]++
		for f := range t.fills[id] {
			f.marked = true
		}
	}
}

func (t *touched) written(all []*record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range all {
		id := string(r.id)
		if t.writing[id]--; t.writing[id] == 0 {
			delete(t.writing, id)
		}
	}
}

// updateCache puts what a batch changes of cached records into the batch of the ledger. gone is the time of
// the partition's newest delete before the batch.
func (b *batch) updateCache(c *cache, gone int64) error {
	for _, r := range b.order {
		h, ok, err := headerOf(b.s.DB.DB, b.p, r.id)
		if err == nil && ok {
			err = b.updateCached(c, r, h, gone)
		}
		if err != nil {
			return b.s.DB.ReadError("read the cache", b.p, err)
		}
	}
	return nil
}

func (b *batch) updateCached(c *cache, r *record, h header, gone int64) error {
	if len(r.ranges) > 0 {
		return b.uncache(c, r.id, h)
	}
	for _, w := range r.order {
		cur, err := itemOf(b.s.DB.DB, b.p, r.id, w.key)
		if err != nil {
			return err
		}
		there := cur.known && !cur.absent
		switch {
		case !cur.known && !h.whole, there && w.version.Compare(cur.row.version) < 0, !there && w.cell == nil:
			continue
		case !there && w.version.Time <= gone, len(w.cell) > mostCellBytes:
			// A tombstone that Cassandra does not show may hide it.
			return b.uncache(c, r.id, h)
		}
		value := []byte{0}
		if w.cell != nil {
			value = encodeItem(&row{version: w.version}, w.cell)
		}
		if err := b.W.Set(itemCacheKey(b.p, r.id, w.key), value, nil); err != nil {
			return err
		}
	}
	return nil
}

// uncache takes a record out of the cache.
func (b *batch) uncache(c *cache, id []byte, h header) error {
	c.bytes.Add(-int64(h.bytes))
	return b.W.DeleteRange(recordCacheKey(b.p, id, cacheHeader, 0), recordCacheKey(b.p, id, cacheEnd, 0), nil)
}

// evictedAtOnce is how many records a fill evicts where the cache is full, and sweptAtOnce how many of them a
// sweep looks at.
const (
	evictedAtOnce = 64
	sweptAtOnce   = 4096
)

// evictFor makes room: from where it ended last it takes the next records that no commit has in hand. The
// caller holds touched.mu.
func (s *Store) evictFor(c *cache, p wal.Partition, t *touched) error {
	if c.bytes.Load() < c.cfg.MaxBytes {
		return nil
	}
	return s.evict(c, p, t, evictedAtOnce, func(*header) bool { return true })
}

// sweepCache frees what was filled longer ago than the cache's time to live.
func (s *Store) sweepCache(p wal.Partition) error {
	c := s.cache.Load()
	if c == nil || c.cfg.TTL == 0 {
		return nil
	}
	t, before := &s.parts[p].touched, time.Now().Add(-c.cfg.TTL).Unix()
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.evict(c, p, t, sweptAtOnce, func(h *header) bool { return h.filled < before })
}

func (s *Store) evict(c *cache, p wal.Partition, t *touched, looks int, gone func(h *header) bool) (err error) {
	lo, hi := pebblestore.Span(tableCache, p)
	view, err := s.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	w := s.DB.NewBatch()
	defer func() { err = errors.Join(err, view.Close(), w.Close()) }()
	from := lo
	if t.cursor != nil {
		from = t.cursor
	}
	var freed, n int64
	ok := view.SeekGE(from)
	for ; ok && looks > 0; looks-- {
		id, kind, _, err := ledger.SplitKey(tableCache, view.Key())
		if err != nil || kind != cacheHeader {
			return errBadCache
		}
		h, err := decodeHeader(view.Value())
		if err != nil {
			return err
		}
		begin, end := recordCacheKey(p, id, cacheHeader, 0), recordCacheKey(p, id, cacheEnd, 0)
		if gone(&h) && t.writing[string(id)] == 0 {
			if err := w.DeleteRange(begin, end, nil); err != nil {
				return err
			}
			freed, n = freed+int64(h.bytes), n+1
		}
		t.cursor = end
		ok = view.SeekGE(end)
	}
	if !ok {
		t.cursor = nil
	}
	if err := view.Error(); err != nil || n == 0 {
		return err
	}
	c.bytes.Add(-freed)
	c.evicted.Add(n)
	return s.DB.Apply(w)
}

// wholeRecord reports whether a query reads all of a record, where its page has no more behind it.
func wholeRecord(q *kv.Query, r *kv.Range) bool {
	return !q.HasKeys && !q.HasAfter && r.Open && len(r.Start) == 0
}
