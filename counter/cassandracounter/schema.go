package cassandracounter

import (
	"context"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// buckets is how many partitions of a table the rows of one partition of a log are spread over: ten million counters
// of 100 bytes in each of 12 partitions are 16 MB in each.
const buckets = 64

// statusBucket has one row, of no name: up to where the partition is published.
const statusBucket = -1

// bucketOf takes other bits of the hash than those that chose the partition of the log.
func bucketOf(key []byte) int { return int(xxhash.Sum64(key) >> 32 % buckets) }

// A row is overwritten again and again, and read one at a time or all of a bucket: levels keep the number of files small
// that a read looks into. BLOCKING read repair has what a quorum showed once shown by every later one.
const options = "compaction = {'class': 'LeveledCompactionStrategy'} AND read_repair = 'BLOCKING' AND gc_grace_seconds = 864000 AND default_time_to_live = 0"

func columns(own ...cassandrastore.Column) []cassandrastore.Column {
	return append([]cassandrastore.Column{{Name: "dataset", Type: "text"}, {Name: "store", Type: "blob"}, {Name: "part", Type: "int"}}, own...)
}

// Tables are what a cluster has to have for stores of this package.
var Tables = []*cassandrastore.Table{
	{
		Name: "counter_rows_1",
		Columns: columns(cassandrastore.Column{Name: "bucket", Type: "int"}, cassandrastore.Column{Name: "name", Type: "blob"},
			cassandrastore.Column{Name: "count", Type: "blob"}),
		Key: "(dataset, store, part, bucket), name", Options: options,
		Forget: forget,
	},
	{
		Name: "counter_windows_1",
		Columns: columns(cassandrastore.Column{Name: "life", Type: "bigint"}, cassandrastore.Column{Name: "seconds", Type: "bigint"},
			cassandrastore.Column{Name: "start", Type: "bigint"}, cassandrastore.Column{Name: "record", Type: "bigint"}, cassandrastore.Column{Name: "sum", Type: "blob"}),
		Key: "(dataset, store, part, life), seconds, start, record", Options: options,
	},
	{
		Name: "counter_reservations_1",
		Columns: columns(cassandrastore.Column{Name: "bucket", Type: "int"}, cassandrastore.Column{Name: "id", Type: "blob"},
			cassandrastore.Column{Name: "about", Type: "blob"}),
		Key: "(dataset, store, part, bucket), id", Options: options,
	},
}

const (
	ofBucket = " WHERE dataset = ? AND store = ? AND part = ? AND bucket = ?"
	ofLife   = " WHERE dataset = ? AND store = ? AND part = ? AND life = ?"
)

// afterAll is the timestamp of what drops a store: above that of every write.
const afterAll = 1 << 62

// partitionsFile says how many partitions a store of counters has.
const partitionsFile = "COUNTER_PARTITIONS"

// forget drops the rows of a store.
func forget(ctx context.Context, r *cassandrastore.Rows, dir string) error {
	n, err := clusterstore.PartitionsIn(dir, partitionsFile)
	if err != nil {
		return fmt.Errorf("drop the counters of a store: %w", err)
	}
	for p := range wal.Partition(n) {
		if err := forgetPartition(ctx, &rows{r, p}); err != nil {
			return err
		}
	}
	return nil
}

func forgetPartition(ctx context.Context, r *rows) error {
	err := r.Counters(ctx, func(_ []byte, row *counter.Row) error {
		return r.Exec(ctx, "drop the windows of a counter", r.dropWindows(row.ID, afterAll))
	})
	if err != nil {
		return err
	}
	for bucket := statusBucket; bucket < buckets; bucket++ {
		for _, table := range []string{"counter_rows_1", "counter_reservations_1"} {
			err := r.Exec(ctx, "drop the counters of a store", cassandrastore.Statement{
				CQL: "DELETE FROM " + table + " USING TIMESTAMP ?" + ofBucket, Args: r.args(int64(afterAll), bucket),
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
