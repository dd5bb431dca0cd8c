package proof

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// TestBatchesShareTokens sends the same puts in batches of different orders, at
// once and twice in one batch: every copy gets the first one's answer, and none
// waits for another that waits for it.
func TestBatchesShareTokens(t *testing.T) {
	c := serve(t)
	_, r := seedOf(t)
	b := &book{}
	for round := range 20 {
		var ws []*write
		for i := range 8 {
			ws = append(ws, b.add(&write{round: round, put: &headwaterv1.PutItemsRequest{
				Namespace: "demo-kv", Id: fmt.Sprintf("id%d", i), Token: nonceToken(wal.NewNonce(), 0),
				Items: []*headwaterv1.PutItem{{Key: []byte("k"), Value: fmt.Appendf(nil, "%d/%d", round, i)}},
			}}))
		}
		var wg sync.WaitGroup
		for range 4 {
			order := shuffled(r, append(append([]*write(nil), ws...), ws[r.IntN(len(ws))]))
			wg.Go(func() {
				ctx, cancel := callContext()
				defer cancel()
				for i, a := range c.sendBatch(ctx, order) {
					b.note(order[i], &a, false)
					if a.outcome != acked {
						b.fault(fmt.Errorf("%v: %v", order[i], &a))
					}
				}
			})
		}
		wg.Wait()
		if err := b.err(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

func shuffled(r *rand.Rand, ws []*write) []*write {
	r.Shuffle(len(ws), func(i, j int) { ws[i], ws[j] = ws[j], ws[i] })
	return ws
}
