package cassandracounter

import (
	"context"
	"encoding/hex"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

// Reader reads counters that another process has published. Safe for concurrent use.
type Reader struct {
	rows       *cassandrastore.Rows
	partitions int
}

// NewReader returns a reader of the rows of a dataset and a life (hexadecimal), as Store.Place says them.
func NewReader(c *cassandrastore.Cluster, dataset, life string, partitions int) (*Reader, error) {
	raw, err := hex.DecodeString(life)
	if err != nil {
		return nil, fmt.Errorf("the rows of a store: %w", err)
	}
	return &Reader{&cassandrastore.Rows{Cluster: c, Dataset: dataset, Life: raw}, partitions}, nil
}

// Counts reads counters as counter.Owner does, each as of the state that is returned or a later one. ErrStoreAway where
// nothing is published.
func (r *Reader) Counts(ctx context.Context, p wal.Partition, names []string, now int64, out []counter.Amount) (st counter.State, err error) {
	if int(p) >= r.partitions {
		return st, fmt.Errorf("%w: %d", wal.ErrNoPartition, p)
	}
	of := &rows{r.rows, p}
	if st, err = of.status(ctx); err != nil { // before the rows, which are newer then
		return st, err
	}
	if st.Applied == wal.NoOffset {
		return st, fmt.Errorf("%w: no counter of partition %d is published", consumers.ErrStoreAway, p)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for i, name := range names {
		g.Go(func() (err error) {
			out[i], err = of.count(ctx, []byte(name), max(now, st.LogTime))
			return err
		})
	}
	return st, g.Wait()
}

func (r *rows) count(ctx context.Context, name []byte, now int64) (a counter.Amount, err error) {
	q := cassandrastore.Statement{CQL: "SELECT count FROM counter_rows_1" + ofBucket + " AND name = ?", Args: r.of(bucketOf(name), name)}
	err = r.Query(ctx, "read a counter", q, 1, func(scan func(dest ...any) error) (bool, error) {
		var b []byte
		if err := scan(&b); err != nil {
			return false, err
		}
		var row counter.Row
		if err := rowcodec.DecodeRow(b, &row); err != nil {
			return false, fmt.Errorf("the row of a counter in Cassandra: %w", err)
		}
		a = row.Amount(now)
		return false, nil
	})
	return a, err
}
