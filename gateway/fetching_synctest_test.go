package gateway

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable"
)

// endlessOwner has messages in every partition, and answers for some of them not at all.
type endlessOwner struct {
	durable.Owner
	slow map[wal.Partition]bool
	had  map[wal.Partition]int
}

func (o *endlessOwner) Fetch(ctx context.Context, p wal.Partition, f *durable.Fetch) (durable.Fetched, error) {
	if o.slow[p] {
		<-ctx.Done()
		return durable.Fetched{}, ctx.Err()
	}
	out := durable.Fetched{MaxInFlight: durable.MaxInFlight}
	for range f.Limit {
		out.Messages = append(out.Messages, durable.Message{
			Record: wal.AppendRecord(nil, &wal.Record{Kind: wal.KindMessage, RoutingKey: []byte("k"), Payload: []byte("x")}),
		})
	}
	o.had[p] += f.Limit
	return out, nil
}

// TestEachPartitionHasItsTurn also where each has more than a fetch takes, and one that does not answer keeps from a caller
// for a moment, once, what the others have.
func TestEachPartitionHasItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const partitions = 4
		o := &endlessOwner{slow: map[wal.Partition]bool{2: true}, had: make(map[wal.Partition]int)}
		ns := &Namespace{Name: "mail", Consumers: o}
		start := time.Now()
		for range 30 {
			f := &fetching{
				ns: ns, shared: ns.fetches.of("c", partitions),
				ask: durable.Fetch{Consumer: "c", Limit: 10, Bytes: 1 << 20},
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			out, err := f.run(ctx, 0)
			cancel()
			if err != nil || len(out.GetMessages()) != 10 {
				t.Fatalf("%d messages, %v", len(out.GetMessages()), err)
			}
		}
		if o.had[0] != 100 || o.had[1] != 100 || o.had[3] != 100 {
			t.Errorf("the partitions had %v", o.had)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("30 fetches took %v", d)
		}
	})
}
