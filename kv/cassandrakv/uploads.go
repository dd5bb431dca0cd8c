package cassandrakv

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// The uploads of a partition are in the ledger, and in a table of Cassandra for who takes the partition over. A
// row has the offset that the partition was applied to, plus one, as its timestamp: of two processes the one
// that was stopped long ago does not win.

const ofUploads = " WHERE dataset = ? AND store = ? AND part = ?"

// uploadRow is the change of an upload's row; nil removes it.
func (s *Store) uploadRow(p wal.Partition, id kv.UploadID, u *kv.StoredUpload, applied wal.Offset) cassandrastore.Statement {
	at := int64(applied) + 1
	if u == nil {
		return cassandrastore.Statement{
			CQL:  "DELETE FROM kv_uploads_1 USING TIMESTAMP ?" + ofUploads + " AND upload = ?",
			Args: []any{at, s.rows.Dataset, s.rows.Life, int(p), id[:]},
		}
	}
	return cassandrastore.Statement{
		CQL:  "UPDATE kv_uploads_1 USING TIMESTAMP ? SET about = ?" + ofUploads + " AND upload = ?",
		Args: []any{at, ledger.EncodeUpload(u), s.rows.Dataset, s.rows.Life, int(p), id[:]},
	}
}

const uploadsAtOnce = 500

// eachShared calls f with every upload of a partition that Cassandra has.
func (s *Store) eachShared(ctx context.Context, p wal.Partition, f func(u *kv.StoredUpload) error) error {
	q := cassandrastore.Statement{CQL: "SELECT upload, about FROM kv_uploads_1" + ofUploads, Args: []any{s.rows.Dataset, s.rows.Life, int(p)}}
	return s.rows.Query(ctx, "read the uploads of a partition", q, uploadsAtOnce, func(scan func(dest ...any) error) (bool, error) {
		var raw, about []byte
		if err := scan(&raw, &about); err != nil {
			return false, err
		}
		var id kv.UploadID
		if len(raw) != len(id) {
			return false, fmt.Errorf("%w: an upload of %d bytes", wal.ErrCorrupt, len(raw))
		}
		copy(id[:], raw)
		u, err := ledger.DecodeUpload(id, about)
		if err != nil {
			return false, err
		}
		return true, f(&u)
	})
}

// shareUploads writes the uploads that the ledger has to Cassandra: it may be a copy of one that had no rows there.
func (s *Store) shareUploads(ctx context.Context, p wal.Partition) error {
	st, err := s.State(ctx, p)
	if err != nil {
		return err
	}
	var all []cassandrastore.Statement
	err = s.EachUpload(p, func(u *kv.StoredUpload) error {
		all = append(all, s.uploadRow(p, u.ID, u, st.Applied))
		if len(all) < maxStatements {
			return nil
		}
		err := s.execAll(ctx, "share the uploads of a partition", all)
		all = all[:0]
		return err
	})
	if err != nil || len(all) == 0 {
		return err
	}
	return s.execAll(ctx, "share the uploads of a partition", all)
}
