package wal

import (
	"context"
	"testing"
)

// TestWantedSaysThatSomebodyWaits: at once where somebody does, else with the next one, and not
// for what is there already.
func TestWantedSaysThatSomebodyWaits(t *testing.T) {
	t.Parallel()
	w := NewWatermark(5)
	wanted := w.Wanted()
	if err := w.Wait(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	select {
	case <-wanted:
		t.Fatal("what is there is wanted")
	default:
	}
	done := make(chan error, 1)
	go func() { done <- w.Wait(context.Background(), 7) }()
	<-wanted
	<-w.Wanted()
	w.Advance(7)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	select {
	case <-w.Wanted():
		t.Fatal("nobody waits any more")
	default:
	}
}
