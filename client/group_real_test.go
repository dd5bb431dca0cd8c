package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
)

// TestAGroupIsReadByWhoWroteIt: reads of the client wait for it, and the same group again is the same.
func TestAGroupIsReadByWhoWroteIt(t *testing.T) {
	t.Parallel()
	c := clienttest.New(t)
	items, counts := c.KV("demo-kv"), c.Counter("demo-counter")
	if _, err := items.Put(t.Context(), "old", "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	g := c.Group().Put("demo-kv", "order/1", client.PutItem{Key: "state", Value: []byte("paid")}).Delete("demo-kv", "old", client.Which{All: true}).
		Add("demo-counter", "paid", 3).Event("demo-timeseries", client.Event{Series: "orders", Time: time.Now(), Items: map[string]any{"n": 1}}).
		Message("demo-log", client.NewMessage{Key: "order/1", Payload: []byte("paid")})
	first, err := g.Write(t.Context(), client.Token{Key: "order-1"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := g.Write(t.Context(), client.Token{Key: "order-1"})
	if err != nil || again.ID != first.ID || len(again.Results) != 4 || again.Results[0].Duplicate != client.Repeated {
		t.Errorf("sent again it is %+v, %v; first it was %+v", again, err, first)
	}
	for _, r := range first.Results {
		if r.Position == "" || r.Duplicate != client.New {
			t.Errorf("a result is %+v", r)
		}
	}
	if it, err := items.Get(t.Context(), "order/1", "state"); err != nil || string(it.Value) != "paid" {
		t.Errorf("the item is %+v, %v", it, err)
	}
	if it, err := items.Get(t.Context(), "old", "k"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("what the group deleted is %+v, %v", it, err)
	}
	if n, err := counts.Get(t.Context(), "paid"); err != nil || n.Value != 3 {
		t.Errorf("the count is %+v, %v", n, err)
	}
	if done, total, err := c.GroupState(t.Context(), first.ID); done != 5 || total != 5 || err != nil {
		t.Errorf("%d of %d mutations, %v", done, total, err)
	}
	_, err = c.Group().Add("demo-counter", "paid", 1).Put("demo-kv", "big", client.PutItem{Value: make([]byte, 1<<20+1), Compression: client.Uncompressed}).Write(t.Context(), client.Token{})
	if err == nil || !strings.Contains(err.Error(), "mutation 1 of a group") {
		t.Errorf("a value that is too large: %v", err)
	}
	if _, err := c.Group().Write(t.Context(), client.Token{}); err == nil {
		t.Error("a group of nothing is taken")
	}
}
