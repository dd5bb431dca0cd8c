package proof

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// TestTies writes one item several times under one and the same time: whatever
// order the log has, a delete wins over an expiring item, that over a live one,
// the later expiry over the earlier, and among the rest the later in the log. A
// record's delete and a range's count as deletes. The order is written out here,
// so that a wrong one in the code is not compared with itself.
func TestTies(t *testing.T) {
	_, r := seedOf(t)
	h := &host{t: t, dir: t.TempDir()}
	h.restart()
	t.Cleanup(h.stop)
	ctx, cancel := callContext()
	defer cancel()
	if _, err := headwaterv1.NewNamespaceServiceClient(h.c.cc).ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: "namespace: ties\nabstraction: kv\n"}); err != nil {
		t.Fatal(err)
	}
	// By rank: the later in this list wins; equal ranks are decided by the log.
	kinds := []struct {
		name string
		rank int
		ttl  time.Duration
	}{
		{"live", 0, 0}, {"live", 0, 0},
		{"for an hour", 1, time.Hour}, {"for two hours", 2, 2 * time.Hour},
		{"delete of the key", 3, 0}, {"delete of a range", 3, 0}, {"delete of the record", 3, 0},
	}
	base := time.Now().UnixMicro()
	want := make(map[string]string)
	for i := range 120 {
		id := fmt.Sprintf("id%d", i)
		order := r.Perm(len(kinds))
		if i%3 > 0 { // without any delete, or with one kind of write only twice
			order = slices.DeleteFunc(order, func(k int) bool { return kinds[k].rank > i%3 })
		}
		best := -1
		for n, k := range order {
			kind := kinds[k]
			w := tieWrite(id, kind.name, kind.ttl, base, fmt.Sprintf("%s, write %d", kind.name, n))
			if a := h.c.send(ctx, w); a.outcome != acked {
				t.Fatalf("%v: %v", w, &a)
			}
			if kind.rank >= best {
				best = kind.rank
				if want[id] = fmt.Sprintf("%s, write %d", kind.name, n); kind.rank == 3 {
					want[id] = ""
				}
			}
		}
	}
	for _, when := range []string{"at once", "after a restart"} {
		for id, value := range want {
			r, err := h.c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: "ties", Id: id})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if len(r.Items) > 0 {
				got = string(r.Items[0].Value)
			}
			if got != value {
				t.Errorf("%s, %s: %q, want %q", id, when, got, value)
			}
		}
		h.restart()
	}
}

func tieWrite(id, kind string, ttl time.Duration, at int64, value string) *write {
	tok := nonceToken(wal.NewNonce(), at)
	key := []byte("k")
	del := func(p *headwaterv1.Predicate) *write {
		return &write{del: &headwaterv1.DeleteItemsRequest{Namespace: "ties", Id: id, Predicate: p, Token: tok}}
	}
	switch kind {
	case "delete of the key":
		return del(&headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: &headwaterv1.Predicate_MatchKeys{Keys: [][]byte{key}}}})
	case "delete of a range":
		return del(&headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchRange_{MatchRange: &headwaterv1.Predicate_MatchRange{Start: []byte("a"), End: []byte("z")}}})
	case "delete of the record":
		return del(&headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}})
	}
	it := &headwaterv1.PutItem{Key: key, Value: []byte(value)}
	if ttl != 0 {
		it.Ttl = durationpb.New(ttl)
	}
	return &write{put: &headwaterv1.PutItemsRequest{Namespace: "ties", Id: id, Token: tok, Items: []*headwaterv1.PutItem{it}}}
}
