package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

// TestKafkaModeWhatWaitsOutlivesItsHome: the log is trimmed of what was delivered, the directory of the home is lost, and the next
// home delivers what waited, once it is due.
func TestKafkaModeWhatWaitsOutlivesItsHome(t *testing.T) {
	t.Parallel()
	h, hook := newHomes(t, kafkaFake(t)), newReceiver(t)
	a := h.start(t.TempDir())
	document(t, a, deliveryDoc("orders", hook.URL, "", ""))
	const n = 20
	for i := range n {
		write(t, a, "orders", fmt.Sprint("now", i), fmt.Sprint("now", i))
	}
	until(t, "what is due at once is delivered", func() bool { return len(hook.all()) == n })
	for i := range 4 {
		write(t, a, "orders", fmt.Sprint("later", i), fmt.Sprint("later", i), "Headwater-Delay", "8s")
		write(t, a, "orders", fmt.Sprint("between", i), fmt.Sprint("between", i))
	}
	until(t, "what came between is delivered", func() bool { return len(bodiesWith(hook, "between")) == 4 })
	x := spaceOf(t, a, "orders")
	if err := x.syncStores(t.Context()); err != nil {
		t.Fatal(err)
	}
	trimmed := false
	for p := range wal.Partition(x.log.Info().Partitions) {
		b, err := x.log.Bounds(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		f, slowest, more, err := x.trimFloor(t.Context(), p, &b)
		if err != nil || more {
			t.Fatalf("floor of partition %d: %+v, %v, %v", p, f, more, err)
		}
		if err := x.trimTo(t.Context(), p, b, f, 0, 0, slowest); err != nil {
			t.Fatal(err)
		}
		if b, err = x.log.Bounds(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		trimmed = trimmed || b.Start > 0
	}
	if !trimmed {
		t.Fatal("nothing was trimmed")
	}
	closeServer(t, a)

	b := h.start(t.TempDir())
	defer closeServer(t, b)
	expectBody(t, release(t, b, "orders", ""), http.StatusOK, "goes on where the log begins, which has all messages that wait: ")
	until(t, "what waited is delivered", func() bool { return len(bodiesWith(hook, "later")) == 4 })
	eventually(t, http.StatusOK, func() reply { return send(t, b, "POST", "/v1/log/orders/k", "after") })
}

// bodiesWith are those that have come and begin so, each once.
func bodiesWith(hook *receiver, prefix string) map[string]bool {
	all := make(map[string]bool)
	for _, g := range hook.all() {
		if strings.HasPrefix(g.body, prefix) {
			all[g.body] = true
		}
	}
	return all
}
