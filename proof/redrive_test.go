package proof

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// mendedBox refuses what comes for good until it is mended, and then keeps it.
type mendedBox struct {
	mu     sync.Mutex
	mended bool
	got    map[string]int // by webhook-id
	took   chan struct{}  // holds one
}

func (b *mendedBox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.mended {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	b.got[req.Header.Get("webhook-id")]++
	select {
	case b.took <- struct{}{}:
	default:
	}
}

// TestRedriveOverKills kills the binary while dead letters are redriven: the job goes on after each start, and each message
// is delivered in the end.
func TestRedriveOverKills(t *testing.T) {
	const n = 60
	dir := t.TempDir()
	box := &mendedBox{got: make(map[string]int), took: make(chan struct{}, 1)}
	hook := httptest.NewServer(box)
	defer hook.Close()
	p := start(t, dir)
	c := connect(t, p.grpc)
	ctx, cancel := callContext()
	_, err := headwaterv1.NewNamespaceServiceClient(c.cc).ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: fmt.Sprintf(
		"namespace: hooks\nabstraction: log\ndelivery: {targets: [{name: hook, http: {url: %q}}], retry: {initial: 5ms, max: 50ms}, allow: {private_addresses: true}}\n", hook.URL)})
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		ctx, cancel := callContext()
		_, err := c.log.WriteToLog(ctx, &headwaterv1.WriteToLogRequest{Namespace: "hooks", Key: fmt.Sprint(i), Payload: []byte("x")})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	matched := func() int64 {
		ctx, cancel := callContext()
		defer cancel()
		r, err := c.log.RedriveDeadLetters(ctx, &headwaterv1.RedriveDeadLettersRequest{Namespace: "hooks", DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		return r.GetMatched()
	}
	for matched() < n {
		<-again.C
	}
	box.mu.Lock()
	box.mended = true
	box.mu.Unlock()
	rate := int32(40)
	ctx, cancel = callContext()
	log := c.log
	go func() { // the first kill ends it
		defer cancel()
		_, _ = log.RedriveDeadLetters(ctx, &headwaterv1.RedriveDeadLettersRequest{Namespace: "hooks", Rate: &rate})
	}()
	for range 3 {
		for range 8 { // some are delivered, and others are not
			select {
			case <-box.took:
			case <-time.After(30 * time.Second):
				t.Fatalf("the job does not go on\n%s", p.said())
			}
		}
		p.signal(t, syscall.SIGKILL)
		<-p.gone
		c.close()
		p = start(t, dir)
		c = connect(t, p.grpc)
	}
	for end := time.Now().Add(time.Minute); ; <-again.C {
		box.mu.Lock()
		have := len(box.got)
		box.mu.Unlock()
		if have == n && matched() == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d of %d messages are delivered, %d are dead\n%s", have, n, matched(), p.said())
		}
	}
}
