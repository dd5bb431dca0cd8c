package pebbledelivery

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// box is an outbox, with a simple model beside it: the deliveries that have not ended, in order.
type box struct {
	t    *testing.T
	s    *testStore
	next wal.Offset
	log  int64 // log time
	// waits are the deliveries of each target.
	waits map[string][]*delivery.Delivery
	// began are messages that a cancel comes too late for.
	began map[wal.Offset]bool
	whole map[wal.Offset]*delivery.Pending
	dead  []*delivery.Delivery
	// over are messages that had ended: one that is redriven is not delayed any more.
	over map[wal.Offset]bool
	// parked are the keys that wait for a dead delivery, by target and key.
	parked map[string]*delivery.Delivery
}

func newBox(t *testing.T) *box {
	s := open(t, Config{FS: vfs.NewCrashableMem(), Dir: "log", Partitions: 1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	return &box{t: t, s: s, waits: make(map[string][]*delivery.Delivery), began: make(map[wal.Offset]bool), whole: make(map[wal.Offset]*delivery.Pending), over: make(map[wal.Offset]bool), parked: make(map[string]*delivery.Delivery)}
}

func (b *box) close() {
	if err := b.s.Close(); err != nil {
		b.t.Error(err)
	}
}

// batch commits what f does.
func (b *box) batch(f func(delivery.Batch)) {
	b.t.Helper()
	w := b.s.Begin(0)
	f(w)
	if err := w.Commit(context.Background(), consumers.State{Applied: b.next, LogTime: b.log}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) message(key string, delay int64, ordered bool, targets ...string) *delivery.Pending {
	m := &delivery.Pending{
		Offset: b.next, LogTime: b.log, Due: b.log + delay, Key: []byte(key), Keyless: key == "", Payload: fmt.Appendf(nil, "payload %d", b.next),
		Headers: []delivery.Header{{Name: "a", Value: "b"}}, Token: wal.Token{Nonce: wal.Nonce{1, byte(b.next)}, GenerationTime: 7},
	}
	b.next++
	for _, t := range targets {
		m.Aims = append(m.Aims, delivery.Aim{Target: t, Ordered: ordered, Parks: ordered && t == "y"})
		d := deliveryOf(m, m.Aims[len(m.Aims)-1])
		b.waits[t] = append(b.waits[t], d)
	}
	b.whole[m.Offset] = m
	return m
}

// heads are the deliveries of a target that may come, as the model has it.
func (b *box) heads(target string) (out []*delivery.Delivery) {
	first := make(map[string]*delivery.Delivery)
	for _, d := range b.waits[target] {
		if !d.Ordered {
			out = append(out, d)
			continue
		}
		h := first[string(d.Key)]
		if h == nil || (!h.Marked && h.Attempts == 0 || d.Marked || d.Attempts > 0) && (d.Marked || d.Attempts > 0 || d.Due < h.Due || d.Due == h.Due && d.Offset < h.Offset) {
			first[string(d.Key)] = d
		}
	}
	for _, d := range first {
		if b.parked[target+string(d.Key)] == nil {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(x, y *delivery.Delivery) int {
		if x.At != y.At {
			return int(x.At - y.At)
		}
		return int(x.Offset - y.Offset)
	})
	return out
}

// check compares the store with the model.
func (b *box) check() {
	b.t.Helper()
	ctx := b.t.Context()
	waiting := make(map[wal.Offset]bool)
	for _, target := range []string{"x", "y"} {
		want := b.heads(target)
		got, err := b.s.Due(ctx, 0, target, 0, wal.NoOffset, 10_000)
		if err != nil {
			b.t.Fatal(err)
		}
		if len(got) != len(want) {
			b.t.Fatalf("target %s has %d deliveries, want %d: %+v", target, len(got), len(want), got)
		}
		for i, w := range want {
			if g := got[i]; g.Offset != w.Offset || g.At != w.At || g.Due != w.Due || g.Attempts != w.Attempts || g.Marked != w.Marked || string(g.Key) != string(w.Key) {
				b.t.Fatalf("target %s, delivery %d is %+v, want %+v", target, i, g, *w)
			}
		}
		for _, d := range b.waits[target] {
			waiting[d.Offset] = true
		}
	}
	oldest, delayed := wal.NoOffset, 0
	for o := range b.next {
		m, there, err := b.s.Pending(ctx, 0, o)
		if err != nil || there != waiting[o] {
			b.t.Fatalf("message %d is there: %v, %v; want %v", o, there, err, waiting[o])
		}
		if !there {
			b.over[o] = true
			continue
		}
		if oldest == wal.NoOffset {
			oldest = o
		}
		if w := b.whole[o]; string(m.Payload) != string(w.Payload) || len(m.Headers) != 1 || m.Token != w.Token || m.Due != w.Due || len(m.Aims) != len(w.Aims) {
			b.t.Fatalf("message %d is %+v, want %+v", o, m, w)
		} else if w.Delayed() && !b.over[o] {
			delayed++
		}
	}
	for o := range b.next {
		found, err := b.s.Find(ctx, 0, b.whole[o].Token.Nonce)
		want := delivery.Named{Offset: o, ID: wal.IDOf(b.whole[o].Key, b.whole[o].Token.Nonce)}
		if err != nil || !slices.Contains(found, want) {
			b.t.Fatalf("by its nonce message %d is found as %v, %v", o, found, err)
		}
	}
	ds, err := b.s.Dead(ctx, 0, delivery.DeadPlace{Offset: wal.NoOffset}, 10_000)
	if err != nil || len(ds) != len(b.dead) {
		b.t.Fatalf("%d are dead, %v; want %d", len(ds), err, len(b.dead))
	}
	for i := range ds {
		if !slices.ContainsFunc(b.dead, func(d *delivery.Delivery) bool { return d.Offset == ds[i].Offset && d.Target == ds[i].Target }) || string(ds[i].Key) != string(b.whole[ds[i].Offset].Key) {
			b.t.Fatalf("%+v is dead", ds[i])
		}
	}
	if o, err := b.s.Oldest(ctx, 0); err != nil || o != oldest {
		b.t.Fatalf("the oldest is %d, %v; want %d", o, err, oldest)
	}
	ms, err := b.s.Delayed(ctx, 0, nil, 0, wal.NoOffset, math.MaxInt64, 10_000)
	if err != nil || len(ms) != delayed {
		b.t.Fatalf("%d are delayed, %v; want %d", len(ms), err, delayed)
	}
	n := 0
	for _, key := range []string{"", "a", "b", "ab"} {
		of, err := b.s.Delayed(ctx, 0, []byte(key), 0, wal.NoOffset, math.MaxInt64, 10_000)
		if err != nil {
			b.t.Fatal(err)
		}
		for i := range of {
			if string(of[i].Key) != key {
				b.t.Fatalf("a message of key %q is among those of %q", of[i].Key, key)
			}
		}
		n += len(of)
	}
	if n != delayed {
		b.t.Fatalf("%d are delayed by their keys; want %d", n, delayed)
	}
}

func (b *box) ended(target string, d *delivery.Delivery) {
	b.waits[target] = slices.DeleteFunc(b.waits[target], func(o *delivery.Delivery) bool { return o == d })
}

// settle tells of an attempt at one of the heads.
func (b *box) settle(target string, d *delivery.Delivery, what int) {
	b.t.Helper()
	out := []delivery.Outcome{{Delivery: *d, What: what, Next: d.At + 50, Error: "no", Now: b.log}}
	if _, err := b.s.Settle(b.t.Context(), 0, out); err != nil || out[0].Gone {
		b.t.Fatalf("settle %+v: gone %v, %v", *d, out[0].Gone, err)
	}
	b.began[d.Offset] = true
	switch what {
	case delivery.Begins:
		d.Marked = true
	case delivery.Fails:
		d.Attempts, d.At, d.Marked = d.Attempts+1, d.At+50, true
	case delivery.Succeeds:
		b.ended(target, d)
	}
}

// revive redrives or drops a dead delivery.
func (b *box) revive(rng *rand.Rand) {
	b.t.Helper()
	i := rng.IntN(len(b.dead))
	d := b.dead[i]
	b.dead = slices.Delete(b.dead, i, i+1)
	if k := d.Target + string(d.Key); b.parked[k] == d {
		delete(b.parked, k)
	}
	b.batch(func(w delivery.Batch) {
		if rng.IntN(3) == 0 {
			if w.Drop(d.Offset, d.Target, b.log, "job") == nil {
				b.t.Fatalf("%+v was not there to be dropped", *d)
			}
			return
		}
		if t := w.Redrive(d.Offset, d.Target, b.log, "job"); t == nil || t.By != "job" {
			b.t.Fatalf("%+v was not there to be redriven: %+v", *d, t)
		}
		d.At, d.Attempts, d.Marked, d.Delayed = d.Due, 0, false, false
		if !d.Ordered {
			d.At = b.log + 1
		}
		b.waits[d.Target] = append(b.waits[d.Target], d)
	})
	b.batch(func(w delivery.Batch) {
		if w.Redrive(d.Offset, d.Target, b.log, "other") != nil || w.Drop(d.Offset, d.Target, b.log, "other") != nil {
			b.t.Fatalf("%+v is dead after it was redriven or dropped", *d)
		}
	})
}

// TestOutboxIsItsModel does what comes at random to an outbox and to a list.
func TestOutboxIsItsModel(t *testing.T) {
	t.Parallel()
	seeds := uint64(20)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		rng := rand.New(rand.NewPCG(seed, 2))
		b := newBox(t)
		keys, targets := []string{"", "a", "b", "ab"}, []string{"x", "y"}
		for range 150 {
			b.log += rng.Int64N(3)
			target := targets[rng.IntN(2)]
			switch n := rng.IntN(10); {
			case n < 4:
				b.batch(func(w delivery.Batch) {
					for range 1 + rng.IntN(4) {
						to := [][]string{{"x"}, {"y"}, {"x", "y"}}[rng.IntN(3)]
						w.Add(b.message(keys[rng.IntN(4)], []int64{0, 0, 20, 5}[rng.IntN(4)], rng.IntN(3) > 0, to...))
					}
				})
			case n < 8:
				hs := b.heads(target)
				if len(hs) > 0 {
					b.settle(target, hs[rng.IntN(len(hs))], rng.IntN(3))
				}
			case n < 9 && b.next > 0:
				o := wal.Offset(rng.Int64N(int64(b.next)))
				m := b.whole[o]
				waits := 0
				for _, at := range targets {
					for _, d := range b.waits[at] {
						if d.Offset == o {
							waits++
						}
					}
				}
				want := m.Delayed() && !b.began[o] && waits == len(m.Aims)
				b.batch(func(w delivery.Batch) {
					if got := w.Cancel(o, b.log); got != want {
						t.Fatalf("cancel of %d: %v, want %v", o, got, want)
					}
				})
				if want {
					for _, at := range targets {
						b.waits[at] = slices.DeleteFunc(b.waits[at], func(d *delivery.Delivery) bool { return d.Offset == o })
					}
				}
			default:
				hs := b.heads(target)
				if len(hs) == 0 {
					continue
				}
				d := hs[rng.IntN(len(hs))]
				b.batch(func(w delivery.Batch) {
					if w.Kill(&delivery.Death{Offset: d.Offset, Target: target, At: d.At, Reason: "dead", Now: b.log}) == nil {
						t.Fatalf("%+v was not there to be killed", *d)
					}
				})
				b.began[d.Offset] = true
				b.ended(target, d)
				b.dead = append(b.dead, d)
				if d.Ordered && target == "y" {
					b.parked[target+string(d.Key)] = d
				}
			}
			if len(b.dead) > 0 && rng.IntN(4) == 0 {
				b.check() // which notes what has ended
				b.revive(rng)
			}
			b.check()
		}
		b.close()
	}
}

// TestWhatEndedIsKnownForATime sweeps.
func TestWhatEndedIsKnownForATime(t *testing.T) {
	t.Parallel()
	b := newBox(t)
	defer b.close()
	b.batch(func(w delivery.Batch) {
		w.Add(b.message("a", 0, true, "x"))
		w.Add(b.message("b", 0, true, "x"))
	})
	b.log = 100
	b.settle("x", b.heads("x")[0], delivery.Fails)
	b.log = 200
	for _, d := range b.heads("x") {
		b.settle("x", d, delivery.Succeeds)
		b.log += 100
	}
	status := func(o wal.Offset) (delivery.Status, bool) {
		st, known, err := b.s.Status(t.Context(), 0, o)
		if err != nil {
			t.Fatal(err)
		}
		return st, known
	}
	st, known := status(0)
	if !known || st.Targets[0].State != delivery.Delivered || st.Targets[0].Attempts != 2 || st.Targets[0].Error != "" {
		t.Errorf("the first is %+v, %v", st, known)
	}
	st, known = status(1)
	if !known || st.Targets[0].Attempts != 1 || st.Targets[0].At != 200 {
		t.Errorf("the second is %+v, %v", st, known)
	}
	if _, more, err := b.s.Sweep(t.Context(), 0, math.MinInt64, 201, 0); err != nil || more {
		t.Fatal(more, err)
	}
	if _, known := status(1); known {
		t.Error("the second is known after its time")
	}
	for o, want := range []int{1, 0} {
		if found, err := b.s.Find(t.Context(), 0, b.whole[wal.Offset(o)].Token.Nonce); err != nil || len(found) != want {
			t.Errorf("message %d is found as %v, %v", o, found, err)
		}
	}
	if _, known := status(0); !known {
		t.Error("the first, which ended later, is not known")
	}
	out := []delivery.Outcome{{Delivery: delivery.Delivery{Target: "x", Offset: 1, Ordered: true, Key: []byte("b")}, What: delivery.Succeeds}}
	if _, err := b.s.Settle(t.Context(), 0, out); err != nil || !out[0].Gone {
		t.Errorf("an outcome of what is forgotten: gone %v, %v", out[0].Gone, err)
	}
}

// TestWhatIsDueEarlierWaitsForAParkedMessageToo, and comes first once the key goes on.
func TestWhatIsDueEarlierWaitsForAParkedMessageToo(t *testing.T) {
	t.Parallel()
	for _, drop := range []bool{false, true} {
		b := newBox(t)
		b.log = 10
		b.batch(func(w delivery.Batch) { w.Add(b.message("a", 20, true, "y")) })
		kill := func(d *delivery.Delivery) {
			b.batch(func(w delivery.Batch) {
				if w.Kill(&delivery.Death{Offset: d.Offset, Target: "y", At: d.At, Reason: "dead", Now: b.log}) == nil {
					t.Error("it was not there to be killed")
				}
			})
		}
		due := func() (offsets []wal.Offset) {
			ds, err := b.s.Due(t.Context(), 0, "y", 0, wal.NoOffset, 10)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range ds {
				offsets = append(offsets, d.Offset)
			}
			return offsets
		}
		kill(b.heads("y")[0])
		b.batch(func(w delivery.Batch) { w.Add(b.message("a", 0, true, "y")) })
		if got := due(); len(got) != 0 {
			t.Errorf("%v may come behind a parked message", got)
		}
		b.batch(func(w delivery.Batch) {
			if drop {
				w.Drop(0, "y", b.log, "job")
			} else {
				w.Redrive(0, "y", b.log, "job")
			}
		})
		if got := due(); fmt.Sprint(got) != "[1]" {
			t.Errorf("%v may come first", got)
		}
		b.close()
	}
}
