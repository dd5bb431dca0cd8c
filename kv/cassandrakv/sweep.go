package cassandrakv

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// recordsASweep is how many records a round of sweeps looks at in Cassandra, at a read each. A round a minute
// is a read a second: rows of the index that are left over cost a scan a read each, and nobody else anything.
const recordsASweep = 64

// Sweep implements kv.Store. Cassandra frees items and tombstones by itself; here go tokens, uploads that nobody
// can see, and rows of the index whose records have nothing left.
func (s *Store) Sweep(ctx context.Context, r *kv.SweepRequest) (res kv.SweepResult, err error) {
	from, err := decodeCursor(r)
	if err != nil {
		return res, err
	}
	tokens, err := s.Ledger.Sweep(ctx, r.Partition, r.Horizon, r.Limit, func(sw *pebblestore.Sweep[kv.State]) (err error) {
		if res.Cursor, res.Uploads, err = s.sweepUploads(ctx, sw, r, from); err == nil && res.Cursor == nil {
			err = errors.Join(s.sweepRecords(ctx, sw, r), s.sweepCache(r.Partition))
		}
		res.Looked = sw.Looked
		return err
	})
	if err != nil {
		return kv.SweepResult{}, err
	}
	res.Tokens = int(tokens)
	return res, nil
}

// decodeCursor returns the key of the upload that a sweep goes on with.
func decodeCursor(r *kv.SweepRequest) (from []byte, err error) {
	if len(r.Cursor) > 0 && (len(r.Cursor) != pebblestore.TableLen+len(wal.TokenID{}) || r.Cursor[0] != ledger.TableUpload) {
		return nil, fmt.Errorf("%w cursor of a sweep", wal.ErrMalformed)
	}
	if len(r.Cursor) == 0 {
		return nil, nil
	}
	return bytes.Clone(r.Cursor), nil
}

func (s *Store) sweepUploads(ctx context.Context, sw *pebblestore.Sweep[kv.State], r *kv.SweepRequest, from []byte) ([]byte, int, error) {
	return s.Ledger.SweepUploads(sw, r.Partition, from, func(u *kv.StoredUpload) (bool, error) {
		if !u.Committed {
			return u.Expiry <= r.LogTime, nil
		}
		x, ok, err := s.one(ctx, r.Partition, u.Record, u.Key)
		return err == nil && (!ok || x.cell.UploadID() != u.ID), err
	}, func(u *kv.StoredUpload) error { return s.dropUpload(ctx, r.Partition, u.ID) })
}

func (s *Store) dropUpload(ctx context.Context, p wal.Partition, id kv.UploadID) error {
	if err := s.dropChunks(ctx, p, id); err != nil {
		return err
	}
	st, err := s.State(ctx, p)
	if err != nil {
		return err
	}
	return s.rows.Exec(ctx, "drop an upload", s.uploadRow(p, id, nil, st.Applied))
}

// sweepRecords takes records without an item out of the index: as of the horizon, below which no write comes
// any more. Every later one has its row written again, since the record is not known to be there. It goes on
// where the last round ended.
func (s *Store) sweepRecords(ctx context.Context, sw *pebblestore.Sweep[kv.State], r *kv.SweepRequest) error {
	part := s.parts[r.Partition]
	if part.gone.Load() == 0 || r.Horizon <= 0 {
		return nil // nothing was ever deleted
	}
	ids := s.newIndexWalk(r.Partition, part.sweptTo)
	for range recordsASweep {
		more, err := sw.Look()
		if err != nil || !more {
			return err
		}
		id, err := ids.next(ctx)
		if err != nil {
			return err
		}
		if id == nil {
			part.sweptTo = nil
			return nil
		}
		if err := s.sweepRecord(ctx, part, r, id); err != nil {
			return err
		}
		part.sweptTo = id
	}
	return nil
}

func (s *Store) sweepRecord(ctx context.Context, part *partition, r *kv.SweepRequest, id []byte) error {
	there, err := s.hasItems(ctx, r.Partition, id)
	if err != nil || there {
		return err
	}
	part.known.remove(id)
	part.unindexed = max(part.unindexed, r.Horizon)
	return s.rows.Exec(ctx, "write the index of records", cassandrastore.Statement{
		CQL:  unindexRow,
		Args: []any{r.Horizon, s.rows.Dataset, s.rows.Life, int(r.Partition), bucketOf(id), len(id), id},
	})
}

func (s *reader) hasItems(ctx context.Context, p wal.Partition, id []byte) (there bool, err error) {
	q := statementOf(s, p, id)
	q.CQL += " LIMIT 1"
	err = s.rows.Query(ctx, "look whether a record is there", q, 1, func(scan func(dest ...any) error) (bool, error) {
		_, there, err = scanRow(scan)
		return false, err
	})
	return there, err
}
