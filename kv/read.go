package kv

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// ReadPoint is what a read must see.
type ReadPoint = wal.ReadPoint

const (
	// MaxPageBytes is the largest page, which a client of gRPC takes as it comes.
	MaxPageBytes = 4 << 20
	// MaxPageValue is the largest value that comes on a page: there is room for what
	// surrounds it. A larger one is streamed.
	MaxPageValue = MaxPageBytes - 64<<10
)

// Get reads a page of one record. q.Partition, q.Now, q.Descending (when not set
// by the caller), q.InlineLimit, q.AnyAge and q.Deadline are filled in, and q.Each is
// wrapped: q is for one call. It waits until the
// store is as fresh as point asks: *wal.BehindError when that takes longer than
// ctx allows, *ParkedError when the record's key is parked and the read asked
// for more than EVENTUAL.
func (db *DB) Get(ctx context.Context, q *Query, point *ReadPoint) (*Page, wal.Seen, error) {
	q.Partition = db.cfg.Stream.PartitionOf(q.ID)
	barrier := db.barrier(point)
	if err := db.wait(ctx, q.Partition, q.ID, point); err != nil {
		return nil, wal.Seen{}, err
	}
	q.Now = db.ReadTime(q.Partition)
	q.InlineLimit = MaxPageValue
	q.AnyAge = point.Consistency == wal.Eventual && len(point.After.Offsets) == 0
	q.Deadline = db.early(ctx)
	seen := db.cfg.Stream.Seen(q.Partition, barrier)
	var newest int64
	if each := q.Each; each != nil {
		q.Each = func(it *StoredItem) error {
			newest = max(newest, it.Version.Time)
			return each(it)
		}
	}
	page, err := db.cfg.Owner.Get(ctx, q)
	if err != nil {
		return nil, wal.Seen{}, err
	}
	for i := range page.Items {
		newest = max(newest, page.Items[i].Version.Time)
	}
	db.cfg.Clock.Observe(newest)
	return page, seen, nil
}

// wait returns once p can serve a read of key at point.
func (db *DB) wait(ctx context.Context, p wal.Partition, key []byte, point *ReadPoint) error {
	if err := db.cfg.Stream.WaitRead(ctx, p, point); err != nil {
		return err
	}
	if point.Consistency == wal.Eventual && len(point.After.Offsets) == 0 {
		return nil
	}
	return db.ParkedErr(ctx, p, key)
}

// barrier is the time of a read that begins now and waits for a barrier, 0 of
// one that does not; see wal.Stream.Seen.
func (db *DB) barrier(point *ReadPoint) int64 {
	if point.Consistency != wal.Latest {
		return 0
	}
	return db.cfg.Now().UnixMicro()
}

// early is when a page is cut so that it arrives before the caller's deadline and
// within the namespace's objective: a fifth of the time that is left is kept for
// the way back.
func (db *DB) early(ctx context.Context) time.Time {
	left := db.cfg.Options().ReadMax
	if d, ok := ctx.Deadline(); ok && (left == 0 || time.Until(d) < left) {
		left = time.Until(d)
	}
	if left == 0 {
		return time.Time{}
	}
	return time.Now().Add(left * 4 / 5)
}

// Item reads one item without its value when that was uploaded. ErrNotFound.
func (db *DB) Item(ctx context.Context, id, key []byte, point *ReadPoint) (StoredItem, wal.Seen, error) {
	page, seen, err := db.Get(ctx, &Query{ID: id, Keys: [][]byte{key}, HasKeys: true, MaxBytes: MaxPageBytes}, point)
	if err != nil {
		return StoredItem{}, wal.Seen{}, err
	}
	if len(page.Items) == 0 {
		return StoredItem{}, seen, ErrNotFound
	}
	return page.Items[0], seen, nil
}

// ReadChunk reads a piece of an uploaded value.
func (db *DB) ReadChunk(ctx context.Context, id []byte, it *StoredItem, index int) ([]byte, error) {
	return db.cfg.Owner.ReadChunk(ctx, db.cfg.Stream.PartitionOf(id), it.Upload, index)
}

// Scan reads a page of one partition, as Get does. Parked reports for each record
// whether its key is parked.
func (db *DB) Scan(ctx context.Context, q *ScanQuery, point *ReadPoint) (page *ScanPage, parked []bool, seen wal.Seen, err error) {
	barrier := db.barrier(point)
	if err := db.cfg.Stream.WaitRead(ctx, q.Partition, point); err != nil {
		return nil, nil, wal.Seen{}, err
	}
	q.Now = db.ReadTime(q.Partition)
	q.InlineLimit = MaxPageValue
	q.Deadline = db.early(ctx)
	seen = db.cfg.Stream.Seen(q.Partition, barrier)
	if page, err = db.cfg.Owner.Scan(ctx, q); err != nil {
		return nil, nil, wal.Seen{}, err
	}
	parked = make([]bool, len(page.Records))
	for i := range page.Records {
		if _, parked[i], err = db.Owner.Parked(ctx, q.Partition, page.Records[i].ID); err != nil {
			return nil, nil, wal.Seen{}, err
		}
	}
	return page, parked, seen, nil
}

// Chunk appends a piece of an upload. Its place is its identity, so it may be
// sent again.
func (db *DB) Chunk(ctx context.Context, id []byte, upload UploadID, index int, data []byte) (wal.Offset, error) {
	return db.untokened(ctx, id, Mutation{Op: OpChunk, ID: id, Upload: Upload{ID: upload, Index: index, Data: data}})
}

// AbortUpload gives an upload up; unknown and committed ones are left alone.
func (db *DB) AbortUpload(ctx context.Context, id []byte, upload UploadID) (wal.Offset, error) {
	return db.untokened(ctx, id, Mutation{Op: OpAbortUpload, ID: id, Upload: Upload{ID: upload}})
}

func (db *DB) untokened(ctx context.Context, id []byte, m Mutation) (wal.Offset, error) {
	rec := wal.Record{
		Kind: wal.KindKV, RoutingKey: id, NamespaceVersion: db.cfg.Options().Version, AcceptedAt: db.cfg.Now().UnixMicro(),
		Payload: AppendPayload(nil, &Payload{Calls: []Call{{Mutations: []Mutation{m}}}}),
	}
	return db.cfg.Stream.Append(ctx, db.cfg.Stream.PartitionOf(id), &rec)
}

// FindUpload returns a staged upload by its id, whichever partition it is in.
func (db *DB) FindUpload(ctx context.Context, upload UploadID) (StoredUpload, error) {
	for i := range db.cfg.Stream.Info().Partitions {
		u, ok, err := db.cfg.Owner.Upload(ctx, wal.Partition(i), upload)
		if err != nil {
			return StoredUpload{}, err
		}
		if ok {
			return u, nil
		}
	}
	return StoredUpload{}, ErrUploadUnknown
}
