package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
)

// TestSubscribe: two that share a consumer process each message once, those of a key in order; one that fails is tried
// again before those behind it, and one that is terminated is not.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	l := clienttest.New(t).Log("demo-log")
	const keys, each = 8, 25
	var ms []client.NewMessage
	for i := range each {
		for k := range keys {
			ms = append(ms, client.NewMessage{Key: fmt.Sprint(k), Payload: fmt.Append(nil, i)})
		}
	}
	if _, err := l.WriteMessages(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	done, tries, told := make(map[string][]int), 0, 0
	bad := errors.New("bad")
	handle := func(_ context.Context, m *client.FetchedMessage) error {
		mu.Lock()
		defer mu.Unlock()
		n := 0
		if _, err := fmt.Sscan(string(m.Payload), &n); err != nil {
			return err
		}
		if m.Key == "3" && n == 10 {
			if tries++; tries < 3 {
				return client.RetryAfter(20*time.Millisecond, bad)
			}
		}
		if m.Key == "5" && n == 7 {
			return client.Terminate(bad)
		}
		done[m.Key] = append(done[m.Key], n)
		total := 0
		for _, ns := range done {
			total += len(ns)
		}
		if total == keys*each-1 {
			stop()
		}
		return nil
	}
	o := client.SubscribeOptions{Concurrency: 3, Batch: 20, Failed: func(_ *client.FetchedMessage, err error) {
		mu.Lock()
		defer mu.Unlock()
		if !errors.Is(err, bad) {
			t.Errorf("told of %v", err)
		}
		told++
	}}
	var work sync.WaitGroup
	for range 2 {
		work.Go(func() {
			if err := l.Subscribe(ctx, "workers", handle, o); !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		})
	}
	work.Wait()
	for k, ns := range done {
		if want := each - map[string]int{"5": 1}[k]; len(ns) != want || !slices.IsSorted(ns) {
			t.Errorf("key %s: %v", k, ns)
		}
	}
	if tries != 3 || told != 3 {
		t.Errorf("%d tries of one that fails twice, told of %d", tries, told)
	}
	all, err := l.Consumers(t.Context())
	if err != nil || len(all) != 1 || all[0].GetGivenUp() != 1 || all[0].GetInFlight() != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if err := l.Subscribe(t.Context(), "no/name", handle, o); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("a name that is none: %v", err)
	}
}
