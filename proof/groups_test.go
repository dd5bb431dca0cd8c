package proof

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// groupWriter sends groups, each until an answer says that it takes place.
type groupWriter struct {
	mu   sync.Mutex
	c    *conn         // guarded by mu
	next chan struct{} // closed when there is another one; guarded by mu
	took chan struct{} // holds one
	ids  map[string]bool
}

func (w *groupWriter) conn() (*conn, chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.c, w.next
}

func (w *groupWriter) set(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.c = c
	close(w.next)
	w.next = make(chan struct{})
}

// run writes groups of a writer until ctx is done, and returns how many were taken. Each has a record and a count of its
// writer, and a message.
func (w *groupWriter) run(ctx context.Context, writer int) int {
	n := 0
	for ; ctx.Err() == nil; n++ {
		one := fmt.Sprintf("w%d-%d", writer, n)
		req := &headwaterv1.MutateItemsRequest{
			Token: &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Key{Key: one}},
			Mutations: []*headwaterv1.Mutation{
				{Mutation: &headwaterv1.Mutation_Put{Put: &headwaterv1.PutItemsRequest{
					Namespace: "demo-kv", Id: one, Items: []*headwaterv1.PutItem{{Key: []byte("k"), Value: []byte("v")}},
				}}},
				{Mutation: &headwaterv1.Mutation_Add{Add: &headwaterv1.AddCountRequest{Namespace: "demo-counter", Counter: fmt.Sprint("w", writer), Delta: 1}}},
				{Mutation: &headwaterv1.Mutation_Put{Put: &headwaterv1.PutItemsRequest{
					Namespace: "demo-kv", Id: fmt.Sprint("last", writer), Items: []*headwaterv1.PutItem{{Key: []byte("k"), Value: []byte(one)}},
				}}},
				{Mutation: &headwaterv1.Mutation_Message{Message: &headwaterv1.WriteToLogRequest{Namespace: "demo-log", Key: fmt.Sprint(writer), Payload: []byte(one)}}},
			},
		}
		for {
			c, next := w.conn()
			call, cancel := callContext()
			res, err := c.kv.MutateItems(call, req)
			cancel()
			if err == nil {
				w.mu.Lock()
				w.ids[res.GetGroupId()] = true
				w.mu.Unlock()
				select {
				case w.took <- struct{}{}:
				default:
				}
				break
			}
			select { // it was killed, or is not up yet
			case <-next:
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return n
}

// TestGroupsOverKills kills the binary while groups are written, brought to their namespaces and told as done: each that
// was taken has all of its effects, once.
func TestGroupsOverKills(t *testing.T) {
	const writers, kills = 8, 4
	dir := t.TempDir()
	p := start(t, dir)
	w := &groupWriter{c: connect(t, p.grpc), next: make(chan struct{}), took: make(chan struct{}, 1), ids: make(map[string]bool)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	taken := make([]int, writers)
	var work sync.WaitGroup
	for i := range writers {
		work.Go(func() { taken[i] = w.run(ctx, i) })
	}
	for range kills {
		for range 30 {
			select {
			case <-w.took:
			case <-time.After(30 * time.Second):
				t.Fatalf("no group is taken\n%s", p.said())
			}
		}
		p.signal(t, syscall.SIGKILL)
		<-p.gone
		old, _ := w.conn()
		p = start(t, dir)
		w.set(connect(t, p.grpc))
		old.close()
	}
	for range 10 {
		<-w.took
	}
	stop()
	work.Wait()
	c, _ := w.conn()
	t.Logf("%d groups", len(w.ids))
	for id := range w.ids {
		awaitGroupDone(t, c, id)
	}
	for i, n := range taken {
		if n == 0 {
			continue
		}
		count := demoCount(t, c, fmt.Sprint("w", i))
		if count != int64(n) {
			t.Errorf("writer %d has %d groups taken, and a count of %d", i, n, count)
		}
		for k := range n {
			if got := itemOf(t, c, fmt.Sprintf("w%d-%d", i, k)); got != "v" {
				t.Errorf("record %d of writer %d is %q", k, i, got)
			}
		}
		if last := itemOf(t, c, fmt.Sprint("last", i)); last != fmt.Sprintf("w%d-%d", i, count-1) {
			t.Errorf("the last write of writer %d is %s, of %d", i, last, count)
		}
	}
}

// awaitGroupDone returns when a group is done.
func awaitGroupDone(t *testing.T, c *conn, id string) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(time.Minute); ; <-again.C {
		ctx, cancel := callContext()
		r, err := c.log.GetGroup(ctx, &headwaterv1.GetGroupRequest{GroupId: id})
		cancel()
		if err == nil && r.GetState() == headwaterv1.GetGroupResponse_DONE {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("group %s is %v, %v", id, r, err)
		}
	}
}

// demoCount is a counter of demo-counter, of all that was acknowledged.
func demoCount(t *testing.T, c *conn, counter string) int64 {
	t.Helper()
	ctx, cancel := callContext()
	defer cancel()
	r, err := headwaterv1.NewCounterServiceClient(c.cc).GetCount(ctx, &headwaterv1.GetCountRequest{Namespace: "demo-counter", Counter: counter, Accuracy: headwaterv1.Count_ACCURATE})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetCount().GetValue()
}

// itemOf is the one item of a record of demo-kv, "" where there is none.
func itemOf(t *testing.T, c *conn, id string) string {
	t.Helper()
	ctx, cancel := callContext()
	defer cancel()
	r, err := c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: "demo-kv", Id: id, Consistency: headwaterv1.Consistency_LATEST})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.GetItems()) == 0 {
		return ""
	}
	return string(r.GetItems()[0].GetValue())
}
