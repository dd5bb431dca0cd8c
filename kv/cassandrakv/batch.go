package cassandrakv

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

const (
	maxIDLen = math.MaxUint16 / 2 // Cassandra's whole partition key has at most 65,535 bytes

	// A batch of statements ends at so many, or so many bytes: Cassandra takes 16 MiB at once.
	maxStatements     = 1000
	maxStatementBytes = 4 << 20
)

// batch is a kv.Batch. What it changes of items is kept until Commit.
type batch struct {
	ledger.Batch
	s       *Store
	p       wal.Partition
	records map[string]*record
	order   []*record
	chunks  []chunk
	dropped []kv.UploadID
	uploads map[kv.UploadID]*kv.StoredUpload // as they are after the batch; nil of one that is dropped
	gone    int64                            // the largest time of a delete, or of a write that ends
}

// record is what a batch changes of one record.
type record struct {
	id     []byte
	items  map[string]*put
	order  []*put
	ranges []rangeDelete
	put    *int64 // the largest time of a put
	unput  *int64 // the largest time of a delete of all of it that nothing in the partition is newer than
}

type put struct {
	key     []byte
	version wal.Version
	cell    []byte // nil: a delete
}

type rangeDelete struct {
	within kv.Range
	time   int64
}

type chunk struct {
	upload kv.UploadID
	index  int
	data   []byte
}

// Begin implements kv.Store. Where the partition does not exist, Commit says so.
func (s *Store) Begin(p wal.Partition) kv.Batch {
	return &batch{Batch: s.Ledger.Begin(p), s: s, p: p, records: make(map[string]*record)}
}

func (b *batch) record(id []byte) *record {
	if len(id) > maxIDLen {
		b.SetErr(fmt.Errorf("id of %d bytes, at most %d", len(id), maxIDLen))
	}
	r := b.records[string(id)]
	if r == nil {
		r = &record{id: bytes.Clone(id), items: make(map[string]*put)}
		b.records[string(id)] = r
		b.order = append(b.order, r)
	}
	return r
}

// Put implements kv.Batch. Of two writes of a key in one batch the newer is sent.
func (b *batch) Put(id []byte, v wal.Version, it *kv.StoredItem) {
	if !b.Ready() {
		return
	}
	r := b.record(id)
	if v.Class != wal.Live {
		b.gone = max(b.gone, v.Time)
	}
	if v.Class != wal.Deleted {
		r.put = larger(r.put, v.Time)
	}
	w := r.items[string(it.Key)]
	switch {
	case w == nil:
		w = &put{key: append([]byte{}, it.Key...)}
		r.items[string(w.key)] = w
		r.order = append(r.order, w)
	case v.Compare(w.version) < 0:
		return
	}
	w.version, w.cell = v, nil
	if v.Class != wal.Deleted {
		w.cell = appendCell(&v, it)
	}
}

func larger(t *int64, u int64) *int64 {
	if t != nil && *t >= u {
		return t
	}
	return &u
}

// DeleteRange implements kv.Batch.
func (b *batch) DeleteRange(id []byte, r kv.Range, v wal.Version, newest bool) {
	if !b.Ready() {
		return
	}
	b.gone = max(b.gone, v.Time)
	if r.Empty() {
		return
	}
	rec := b.record(id)
	if r.Open && len(r.Start) == 0 && newest {
		rec.unput = larger(rec.unput, v.Time)
	}
	within := kv.Range{Start: append([]byte{}, r.Start...), End: append([]byte{}, r.End...), Open: r.Open}
	rec.ranges = append(rec.ranges, rangeDelete{within, v.Time})
}

// DeleteRecord implements kv.Batch.
func (b *batch) DeleteRecord(id []byte, v wal.Version, newest bool) {
	b.DeleteRange(id, kv.Range{Open: true}, v, newest)
}

// SaveChunk implements kv.Batch.
func (b *batch) SaveChunk(id kv.UploadID, index int, data []byte) {
	if !b.Ready() {
		return
	}
	if index < 0 || int64(index) > math.MaxInt32 {
		b.SetErr(fmt.Errorf("chunk %d of an upload", index))
		return
	}
	row := make([]byte, 4+len(data))
	copy(row[4:], data)
	binary.BigEndian.PutUint32(row, chunkSum(id, index, data))
	b.chunks = append(b.chunks, chunk{id, index, row})
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkSum covers the place of a chunk, so that one in another's place is noticed.
func chunkSum(id kv.UploadID, index int, data []byte) uint32 {
	at := binary.BigEndian.AppendUint32(append([]byte(nil), id[:]...), uint32(index))
	return crc32.Update(crc32.Checksum(at, castagnoli), castagnoli, data)
}

// SaveUpload implements kv.Batch.
func (b *batch) SaveUpload(u *kv.StoredUpload) {
	if b.Ready() {
		b.Batch.SaveUpload(u)
		kept := *u
		b.upload(u.ID, &kept)
	}
}

// DropUpload implements kv.Batch.
func (b *batch) DropUpload(id kv.UploadID) {
	if b.Ready() {
		b.Batch.DropUpload(id)
		b.dropped = append(b.dropped, id)
		b.upload(id, nil)
	}
}

func (b *batch) upload(id kv.UploadID, u *kv.StoredUpload) {
	if b.uploads == nil {
		b.uploads = make(map[kv.UploadID]*kv.StoredUpload)
	}
	b.uploads[id] = u
}

// Empty implements consumers.Batch.
func (b *batch) Empty() bool { return b.Batch.Empty() && len(b.order) == 0 && len(b.chunks) == 0 }

// Commit implements kv.Batch. Cassandra has everything before the ledger has the position.
func (b *batch) Commit(ctx context.Context, st kv.State) error {
	defer b.Abort()
	if !b.Ready() {
		return b.Batch.Commit(ctx, st)
	}
	if err := b.s.Enter(ctx, b.p); err != nil {
		return err
	}
	defer b.s.Leave()
	part := b.s.parts[b.p]
	part.touched.write(b.order)
	defer part.touched.written(b.order)
	if st.Applied > part.shared {
		if err := b.write(ctx, part, &st); err != nil {
			return fmt.Errorf("partition %d: %w", b.p, err)
		}
	}
	if b.s.onWritten != nil {
		b.s.onWritten()
	}
	if c := b.s.cache.Load(); c != nil {
		if err := b.updateCache(c, part.gone.Load()); err != nil {
			return err
		}
	}
	gone := max(b.gone, part.gone.Load())
	if b.gone == gone && gone > 0 {
		b.SetErr(setGone(b.W, b.p, gone))
	}
	if err := b.Batch.Commit(ctx, st); err != nil {
		return err
	}
	part.gone.Store(gone)
	return nil
}

// Abort implements consumers.Batch.
func (b *batch) Abort() {
	b.records, b.order, b.chunks, b.dropped, b.uploads = nil, nil, nil, nil, nil
	b.Batch.Abort()
}

// write sends all changes. Those of one record go one after the other, those of several side by side.
func (b *batch) write(ctx context.Context, part *partition, st *kv.State) error {
	g := newGroup(ctx)
	var index [buckets][]cassandrastore.Statement // a bucket is a partition of its table: one batch
	for _, r := range b.order {
		// In the goroutine of the partition: it alone knows what is in the index.
		bucket := bucketOf(r.id)
		for _, q := range part.indexing(r) {
			q.Args = append(q.Args, b.s.rows.Dataset, b.s.rows.Life, int(b.p), bucket, len(r.id), r.id)
			index[bucket] = append(index[bucket], q)
		}
		all := b.s.statements(b.p, r, st.LogTime)
		g.run(func(ctx context.Context) error { return b.s.execAll(ctx, "write a record", all) })
	}
	for _, all := range index {
		if len(all) > 0 {
			g.run(func(ctx context.Context) error { return b.s.execAll(ctx, "write the index of records", all) })
		}
	}
	for i := range b.chunks {
		c := &b.chunks[i]
		g.run(func(ctx context.Context) error {
			return b.s.rows.Exec(ctx, "write a chunk", cassandrastore.Statement{
				CQL:  "UPDATE kv_chunks_1 USING TIMESTAMP 1 SET data = ? WHERE dataset = ? AND store = ? AND part = ? AND upload = ? AND idx = ?",
				Args: []any{c.data, b.s.rows.Dataset, b.s.rows.Life, int(b.p), c.upload[:], c.index},
			})
		})
	}
	if len(b.uploads) > 0 {
		rows := make([]cassandrastore.Statement, 0, len(b.uploads))
		for id, u := range b.uploads {
			rows = append(rows, b.s.uploadRow(b.p, id, u, st.Applied))
		}
		g.run(func(ctx context.Context) error { return b.s.execAll(ctx, "write uploads", rows) })
	}
	if err := g.wait(); err != nil {
		return err
	}
	for _, id := range b.dropped { // above the chunks of this batch, by timestamp
		if err := b.s.dropChunks(ctx, b.p, id); err != nil {
			return err
		}
	}
	for _, r := range b.order {
		part.indexed(r)
	}
	return nil
}

// execAll runs the statements of one partition of a table in batches.
func (s *Store) execAll(ctx context.Context, what string, all []cassandrastore.Statement) error {
	begin, size := 0, 0
	for i := range all {
		for _, a := range all[i].Args {
			if b, ok := a.([]byte); ok {
				size += len(b)
			}
		}
		if i+1 < len(all) && i+1-begin < maxStatements && size < maxStatementBytes {
			continue
		}
		if err := s.rows.Exec(ctx, what, all[begin:i+1]...); err != nil {
			return err
		}
		begin, size = i+1, 0
	}
	return nil
}

const ofItem = " WHERE dataset = ? AND store = ? AND part = ? AND id = ?"

// statements are the changes of a record. Their order does not matter: each has its timestamp.
func (s *Store) statements(p wal.Partition, r *record, logTime int64) []cassandrastore.Statement {
	all := make([]cassandrastore.Statement, 0, len(r.ranges)+len(r.order))
	for i := range r.ranges {
		all = append(all, s.deleteRange(p, r.id, &r.ranges[i]))
	}
	for _, w := range r.order {
		if w.cell == nil {
			all = append(all, cassandrastore.Statement{
				CQL:  "DELETE FROM kv_items_1 USING TIMESTAMP ?" + ofItem + " AND key = ?",
				Args: []any{w.version.Time, s.rows.Dataset, s.rows.Life, int(p), r.id, w.key},
			})
			continue
		}
		all = append(all, cassandrastore.Statement{
			CQL:  "UPDATE kv_items_1 USING TIMESTAMP ? AND TTL ? SET cell = ?" + ofItem + " AND key = ?",
			Args: []any{w.version.Time, ttl(&w.version, logTime), w.cell, s.rows.Dataset, s.rows.Life, int(p), r.id, w.key},
		})
	}
	return all
}

func (s *Store) deleteRange(p wal.Partition, id []byte, d *rangeDelete) cassandrastore.Statement {
	if d.within.Open && len(d.within.Start) == 0 {
		return s.deleteRecord(p, id, d.time)
	}
	q := cassandrastore.Statement{
		CQL:  "DELETE FROM kv_items_1 USING TIMESTAMP ?" + ofItem + " AND key >= ?",
		Args: []any{d.time, s.rows.Dataset, s.rows.Life, int(p), id, d.within.Start},
	}
	if !d.within.Open {
		q.CQL += " AND key < ?"
		q.Args = append(q.Args, d.within.End)
	}
	return q
}

func (s *Store) deleteRecord(p wal.Partition, id []byte, time int64) cassandrastore.Statement {
	return cassandrastore.Statement{
		CQL:  "DELETE FROM kv_items_1 USING TIMESTAMP ?" + ofItem,
		Args: []any{time, s.rows.Dataset, s.rows.Life, int(p), id},
	}
}

func (s *Store) dropChunks(ctx context.Context, p wal.Partition, id kv.UploadID) error {
	return s.rows.Exec(ctx, "drop the chunks of an upload", cassandrastore.Statement{
		CQL:  "DELETE FROM kv_chunks_1 USING TIMESTAMP 2 WHERE dataset = ? AND store = ? AND part = ? AND upload = ?",
		Args: []any{s.rows.Dataset, s.rows.Life, int(p), id[:]},
	})
}
