package server

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/cassandracounter"
	"github.com/headwater-db/headwater/wal"
)

// publishedCounts reads the counters of a namespace that their owner has published.
func (x *space) publishedCounts() counter.PublishedCounts {
	rows := &primaryRows[*cassandracounter.Reader]{x: x, open: cassandracounter.NewReader}
	return func(ctx context.Context, p wal.Partition, names []string, now int64, out []counter.Amount) (counter.State, error) {
		r, err := rows.reader(ctx)
		if err != nil {
			return counter.State{}, err
		}
		if r == nil {
			return counter.State{}, consumers.ErrOwnerAway
		}
		return r.Counts(ctx, p, names, now, out)
	}
}
