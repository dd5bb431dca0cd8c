package demo

import (
	"strings"
	"testing"
	"time"
)

// TestFlightsAreDelivered to a receiver that fails, is away, and refuses one; also a second time, when the receiver is
// elsewhere.
func TestFlightsAreDelivered(t *testing.T) {
	t.Parallel()
	c := serve(t)
	for _, rows := range []int{600, 1} {
		r, err := Deliver(t.Context(), c, flights(t, rows), DeliveryOptions{Namespace: "demo-delivery", Down: 300 * time.Millisecond, Delayed: 20, Seed: 7})
		if err != nil {
			t.Fatal(err)
		}
		if r.Messages != rows || r.Delayed != 20 || r.Early != 0 || r.OutOfOrder != 0 || r.DeadLetter.ID == "" || r.DeadLetter.Attempts != 1 {
			t.Errorf("%+v", r)
		}
		if rows > 1 && (r.Failed == 0 || r.Unanswered == 0 || r.Refused != 1 || r.Attempts != rows+r.Twice+r.Failed+r.Unanswered+r.Refused) {
			t.Errorf("%+v", r)
		}
		for _, word := range []string{"in order", "refused for good", r.DeadLetter.ID} {
			if !strings.Contains(r.text(), word) {
				t.Errorf("no %q in %s", word, r.text())
			}
		}
	}
}
