package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
)

var (
	allTime  = client.ReadEventsOptions{Start: time.Unix(0, 0), End: time.Unix(2e9, 0)}
	someTime = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
)

func countEvents(t *testing.T, n *client.TimeSeries, series string) (count int) {
	t.Helper()
	for _, err := range n.Read(t.Context(), series, allTime) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	return count
}

// TestAnEventWriterWritesEachEventOnce, from several goroutines, in batches that are not full
// too.
func TestAnEventWriterWritesEachEventOnce(t *testing.T) {
	t.Parallel()
	n := clienttest.New(t).TimeSeries("demo-timeseries")
	w := n.Writer(client.EventWriterOptions{Batch: 37, InFlight: 2})
	var work sync.WaitGroup
	for g := range 4 {
		work.Go(func() {
			for i := range 500 {
				if err := w.Add(t.Context(), client.Event{Series: fmt.Sprint("s", g), Time: someTime, Items: map[string]any{"i": i}}); err != nil {
					t.Error(err)
					return
				}
			}
			if err := w.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	for g := range 4 {
		if got := countEvents(t, n, fmt.Sprint("s", g)); got != 500 {
			t.Errorf("series %d has %d events, not 500", g, got)
		}
	}
	// One that is alone is written without a flush.
	if err := w.Add(t.Context(), client.Event{Series: "alone", Time: someTime, Items: map[string]any{"i": 1}}); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(30 * time.Second); countEvents(t, n, "alone") == 0; {
		if time.Now().After(limit) {
			t.Fatal("an event that is alone is not written")
		}
	}
	if err := errors.Join(w.Close(t.Context()), w.Close(t.Context())); err != nil {
		t.Error(err)
	}
	if err := w.Add(t.Context(), client.Event{Series: "s", Time: someTime, Items: map[string]any{"i": 1}}); !errors.Is(err, client.ErrWriterClosed) {
		t.Errorf("a closed writer takes an event: %v", err)
	}
	if left := w.Unwritten(); len(left) != 0 {
		t.Errorf("%d events are left", len(left))
	}
}

// TestAnEventWriterTellsWhatIsNotWritten: refused events, one by one or all of a call; and
// what a call that failed had, which another writer takes once.
func TestAnEventWriterTellsWhatIsNotWritten(t *testing.T) {
	t.Parallel()
	_, c := clienttest.NewServer(t, clienttest.Config{Namespaces: []string{"namespace: picky\nabstraction: timeseries\ntimeseries: {blocked: [noise]}\n"}})
	n := c.TimeSeries("picky")
	event := func(series string) client.Event {
		return client.Event{Series: series, Time: someTime, Items: map[string]any{"i": 1}}
	}
	var refused atomic.Int64
	w := n.Writer(client.EventWriterOptions{Batch: 3, Refused: func(e client.Event, why client.RefusedEvent) {
		if e.Series == "noise" && why.Reason == "HW-1215" {
			refused.Add(1)
		}
	}})
	for _, s := range []string{"a", "noise", "a", "noise", "noise", "noise"} {
		if err := w.Add(t.Context(), event(s)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(t.Context()); err != nil || refused.Load() != 4 {
		t.Errorf("%d events were told as refused, not 4: %v", refused.Load(), err)
	}
	w = n.Writer(client.EventWriterOptions{Batch: 2})
	if err := errors.Join(w.Add(t.Context(), event("b")), w.Add(t.Context(), event("noise"))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(t.Context()); err == nil || len(w.Unwritten()) != 1 || w.Unwritten()[0].Series != "noise" {
		t.Errorf("without Refused: %v, left is %v", err, w.Unwritten())
	}
	if err := n.Writer(client.EventWriterOptions{Batch: client.MaxEvents + 1}).Add(t.Context(), event("a")); err == nil {
		t.Error("a batch that no call takes is no error")
	}
	if err := w.Add(t.Context(), client.Event{Series: "a", Items: map[string]any{"x": []int{1}}}); err == nil {
		t.Error("an item of no type is no error")
	}

	gone := c.TimeSeries("nowhere").Writer(client.EventWriterOptions{})
	for range 10 {
		if err := gone.Add(t.Context(), event("late")); err != nil {
			t.Fatal(err)
		}
	}
	if err := gone.Flush(t.Context()); !errors.Is(err, client.ErrNotFound) || len(gone.Unwritten()) != 10 {
		t.Fatalf("a namespace that is not there: %v, %d left", err, len(gone.Unwritten()))
	}
	for range 2 {
		w = n.Writer(client.EventWriterOptions{})
		for _, e := range gone.Unwritten() {
			if err := w.Add(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := countEvents(t, n, "late"); got != 10 {
		t.Errorf("%d events of a writer that had failed, not 10", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w = n.Writer(client.EventWriterOptions{Batch: 1, InFlight: 1, Linger: time.Hour})
	for i := 0; ; i++ {
		if err := w.Add(ctx, event("waits")); errors.Is(err, context.Canceled) {
			break
		} else if err != nil || i > 100 {
			t.Fatalf("an Add that may not wait: %v", err)
		}
	}
	_ = gone.Close(t.Context()) // it has failed
	if err := w.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
