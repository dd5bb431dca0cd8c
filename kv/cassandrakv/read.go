package cassandrakv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// row is a cell as it was read.
type row struct {
	key     []byte
	cell    kv.Cell
	version wal.Version
	raw     []byte // the cell as Cassandra has it
}

const itemColumns = "SELECT key, cell, WRITETIME(cell) FROM kv_items_1" + ofItem

// scanRow reads a row of itemColumns, into memory of its own. ok is false for one without a cell.
func scanRow(scan func(dest ...any) error) (r row, ok bool, err error) {
	var cell []byte
	var time int64
	if err := scan(&r.key, &cell, &time); err != nil || cell == nil {
		return r, false, err
	}
	r.raw = cell
	r.cell, r.version, err = parseCell(cell, time)
	return r, err == nil, err
}

// one reads the cell of a key.
func (s *reader) one(ctx context.Context, p wal.Partition, id, key []byte) (r row, ok bool, err error) {
	q := cassandrastore.Statement{CQL: itemColumns + " AND key = ?", Args: []any{s.rows.Dataset, s.rows.Life, int(p), id, blob(key)}}
	err = s.rows.Query(ctx, "read an item", q, 1, func(scan func(dest ...any) error) (more bool, err error) {
		r, ok, err = scanRow(scan)
		return false, err
	})
	return r, ok, err
}

// Item implements kv.Store. Where the item is not found, newest is that of the newest delete of the partition,
// or above: a tombstone does not say its version.
func (s *Store) Item(ctx context.Context, p wal.Partition, id, key []byte, now int64) (it kv.StoredItem, newest wal.Version, found bool, err error) {
	if err := s.Enter(ctx, p); err != nil {
		return it, newest, false, err
	}
	defer s.Leave()
	r, ok, err := s.one(ctx, p, id, key)
	if err != nil {
		return it, newest, false, err
	}
	if ok && visible(&r.version, now) {
		return r.cell.Copy(key, r.version, false), r.version, true, nil
	}
	newest = r.version
	if t := s.parts[p].gone.Load(); t > newest.Time {
		newest = wal.Version{Time: t, Class: wal.Deleted}
	}
	return it, newest, false, nil
}

// errMoved means that the chunks of an upload went while a page was read: its item was overwritten.
var errMoved = fmt.Errorf("%w: an uploaded value was replaced while it was read; read it again", consumers.ErrStoreAway)

// readAgain is how often a page is begun anew because of errMoved.
const readAgain = 3

// unmoved reads a page, and once more while an upload of it moves. lent: what was read of it has been handed
// out, so there is one try.
func unmoved[P any](lent bool, read func() (*P, error)) (page *P, err error) {
	for range readAgain + 1 {
		if page, err = read(); lent || !errors.Is(err, errMoved) {
			break
		}
	}
	return page, err
}

// Get implements kv.Store.
func (s *Store) Get(ctx context.Context, q *kv.Query) (*kv.Page, error) {
	if err := s.Enter(ctx, q.Partition); err != nil {
		return nil, err
	}
	defer s.Leave()
	if len(q.ID) > maxIDLen {
		return nil, fmt.Errorf("read record: id of %d bytes, at most %d", len(q.ID), maxIDLen)
	}
	return unmoved(q.Each != nil, func() (*kv.Page, error) { return s.get(ctx, q) })
}

func (s *Store) get(ctx context.Context, q *kv.Query) (*kv.Page, error) {
	r := q.Rest()
	if !q.HasKeys && r.Empty() {
		return &kv.Page{}, nil
	}
	c := s.cache.Load()
	if c == nil {
		return s.newPager(ctx, q.Partition, q.Limits()).read(q, &r)
	}
	page, ok, err := s.fromCache(ctx, q, &r)
	if ok {
		c.hits.Add(1)
	}
	if err != nil || ok {
		return page, err
	}
	c.misses.Add(1)
	w := s.newPager(ctx, q.Partition, q.Limits())
	w.fill = s.beginFill(c, q.Partition, q.ID)
	page, err = w.read(q, &r)
	if s.onRead != nil {
		s.onRead()
	}
	// Of a part of a record nothing is kept: the next part would find nothing of use.
	whole := err == nil && !page.More && wholeRecord(q, &r)
	return page, errors.Join(err, w.fill.end(err == nil && (q.HasKeys || whole), whole))
}

// read reads a page from Cassandra.
func (w *pager) read(q *kv.Query, r *kv.Range) (page *kv.Page, err error) {
	if q.HasKeys {
		return w.keys(q)
	}
	page = &kv.Page{}
	page.More, err = w.stretch(q.ID, r, q.Descending, &page.Items)
	page.LastKey, page.Partial = w.lastKey, w.Partial
	return page, err
}

// pager collects a page of a partition.
type pager struct {
	kv.Pager
	s       *reader
	ctx     context.Context
	p       wal.Partition
	lastKey []byte
	fill    *fill // nil: what is read is not kept
}

func (s *reader) newPager(ctx context.Context, p wal.Partition, limits kv.PageLimits) *pager {
	w := &pager{Pager: kv.NewPager(ctx, limits), s: s, ctx: ctx, p: p}
	w.Assemble = func(it *kv.StoredItem) error { return s.assemble(ctx, p, it) }
	return w
}

// atOnce bounds the rows that Cassandra sends at once.
const atOnce = 5000

// rows is how many rows are asked for: about as many as fill the page. How large they are is known from
// those that were read before.
func (w *pager) rows() int {
	size, n := max(w.s.itemBytes[w.p].Load(), 1), 100
	if size > 1 {
		n = (w.MaxBytes-w.Bytes)/int(size) + 1
	}
	if w.MaxItems > 0 {
		n = min(n, w.MaxItems-w.Items+1)
	}
	return min(max(n, 2), atOnce)
}

// noteSize learns how large an item is: each moves the mean by a sixteenth.
func (w *pager) noteSize(r *row) {
	at := &w.s.itemBytes[w.p]
	size, mean := int64(len(r.key)+len(r.cell.Value)+kv.ItemOverhead), at.Load()
	if mean == 0 {
		mean = size
	}
	at.Store(max(mean+(size-mean)/16, 1))
}

// take looks at a row, which may not be visible. more: the page ended before it.
func (w *pager) take(r *row, items *[]kv.StoredItem) (more bool, err error) {
	stop, err := w.Tick()
	if stop || err != nil {
		return stop, err
	}
	if visible(&r.version, w.Now) {
		if !w.Fits(r.key, &r.cell) {
			return true, nil
		}
		if err := w.Take(r.key, r.version, &r.cell, items); errors.Is(err, kv.ErrFull) {
			return true, nil
		} else if err != nil {
			return false, err
		}
		w.noteSize(r)
	}
	w.lastKey = append(w.lastKey[:0], r.key...)
	return false, nil
}

// stretch takes the items of a record in r that are visible. more says that it ended before the end.
func (w *pager) stretch(id []byte, r *kv.Range, descending bool, items *[]kv.StoredItem) (more bool, err error) {
	q := cassandrastore.Statement{CQL: itemColumns + " AND key >= ?", Args: []any{w.s.rows.Dataset, w.s.rows.Life, int(w.p), id, blob(r.Start)}}
	if !r.Open {
		q.CQL += " AND key < ?"
		q.Args = append(q.Args, blob(r.End))
	}
	if descending {
		q.CQL += " ORDER BY key DESC"
	}
	err = w.s.rows.Query(w.ctx, "read a record", q, w.rows(), func(scan func(dest ...any) error) (bool, error) {
		x, ok, err := scanRow(scan)
		if err != nil || !ok {
			return true, err
		}
		if w.fill != nil {
			w.fill.passed(&x)
		}
		more, err = w.take(&x, items)
		return !more, err
	})
	return more, err
}

// keysAtOnce is how many keys one statement asks for.
const keysAtOnce = 64

// keys takes items in the order in which they are asked for.
func (w *pager) keys(q *kv.Query) (*kv.Page, error) {
	page := &kv.Page{NextIndex: max(q.AfterIndex, 0)}
	for page.NextIndex < len(q.Keys) {
		n := min(len(q.Keys)-page.NextIndex, keysAtOnce, max(w.rows()-1, 1))
		wanted := q.Keys[page.NextIndex : page.NextIndex+n]
		found, err := w.find(q.ID, wanted)
		if err != nil {
			return nil, err
		}
		for _, key := range wanted {
			r, ok := found[string(key)]
			if w.fill != nil && ok {
				w.fill.seen(r, r.raw)
			} else if w.fill != nil {
				w.fill.missing(key)
			}
			if ok {
				page.More, err = w.take(r, &page.Items)
			} else {
				page.More, err = w.Tick()
			}
			if page.Partial = w.Partial; err != nil || page.More {
				return page, err
			}
			page.NextIndex, page.LastKey = page.NextIndex+1, append(page.LastKey[:0], key...)
		}
	}
	return page, nil
}

// find reads the cells of keys.
func (w *pager) find(id []byte, keys [][]byte) (map[string]*row, error) {
	q := cassandrastore.Statement{Args: []any{w.s.rows.Dataset, w.s.rows.Life, int(w.p), id}}
	if len(keys) == 1 {
		q.CQL = itemColumns + " AND key = ?"
		q.Args = append(q.Args, blob(keys[0]))
	} else {
		q.CQL = itemColumns + " AND key IN ?"
		all := make([][]byte, len(keys))
		for i, k := range keys {
			all[i] = blob(k)
		}
		q.Args = append(q.Args, all)
	}
	found := make(map[string]*row, len(keys))
	err := w.s.rows.Query(w.ctx, "read items", q, len(keys), func(scan func(dest ...any) error) (bool, error) {
		r, ok, err := scanRow(scan)
		if ok {
			found[string(r.key)] = &r
		}
		return true, err
	})
	return found, err
}

// ReadChunk implements kv.Store.
func (s *Store) ReadChunk(ctx context.Context, p wal.Partition, id kv.UploadID, index int) (data []byte, err error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	return s.readChunk(ctx, p, id, index)
}

func (s *reader) readChunk(ctx context.Context, p wal.Partition, id kv.UploadID, index int) (data []byte, err error) {
	if index < 0 || int64(index) >= 1<<31 {
		return nil, kv.ErrNoChunk
	}
	q := cassandrastore.Statement{CQL: chunkColumns + " AND idx = ?", Args: []any{s.rows.Dataset, s.rows.Life, int(p), id[:], index}}
	err = s.rows.Query(ctx, "read a chunk", q, 1, func(scan func(dest ...any) error) (bool, error) {
		_, data, err = scanChunk(id, scan)
		return false, err
	})
	if err == nil && data == nil {
		return nil, kv.ErrNoChunk
	}
	return data, err
}

const chunkColumns = "SELECT idx, data FROM kv_chunks_1 WHERE dataset = ? AND store = ? AND part = ? AND upload = ?"

func scanChunk(id kv.UploadID, scan func(dest ...any) error) (index int, data []byte, err error) {
	var row []byte
	if err := scan(&index, &row); err != nil {
		return 0, nil, err
	}
	if len(row) < 4 || binary.BigEndian.Uint32(row) != chunkSum(id, index, row[4:]) {
		return 0, nil, fmt.Errorf("%w: checksum of chunk %d of upload %s differs", wal.ErrCorrupt, index, id)
	}
	return index, row[4:], nil
}

// chunksAtOnce is how many chunks, of up to a MiB, Cassandra sends at once.
const chunksAtOnce = 4

// assemble puts the value of an upload together.
func (s *reader) assemble(ctx context.Context, p wal.Partition, it *kv.StoredItem) error {
	value, n := make([]byte, 0, it.Size), 0
	q := cassandrastore.Statement{CQL: chunkColumns, Args: []any{s.rows.Dataset, s.rows.Life, int(p), it.Upload[:]}}
	err := s.rows.Query(ctx, "read the chunks of an upload", q, chunksAtOnce, func(scan func(dest ...any) error) (bool, error) {
		index, data, err := scanChunk(it.Upload, scan)
		if err != nil || index != n || n == it.Chunks || int64(len(value)+len(data)) > it.Size {
			return false, err
		}
		value = append(value, data...)
		n++
		return true, nil
	})
	if err != nil {
		return err
	}
	if n != it.Chunks || int64(len(value)) != it.Size {
		return errMoved
	}
	it.Value = value
	return nil
}

// statementOf reads all of a record.
func statementOf(s *reader, p wal.Partition, id []byte) cassandrastore.Statement {
	return cassandrastore.Statement{CQL: itemColumns, Args: []any{s.rows.Dataset, s.rows.Life, int(p), id}}
}
