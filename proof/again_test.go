package proof

import (
	"fmt"
	"sync"
	"testing"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// TestRaisedWriteAgain sends conditional puts whose time the server makes while a
// delete with a later time is on its way, so that some must be raised above it:
// every copy gets the whole first answer, the token's time included.
func TestRaisedWriteAgain(t *testing.T) {
	c := serve(t)
	b := &book{}
	ctx, cancel := callContext()
	defer cancel()
	base := time.Now().Add(2 * time.Second).UnixMicro()
	raised := 0
	for i := range int64(300) {
		id := fmt.Sprintf("id%d", i)
		del := b.add(&write{del: &headwaterv1.DeleteItemsRequest{Namespace: "demo-kv", Id: id, Token: nonceToken(wal.NewNonce(), base+i*10_000),
			Predicate: &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}}})
		put := b.add(&write{put: &headwaterv1.PutItemsRequest{Namespace: "demo-kv", Id: id, Token: nonceToken(wal.NewNonce(), 0),
			Items:     []*headwaterv1.PutItem{{Key: []byte("k"), Value: []byte("v")}},
			Condition: &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfAbsent{IfAbsent: true}}}})
		var wg sync.WaitGroup
		wg.Go(func() {
			a := c.send(ctx, del)
			b.note(del, &a, false)
		})
		wg.Go(func() {
			a := c.send(ctx, put)
			b.note(put, &a, false)
		})
		wg.Wait()
		if put.first.time > base+i*10_000 && put.first.versions[0].Time == base+i*10_000+1 {
			raised++
		}
		a := c.send(ctx, put)
		b.note(put, &a, true)
		if err := b.err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d of 300 were raised", raised)
}
