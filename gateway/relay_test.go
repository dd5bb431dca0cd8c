package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/pebbledelivery"
)

// badLog is a log of two partitions that loses appends, says of some that it has that it does not know, and has others
// much later, as those of a process that stood still.
type badLog struct {
	wal.Log // what is not called
	r       *rand.Rand
	life    wal.Incarnation
	entries [2][]wal.Entry
	late    []wal.NewEntry
	bad     bool
}

func (l *badLog) Info() wal.TopicInfo {
	return wal.TopicInfo{Name: "target", Partitions: 2, Incarnation: l.life}
}

func (l *badLog) LastEnd(p wal.Partition) wal.LogEnd {
	return wal.LogEnd{End: wal.Offset(len(l.entries[p]))}
}

func (l *badLog) take(e wal.NewEntry) wal.Offset {
	o := wal.Offset(len(l.entries[e.Partition]))
	l.entries[e.Partition] = append(l.entries[e.Partition], wal.Entry{Offset: o, LogTime: 1e15 + int64(o), Data: e.Data})
	return o
}

func (l *badLog) Append(_ context.Context, _ wal.Durability, es []wal.NewEntry) []wal.Result {
	out := make([]wal.Result, len(es))
	for i, e := range es {
		switch n := l.r.IntN(20); {
		case !l.bad || n > 6:
			out[i].Offset = l.take(e)
		case n < 2:
			out[i].Err = wal.ErrNotAppended
		case n < 4:
			l.take(e)
			out[i].Err = wal.ErrUnknown
		default:
			l.late = append(l.late, e)
			out[i].Err = wal.ErrUnknown
		}
	}
	if len(l.late) > 0 && l.r.IntN(3) == 0 {
		k := l.r.IntN(len(l.late))
		l.take(l.late[k])
		l.late = slices.Delete(l.late, k, k+1)
	}
	return out
}

// relayed is a namespace that messages are relayed to, and its applier.
type relayed struct {
	log  *badLog
	ns   *Namespace
	loop *consumers.Loop
	db   *delivery.DB
	st   *pebbledelivery.Store
}

func newRelayed(t *testing.T, r *rand.Rand, life wal.Incarnation) *relayed {
	x := &relayed{log: &badLog{r: r, life: life}}
	var err error
	if x.st, err = pebbledelivery.Open(pebbledelivery.Config{FS: vfs.NewMem(), Dir: "target", Partitions: 2, MemTableBytes: 256 << 10, CacheBytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.st.Close(); err != nil {
			t.Error(err)
		}
	})
	progress := wal.NewProgress(2)
	stream := wal.NewStream(wal.StreamConfig{Namespace: "target", Log: x.log, Progress: progress})
	stream.LetBehind(true)
	x.db = delivery.NewDB(delivery.DBConfig{
		Stream: stream, Clock: &wal.Clock{}, Now: time.Now,
		Options: func() consumers.FrontOptions {
			return consumers.FrontOptions{Version: 1, TokenWindow: time.Minute, DriftPast: time.Minute, DriftFuture: time.Minute}
		},
	})
	x.ns = &Namespace{Name: "target", Stream: stream, Messages: x.db}
	x.ns.SetConfig(&namespace.Config{Name: "target", Abstraction: namespace.Log, Limits: namespace.Limits{MaxValue: 1 << 20}})
	a := delivery.NewApplier(delivery.ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: x.log, Applied: consumers.AdvanceOf(progress), Ledger: x.st}, Store: x.st,
		Rules: func(uint64) (*delivery.Rules, error) { return &delivery.Rules{Window: time.Minute}, nil },
	})
	x.loop = a.Loop
	return x
}

// counted applies the log from where the applier is and returns the messages that count, by partition.
func (x *relayed) counted(t *testing.T) (all [2][]string) {
	t.Helper()
	ctx := t.Context()
	for p := range wal.Partition(2) {
		if err := x.loop.Assign(ctx, p); err != nil {
			t.Fatal(err)
		}
		at, err := x.loop.Resume(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := x.loop.Apply(ctx, p, x.log.entries[p][at:]); err != nil {
			t.Fatal(err)
		}
		refused := make(map[wal.Offset]bool)
		err = x.st.Exceptions(ctx, p, 0, 1<<60, func(o wal.Offset, _ []byte) error {
			refused[o] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range x.log.entries[p] {
			var rec wal.Record
			if err := wal.DecodeRecord(e.Data, &rec); err != nil {
				t.Fatal(err)
			}
			if !refused[e.Offset] {
				all[p] = append(all[p], string(rec.Payload))
			}
		}
		if err := x.loop.Revoke(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// sends is one who relays messages: it goes on behind what it knows to be there, and begins again where it likes.
func (x *relayed) sends(t *testing.T, relay delivery.Forwarder, ms []*delivery.Attempt, tries int) (n int) {
	t.Helper()
	for range tries {
		if n == len(ms) {
			break
		}
		batch := ms[n:min(n+1+x.log.r.IntN(8), len(ms))]
		k, err := relay.Forward(t.Context(), batch)
		if _, permanent := errors.AsType[*delivery.PermanentError](err); permanent {
			t.Fatal(err)
		}
		if (err == nil) != (k == len(batch)) {
			t.Fatalf("%d of %d messages, and %v", k, len(batch), err)
		}
		n += k
	}
	return n
}

// TestARelayedMessageCountsOnce, in its order in each partition, whatever the log does to who appends, also when
// others append the same: one that was taken for dead, or one that has lost where it was.
func TestARelayedMessageCountsOnce(t *testing.T) {
	for seed := range uint64(300) {
		x := newRelayed(t, rand.New(rand.NewPCG(seed, 1)), wal.Incarnation{7})
		r := x.log.r
		topic := wal.Incarnation{1}
		var want [2][]string
		var ms []*delivery.Attempt
		for i := range 60 {
			key, body := fmt.Sprint(r.IntN(10)), fmt.Sprint(i)
			ms = append(ms, &delivery.Attempt{
				Key: key, Token: wal.Token{Nonce: wal.NewNonce(), GenerationTime: 1}, Payload: []byte(body),
				Source: wal.Source{Partition: 3, Place: wal.SourcePlace{At: int64(1 + i/2), Offset: wal.Offset(i * 7 % 60)}, Hops: 1},
			})
		}
		slices.SortFunc(ms, func(a, b *delivery.Attempt) int { return a.Source.Place.Compare(b.Source.Place) })
		for _, m := range ms {
			p := wal.PartitionOf([]byte(m.Key), 2)
			want[p] = append(want[p], string(m.Payload))
		}
		to := func(context.Context, bool) (*Namespace, error) { return x.ns, nil }
		x.log.bad = true
		done := 0 // what all senders know
		for range 6 {
			begin := done
			if r.IntN(4) == 0 { // it has lost its store
				begin = 0
			}
			done = max(done, begin+x.sends(t, NewRelay(topic, to), ms[begin:], 1+r.IntN(20)))
		}
		x.counted(t) // and again from what is saved
		x.log.bad = false
		if n := x.sends(t, NewRelay(topic, to), ms[done:], 1000); done+n != len(ms) {
			t.Fatalf("seed %d: %d of %d messages", seed, done+n, len(ms))
		}
		for _, e := range x.log.late {
			x.log.take(e)
		}
		if got := x.counted(t); !slices.Equal(got[0], want[0]) || !slices.Equal(got[1], want[1]) {
			t.Fatalf("seed %d: counted are %v, want %v", seed, got, want)
		}
	}
}

// TestARelayGoesOnWhereItsTargetHasForgotten: another process has the target now, whose store begins where the log was
// trimmed to, above all that the relay has brought before.
func TestARelayGoesOnWhereItsTargetHasForgotten(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 4))
	before, after := newRelayed(t, r, wal.Incarnation{7}), newRelayed(t, r, wal.Incarnation{7})
	ns := before.ns
	topic := wal.Incarnation{1}
	group := func(at int64) *delivery.Attempt {
		g := &delivery.Group{Mutations: 1}
		a, err := before.db.Stage(&delivery.Message{Key: "k", Token: wal.Token{Nonce: wal.NewNonce(), GenerationTime: time.Now().UnixMicro()}, Body: delivery.Body{Payload: fmt.Append(nil, "group ", at)}})
		if err != nil {
			t.Fatal(err)
		}
		g.Add("target", wal.Incarnation{7}, a.Record)
		return &delivery.Attempt{Payload: g.Encode(), Source: wal.Source{Partition: 4, Place: wal.SourcePlace{At: at}, Hops: 1}}
	}
	message := func(at int64) *delivery.Attempt {
		return &delivery.Attempt{
			Key: "k", Token: wal.Token{Nonce: wal.NewNonce()}, Payload: fmt.Append(nil, "message ", at),
			Source: wal.Source{Partition: 3, Place: wal.SourcePlace{At: at}, Hops: 1},
		}
	}
	messages := NewRelay(topic, func(context.Context, bool) (*Namespace, error) { return ns, nil })
	groups := NewGroupRelay(topic, func(context.Context, string) (*Namespace, error) { return ns, nil })
	sends := func(at int64) {
		for relay, m := range map[delivery.Forwarder]*delivery.Attempt{messages: message(at), groups: group(at)} {
			if n, err := relay.Forward(t.Context(), []*delivery.Attempt{m}); n != 1 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
	}
	sends(1)
	ns = after.ns
	for p := range wal.Partition(2) {
		after.log.entries[p] = before.log.entries[p]
		if err := after.st.BeginAt(t.Context(), p, wal.Offset(len(after.log.entries[p]))); err != nil {
			t.Fatal(err)
		}
	}
	sends(2)
	p := wal.PartitionOf([]byte("k"), 2)
	got := after.counted(t)[p]
	slices.Sort(got)
	if len(got) != 4 || got[1] != "group 2" || got[3] != "message 2" {
		t.Errorf("counted are %q", got)
	}
}

// TestARelayAsksForTheNewestBeforeAMessageIsDead: the change that lets the message in may be one that this process has
// not heard of, as where a dead letter is redriven at once.
func TestARelayAsksForTheNewestBeforeAMessageIsDead(t *testing.T) {
	x := newRelayed(t, rand.New(rand.NewPCG(1, 1)), wal.Incarnation{7})
	limit := func(most int64) {
		x.ns.SetConfig(&namespace.Config{Name: "target", Abstraction: namespace.Log, Limits: namespace.Limits{MaxValue: most}})
	}
	limit(4)
	asked := 0
	var newest int64
	relay := NewRelay(wal.Incarnation{1}, func(_ context.Context, now bool) (*Namespace, error) {
		if now {
			asked++
			limit(newest)
		}
		return x.ns, nil
	})
	var ms []*delivery.Attempt
	for i, payload := range []string{"tiny", "larger", "tiny"} {
		ms = append(ms, &delivery.Attempt{
			Key: "k", Token: wal.Token{Nonce: wal.NewNonce(), GenerationTime: 1}, Payload: []byte(payload),
			Source: wal.Source{Partition: 3, Place: wal.SourcePlace{At: int64(1 + i)}, Hops: 1},
		})
	}
	newest = 5
	n, err := relay.Forward(t.Context(), ms)
	if _, dead := errors.AsType[*delivery.PermanentError](err); n != 1 || !dead || asked != 1 {
		t.Errorf("forwarded %d, asked %d times, and %v; want 1, once, and a dead one", n, asked, err)
	}
	newest = 6
	if n, err := relay.Forward(t.Context(), ms[1:]); n != 2 || err != nil {
		t.Errorf("forwarded %d, and %v; want 2", n, err)
	}
	if got := x.counted(t)[wal.PartitionOf([]byte("k"), 2)]; !slices.Equal(got, []string{"tiny", "larger", "tiny"}) {
		t.Errorf("counted are %q", got)
	}
}
