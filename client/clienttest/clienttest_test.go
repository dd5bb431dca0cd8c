package clienttest_test

import (
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/client/clienttest"
)

// TestAServerKeepsItsDataDirectory for the next one of the test, with the
// namespaces that it was asked for.
func TestAServerKeepsItsDataDirectory(t *testing.T) {
	t.Parallel()
	cfg := clienttest.Config{DataDir: t.TempDir(), Namespaces: []string{"namespace: mine\nabstraction: counter\n"}}
	s, c := clienttest.NewServer(t, cfg)
	for _, ns := range []string{"mine", "demo-counter"} {
		if _, err := c.Counter(ns).Add(t.Context(), "a", 2); err != nil {
			t.Fatal(err)
		}
	}
	s.Close(t)
	s.Close(t) // changes nothing
	_, again := clienttest.NewServer(t, cfg)
	for _, ns := range []string{"mine", "demo-counter"} {
		n, err := again.Counter(ns).GetWith(t.Context(), "a", client.CountOptions{Accuracy: client.CountAccurate})
		if err != nil || n.Value != 2 {
			t.Errorf("%s: %+v, %v", ns, n, err)
		}
	}
}

// TestServersOfATestAreApart.
func TestServersOfATestAreApart(t *testing.T) {
	t.Parallel()
	a, b := clienttest.New(t), clienttest.New(t)
	if _, err := a.Counter("demo-counter").Add(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	n, err := b.Counter("demo-counter").Get(t.Context(), "a")
	if err != nil || n.Value != 0 {
		t.Errorf("%+v, %v", n, err)
	}
}

// TestFaultsLoseAnswersAndRepeatRequests of one method: the server gets what the
// client has sent, and the client does not hear of it.
func TestFaultsLoseAnswersAndRepeatRequests(t *testing.T) {
	t.Parallel()
	f := &clienttest.Faults{Method: "ClearCount", LoseEvery: 3, RepeatEvery: 2}
	_, c := clienttest.NewServer(t, clienttest.Config{Client: client.Config{
		DialOptions: []grpc.DialOption{f.Option()}, RetryInitial: time.Millisecond, RetryMax: 5 * time.Millisecond,
	}})
	n := c.Counter("demo-counter")
	if _, err := n.Add(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	repeated := 0
	for range 4 { // the third answer is lost and asked for again: five in all
		res, err := n.Clear(t.Context(), "a", client.CounterWriteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if res.Duplicate == client.Repeated {
			repeated++
		}
	}
	if f.Lost() != 1 || f.Repeated() != 2 || repeated != 2 {
		t.Errorf("lost %d, repeated %d, %d answers are of duplicates; want 1, 2, 2", f.Lost(), f.Repeated(), repeated)
	}
	none := &clienttest.Faults{}
	_, c = clienttest.NewServer(t, clienttest.Config{Client: client.Config{DialOptions: []grpc.DialOption{none.Option()}, RetryInitial: time.Millisecond}})
	for range 10 {
		if res, err := c.Counter("demo-counter").Clear(t.Context(), "a", client.CounterWriteOptions{}); err != nil || res.Duplicate != client.New {
			t.Errorf("%+v, %v", res, err)
		}
	}
	if none.Lost() != 0 || none.Repeated() != 0 {
		t.Errorf("the zero Faults lost %d, repeated %d", none.Lost(), none.Repeated())
	}
}
