package cassandrakv

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

// whoseRows are the columns that every partition key begins with.
var whoseRows = []cassandrastore.Column{{Name: "dataset", Type: "text"}, {Name: "store", Type: "blob"}, {Name: "part", Type: "int"}}

func columns(own ...cassandrastore.Column) []cassandrastore.Column {
	return append(append([]cassandrastore.Column(nil), whoseRows...), own...)
}

// A store reads one record at a time and overwrites: levels keep the number of files that a read looks into
// small. BLOCKING read repair has what a quorum showed once shown by every later one.
const options = "compaction = {'class': 'LeveledCompactionStrategy'} AND read_repair = 'BLOCKING' AND gc_grace_seconds = 864000 AND default_time_to_live = 0"

// Tables are what a cluster has to have for stores of this package.
var Tables = []*cassandrastore.Table{
	{
		Name: "kv_items_1", Columns: columns(cassandrastore.Column{Name: "id", Type: "blob"}, cassandrastore.Column{Name: "key", Type: "blob"}, cassandrastore.Column{Name: "cell", Type: "blob"}),
		Key: "(dataset, store, part, id), key", Options: options,
	},
	{
		Name: "kv_records_1", Columns: columns(
			cassandrastore.Column{Name: "bucket", Type: "int"}, cassandrastore.Column{Name: "len", Type: "int"}, cassandrastore.Column{Name: "id", Type: "blob"}, cassandrastore.Column{Name: "there", Type: "boolean"}),
		Key: "(dataset, store, part, bucket), len, id", Options: options,
		Forget: forget,
	},
	{
		Name: "kv_chunks_1", Columns: columns(cassandrastore.Column{Name: "upload", Type: "blob"}, cassandrastore.Column{Name: "idx", Type: "int"}, cassandrastore.Column{Name: "data", Type: "blob"}),
		Key: "(dataset, store, part, upload), idx", Options: options,
	},
	{
		Name: "kv_uploads_1", Columns: columns(cassandrastore.Column{Name: "upload", Type: "blob"}, cassandrastore.Column{Name: "about", Type: "blob"}),
		Key: "(dataset, store, part), upload", Options: options,
	},
}

// afterAll is the timestamp of what drops a store, microseconds since 1970: above that of every write.
const afterAll = 1 << 62

// partitionsFile says how many partitions a store of items has.
const partitionsFile = "PARTITIONS"

// forget drops the rows of a store: the items of the records that the index names, the chunks of the
// uploads that its ledger knows, and the index.
func forget(ctx context.Context, r *cassandrastore.Rows, dir string) error {
	n, err := clusterstore.PartitionsIn(dir, partitionsFile)
	if err != nil {
		return fmt.Errorf("drop the rows of a store: %w", err)
	}
	if n == 0 {
		return nil // nothing was ever written
	}
	l, err := ledger.Open(ledger.Config{Dir: dir, Partitions: n}, "ledger of a kv store in Cassandra")
	if err != nil {
		return fmt.Errorf("drop the rows of a store: %w", err)
	}
	s := &Store{Ledger: l, reader: newReader(r, n), parts: newParts(n)}
	for p := range wal.Partition(n) {
		if err = s.forgetPartition(ctx, p); err != nil {
			break
		}
	}
	if closeErr := l.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (s *Store) forgetPartition(ctx context.Context, p wal.Partition) error {
	ids := s.newIndexWalk(p, nil)
	for {
		id, err := ids.next(ctx)
		if err != nil {
			return err
		}
		if id == nil {
			break
		}
		if err := s.rows.Exec(ctx, "drop a record", s.deleteRecord(p, id, afterAll)); err != nil {
			return err
		}
	}
	uploads, err := s.uploadsOf(p)
	if err == nil { // those that another process has
		err = s.eachShared(ctx, p, func(u *kv.StoredUpload) error {
			uploads = append(uploads, u.ID)
			return nil
		})
	}
	if err != nil {
		return err
	}
	err = s.rows.Exec(ctx, "drop the uploads of a store", cassandrastore.Statement{
		CQL: "DELETE FROM kv_uploads_1 USING TIMESTAMP ?" + ofUploads, Args: []any{int64(afterAll), s.rows.Dataset, s.rows.Life, int(p)},
	})
	if err != nil {
		return err
	}
	for _, u := range uploads {
		if err := s.dropChunks(ctx, p, u); err != nil {
			return err
		}
	}
	for bucket := range buckets {
		if err := s.rows.Exec(ctx, "drop the index of a store", cassandrastore.Statement{
			CQL:  "DELETE FROM kv_records_1 USING TIMESTAMP ? WHERE dataset = ? AND store = ? AND part = ? AND bucket = ?",
			Args: []any{int64(afterAll), s.rows.Dataset, s.rows.Life, int(p), bucket},
		}); err != nil {
			return err
		}
	}
	return nil
}
