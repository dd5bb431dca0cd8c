package cassandrakv

import (
	"context"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// reader reads the items of a store from Cassandra alone.
type reader struct {
	rows *cassandrastore.Rows
	// itemBytes is about what an item of a page has, with its key, by partition; 0: not known.
	itemBytes []atomic.Int64
}

func newReader(rows *cassandrastore.Rows, partitions int) *reader {
	return &reader{rows: rows, itemBytes: make([]atomic.Int64, partitions)}
}

// Reader reads the items of another process's store: what it has applied, and perhaps a part of what it is
// applying. Safe for concurrent use.
type Reader struct{ r *reader }

// NewReader returns a reader of the rows of a dataset and a life (hexadecimal), as Store.Place says them.
func NewReader(c *cassandrastore.Cluster, dataset, life string, partitions int) (*Reader, error) {
	raw, err := hex.DecodeString(life)
	if err != nil {
		return nil, fmt.Errorf("the rows of a store: %w", err)
	}
	return &Reader{newReader(&cassandrastore.Rows{Cluster: c, Dataset: dataset, Life: raw}, partitions)}, nil
}

// Get reads a page of one record, as Store.Get does.
func (r *Reader) Get(ctx context.Context, q *kv.Query) (*kv.Page, error) {
	if int64(q.Partition) >= int64(len(r.r.itemBytes)) {
		return nil, fmt.Errorf("%w: %d", wal.ErrNoPartition, q.Partition)
	}
	within := q.Rest()
	return unmoved(q.Each != nil, func() (*kv.Page, error) { return r.r.newPager(ctx, q.Partition, q.Limits()).read(q, &within) })
}

// Place names the rows of the store; see NewReader.
func (s *Store) Place() (dataset, life string) {
	return s.rows.Dataset, hex.EncodeToString(s.rows.Life)
}
