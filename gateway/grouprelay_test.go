package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// groupOf is a group of messages, one to five of each of up to two namespaces, as the lane of groups is handed it; want
// are the bodies by namespace and partition.
func groupOf(t *testing.T, to []*relayed, i int, want [][2][]string) *delivery.Attempt {
	t.Helper()
	r := to[0].log.r
	g := &delivery.Group{Mutations: 1}
	for k := range 1 + r.IntN(5) {
		at := r.IntN(len(to))
		key, body := fmt.Sprint(r.IntN(10)), fmt.Sprintf("%d.%d", i, k)
		a, err := to[at].db.Stage(&delivery.Message{Key: key, Token: wal.Token{Nonce: wal.NewNonce(), GenerationTime: time.Now().UnixMicro()}, Body: delivery.Body{Payload: []byte(body)}})
		if err != nil {
			t.Fatal(err)
		}
		g.Add(to[at].ns.Name, to[at].log.life, a.Record)
		p := wal.PartitionOf([]byte(key), 2)
		want[at][p] = append(want[at][p], body)
	}
	return &delivery.Attempt{
		Payload: g.Encode(), Source: wal.Source{Partition: 3, Place: wal.SourcePlace{At: int64(1 + i/2), Offset: wal.Offset(i)}, Hops: 1},
	}
}

// TestAGroupComesWholeAndOnce, its parts in their order in each partition, whatever the logs do to who appends, also when
// others append the same.
func TestAGroupComesWholeAndOnce(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		to := []*relayed{newRelayed(t, r, wal.Incarnation{7}), newRelayed(t, r, wal.Incarnation{8})}
		to[1].ns.Name = "other"
		want := make([][2][]string, len(to))
		var ms []*delivery.Attempt
		for i := range 40 {
			ms = append(ms, groupOf(t, to, i, want))
		}
		sends := func(from, tries int) int {
			relay := NewGroupRelay(wal.Incarnation{1}, func(_ context.Context, name string) (*Namespace, error) {
				return to[slices.IndexFunc(to, func(x *relayed) bool { return x.ns.Name == name })].ns, nil
			})
			return from + to[0].sends(t, relay, ms[from:], tries)
		}
		done := 0 // what all senders know
		for range 6 {
			to[0].log.bad, to[1].log.bad = r.IntN(3) > 0, r.IntN(3) > 0
			begin := done
			if r.IntN(4) == 0 { // it has lost its store
				begin = 0
			}
			done = max(done, sends(begin, 1+r.IntN(20)))
		}
		to[0].log.bad, to[1].log.bad = false, false
		if n := sends(done, 1000); n != len(ms) {
			t.Fatalf("seed %d: %d of %d groups", seed, n, len(ms))
		}
		for at, x := range to {
			for _, e := range x.log.late {
				x.log.take(e)
			}
			if got := x.counted(t); !slices.Equal(got[0], want[at][0]) || !slices.Equal(got[1], want[at][1]) {
				t.Fatalf("seed %d: counted of namespace %d are %v, want %v", seed, at, got, want[at])
			}
		}
	}
}

// TestAGroupOutlivesItsNamespaces: what it has of one that was deleted, or made again, is left out; what cannot be appended
// now holds it back whole.
func TestAGroupOutlivesItsNamespaces(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 3))
	to := []*relayed{newRelayed(t, r, wal.Incarnation{7}), newRelayed(t, r, wal.Incarnation{8}), newRelayed(t, r, wal.Incarnation{9})}
	g := &delivery.Group{Mutations: 3}
	for i, name := range []string{"target", "deleted", "again"} {
		to[i].ns.Name = name
		a, err := to[i].db.Stage(&delivery.Message{Key: "k", Token: wal.Token{Nonce: wal.NewNonce(), GenerationTime: time.Now().UnixMicro()}, Body: delivery.Body{Payload: []byte(name)}})
		if err != nil {
			t.Fatal(err)
		}
		g.Add(name, wal.Incarnation{7 + byte(i)}, a.Record)
	}
	g.Parts[2].Life = wal.Incarnation{10}
	m := &delivery.Attempt{Payload: g.Encode(), Source: wal.Source{Place: wal.SourcePlace{At: 1}, Hops: 1}}
	away := errors.New("it cannot be reached")
	var fails error
	relay := NewGroupRelay(wal.Incarnation{1}, func(_ context.Context, name string) (*Namespace, error) {
		switch name {
		case "deleted":
			return nil, &delivery.PermanentError{Err: errors.New("there is none")}
		case "again":
			return to[2].ns, fails
		}
		return to[0].ns, nil
	})
	fails = away
	if n, err := relay.Forward(t.Context(), []*delivery.Attempt{m}); n != 0 || !errors.Is(err, away) || len(to[0].log.entries[0])+len(to[0].log.entries[1]) > 0 {
		t.Errorf("a group of a namespace that is away: %d, %v, %v", n, err, to[0].log.entries)
	}
	fails = nil
	if n, err := relay.Forward(t.Context(), []*delivery.Attempt{m}); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for i, want := range []int{1, 0, 0} {
		if got := len(to[i].log.entries[0]) + len(to[i].log.entries[1]); got != want {
			t.Errorf("%d records in namespace %d, want %d", got, i, want)
		}
	}
	if n, err := relay.Forward(t.Context(), []*delivery.Attempt{{Payload: []byte("no group"), Source: m.Source}}); n != 0 {
		t.Errorf("what is no group: %d", n)
	} else if _, is := errors.AsType[*delivery.PermanentError](err); !is {
		t.Errorf("what is no group: %v", err)
	}
}
