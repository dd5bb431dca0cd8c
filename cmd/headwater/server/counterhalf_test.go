package server

import (
	"errors"
	"fmt"
	"testing"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/wal"
)

// namesIn are two names, of partition 0 and of partition 1 of two.
func namesIn(t *testing.T) (in [2]string) {
	t.Helper()
	for i := 0; in[0] == "" || in[1] == ""; i++ {
		name := fmt.Sprintf("c%d", i)
		in[wal.PartitionOf([]byte(name), 2)] = name
	}
	return in
}

// TestACallThatIsHalfTakenAndCannotBeCompletedEnds: of a call over two partitions
// one has its part, as a failure in between leaves it, and the own token of the
// add in the other has been used for another add since. The answer is that the
// call is half taken, each time, at once, and nothing of it counts twice.
func TestACallThatIsHalfTakenAndCannotBeCompletedEnds(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	for _, ns := range []string{"donor", "half"} {
		is(t, "apply", call(t, s, "Namespace.ApplyNamespace", fmt.Sprintf(`{"config":"namespace: %s\nabstraction: counter\nlog: {partitions: 2}\n"}`, ns)))
	}
	c, err := client.Dial(s.GRPCAddr(), client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	in := namesIn(t)
	adds := []client.CounterAdd{{Counter: in[0], Delta: 1}, {Counter: in[1], Delta: 10, Token: client.Token{Key: "own"}}}
	o := client.CounterWriteOptions{Token: client.Token{Key: "call"}}
	if _, err := c.Counter("donor").AddAll(t.Context(), adds, o); err != nil {
		t.Fatal(err)
	}
	moveRecord(t, s, "donor", "half", 0)
	h := c.Counter("half")
	if _, err := h.AddWith(t.Context(), in[1], 500, client.AddOptions{Token: client.Token{Key: "own"}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := h.AddAll(t.Context(), adds, o)
		e, ok := errors.AsType[*client.Error](err)
		if !ok || !errors.Is(err, client.ErrConflict) || e.Outcome != client.Unknown || e.Metadata["add"] != "1" || e.Token.Key != "call" {
			t.Errorf("%v", err)
		}
	}
	counts, err := h.GetMany(t.Context(), in[:], client.CountOptions{Accuracy: client.CountAccurate})
	if err != nil || counts[in[0]].Value != 1 || counts[in[1]].Value != 500 {
		t.Errorf("%+v, %v", counts, err)
	}
	// Where nothing is in the way the same call is completed.
	is(t, "apply", call(t, s, "Namespace.ApplyNamespace", `{"config":"namespace: whole\nabstraction: counter\nlog: {partitions: 2}\n"}`))
	moveRecord(t, s, "donor", "whole", 0)
	if _, err := c.Counter("whole").AddAll(t.Context(), adds, o); err != nil {
		t.Fatal(err)
	}
	counts, err = c.Counter("whole").GetMany(t.Context(), in[:], client.CountOptions{Accuracy: client.CountAccurate})
	if err != nil || counts[in[0]].Value != 1 || counts[in[1]].Value != 10 {
		t.Errorf("%+v, %v", counts, err)
	}
}

// moveRecord appends the first record of a partition to that of another namespace,
// and waits until it is applied there.
func moveRecord(t *testing.T, s *Server, from, to string, p wal.Partition) {
	t.Helper()
	rd, err := topic(t, s, from).Read(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := rd.Next(t.Context())
	if err != nil {
		t.Fatal(errors.Join(err, rd.Close()))
	}
	var rec wal.Record
	if err := wal.DecodeRecord(entries[0].Data, &rec); err != nil {
		t.Fatal(errors.Join(err, rd.Close()))
	}
	rec.NamespaceVersion = 0 // that of the other
	data := wal.AppendRecord(nil, &rec)
	if err := rd.Close(); err != nil {
		t.Fatal(err)
	}
	res := topic(t, s, to).Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: p, Data: data}})[0]
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	n, ok := s.spaces.dir.Get(to)
	if !ok {
		t.Fatalf("no %s", to)
	}
	if err := n.Stream.WaitApplied(t.Context(), p, res.Offset); err != nil {
		t.Fatal(err)
	}
}
