package durable

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// world is a log with one partition, the topic of its consumers, and a clock.
type world struct {
	t      *testing.T
	log    wal.Log
	states wal.Log
	clock  atomic.Int64 // microseconds
	prog   *wal.Progress
	given  []GivenUp
}

func newWorld(t *testing.T) *world {
	t.Helper()
	b, err := pebblelog.Open(pebblelog.Config{Dir: "log", FS: vfs.NewMem(), FreeSpaceFloor: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, prog: wal.NewProgress(1)}
	for name, l := range map[string]*wal.Log{"log": &w.log, "states": &w.states} {
		if *l, err = b.Create(t.Context(), wal.TopicSpec{Name: name, Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	w.clock.Store(1_000_000_000_000)
	return w
}

// local is one process's, which holds the partition by an epoch as long as held says so.
func (w *world) local(epoch int64, held func() bool) *Local {
	return New(Config{
		Log: w.log, Progress: w.prog,
		States: func(context.Context, bool) (wal.Log, error) { return w.states, nil },
		Held:   func(wal.Partition) (wal.Offset, bool) { return wal.Offset(epoch), held() },
		Judge: func(_ context.Context, _ wal.Partition, entries []wal.Entry) ([]Verdict, error) {
			return make([]Verdict, len(entries)), nil
		},
		GaveUp: func(_ context.Context, _ wal.Partition, g []GivenUp) error {
			w.given = append(w.given, g...)
			return nil
		},
		Now: func() time.Time { return time.UnixMicro(w.clock.Load()) }, Logger: slog.New(slog.DiscardHandler),
	})
}

func always() bool { return true }

// append writes messages of keys, which count as applied.
func (w *world) append(keys ...string) {
	w.t.Helper()
	for _, k := range keys {
		res := w.log.Append(w.t.Context(), wal.Sync, []wal.NewEntry{{Data: wal.AppendRecord(nil, &wal.Record{
			Kind: wal.KindMessage, RoutingKey: []byte(k), Token: wal.Token{GenerationTime: 1, Nonce: wal.NewNonce()}, Payload: []byte("x"),
		})}})
		if res[0].Err != nil {
			w.t.Fatal(res[0].Err)
		}
		w.prog.Advance(0, res[0].Offset, res[0].LogTime)
	}
}

func (w *world) fetch(l *Local, limit int) Fetched {
	w.t.Helper()
	got, err := l.Fetch(w.t.Context(), 0, &Fetch{Consumer: "c", Limit: limit, Bytes: 1 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func acksOf(got *Fetched, kind AckKind) (acks []Ack) {
	for _, m := range got.Messages {
		acks = append(acks, Ack{Offset: m.Offset, Life: got.Life, Lease: m.Lease, Until: m.Until, Kind: kind})
	}
	return acks
}

func offsets(ms []Message) (out []wal.Offset) {
	for i := range ms {
		out = append(out, ms[i].Offset)
	}
	return out
}

// TestWhatAnotherProcessAckedIsDone: one that has lost the partition and does not know it yet, whose acks come after the
// next one has begun.
func TestWhatAnotherProcessAckedIsDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append("a", "b", "c", "d")
	old := w.local(1, always)
	first := w.fetch(old, 3)
	next := w.local(2, always)
	got := w.fetch(next, 1) // a again: it may have been handed out, and is not done
	if !slices.Equal(offsets(got.Messages), []wal.Offset{0}) {
		t.Fatalf("%v", offsets(got.Messages))
	}
	if _, err := next.Ack(t.Context(), 0, "c", acksOf(&got, Done)); err != nil {
		t.Fatal(err)
	}
	expired, err := old.Ack(t.Context(), 0, "c", acksOf(&first, Done)[1:])
	if err != nil || len(expired) != 0 {
		t.Fatalf("%v, %v", expired, err)
	}
	third := w.local(3, always)
	if got := w.fetch(third, 10); !slices.Equal(offsets(got.Messages), []wal.Offset{3}) {
		t.Fatalf("the third is handed %v", offsets(got.Messages))
	}
}

// TestWhatWaitedIsHandedOutTogether: what waits for one record of its key comes in one fetch with it, as much as there is
// room for.
func TestWhatWaitedIsHandedOutTogether(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.local(1, always)
	w.append(slices.Repeat([]string{"a"}, 200)...)
	first := w.fetch(l, 50)
	if _, err := l.Ack(t.Context(), 0, "c", acksOf(&first, Done)[1:]); err != nil {
		t.Fatal(err)
	}
	if got := w.fetch(l, 50); len(got.Messages) != 0 {
		t.Fatalf("%d pass one of their key", len(got.Messages))
	}
	w.clock.Add(31_000_000)
	if got := w.fetch(l, 100); len(got.Messages) != 100 || got.Messages[1].Offset != 50 {
		t.Fatalf("%v are handed out then", offsets(got.Messages))
	}
}

// TestWhatWasHandedOutIsAnswered where what comes after it cannot be read.
func TestWhatWasHandedOutIsAnswered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append("a", "b")
	l := w.local(1, always)
	broken := errors.New("broken")
	judged := 0
	l.cfg.Judge = func(_ context.Context, _ wal.Partition, entries []wal.Entry) ([]Verdict, error) {
		if judged++; judged == 2 {
			return nil, broken
		}
		return make([]Verdict, len(entries)), nil
	}
	first := w.fetch(l, 1)
	if _, err := l.Ack(t.Context(), 0, "c", acksOf(&first, Nak)); err != nil {
		t.Fatal(err)
	}
	judged = 0
	if got := w.fetch(l, 10); !slices.Equal(offsets(got.Messages), []wal.Offset{0}) { // again, and then the log
		t.Fatalf("%v", offsets(got.Messages))
	}
	judged = 1
	if _, err := l.Fetch(t.Context(), 0, &Fetch{Consumer: "c", Limit: 1, Bytes: 1 << 20}); !errors.Is(err, broken) {
		t.Fatalf("with nothing to hand out: %v", err)
	}
	if got := w.fetch(l, 10); !slices.Equal(offsets(got.Messages), []wal.Offset{1}) {
		t.Fatalf("then %v", offsets(got.Messages))
	}
}

// TestAConsumerIsToldWhatItMissed: records that were trimmed before it came there.
func TestAConsumerIsToldWhatItMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append("a", "b", "c", "d", "e")
	l := w.local(1, always)
	first := w.fetch(l, 1)
	l = w.local(2, always) // a is open, and not in memory
	if err := w.log.Trim(t.Context(), 0, 3); err != nil {
		t.Fatal(err)
	}
	got := w.fetch(l, 10)
	if !slices.Equal(offsets(got.Messages), []wal.Offset{3, 4}) || got.Missed != 3 {
		t.Fatalf("%v, %d missed", offsets(got.Messages), got.Missed)
	}
	if expired, err := l.Ack(t.Context(), 0, "c", acksOf(&first, Done)); err != nil || len(expired) != 1 {
		t.Fatalf("%v, %v", expired, err)
	}
	if again := w.fetch(l, 10); again.Missed != 0 {
		t.Fatalf("told twice: %d", again.Missed)
	}
}

// TestWhatWasGivenUpIsRevived once, also by the next process, and in the order of its key.
func TestWhatWasGivenUpIsRevived(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.append("a", "a", "b")
	l := w.local(1, always)
	first := w.fetch(l, 3)
	if _, err := l.Ack(t.Context(), 0, "c", acksOf(&first, Term)); err != nil {
		t.Fatal(err)
	}
	l = w.local(2, always)
	dead, err := l.Dead(t.Context(), 0, "c")
	if err != nil || len(dead) != 3 || len(w.given) != 3 || dead[0].Attempts != 1 {
		t.Fatalf("%v, %v; told of %v", dead, err, w.given)
	}
	for o, drop := range map[wal.Offset]bool{0: false, 1: false, 2: true} {
		if was, err := l.Revive(t.Context(), 0, "c", o, drop, "job"); !was || err != nil {
			t.Fatalf("revive %d: %v, %v", o, was, err)
		}
	}
	if was, err := l.Revive(t.Context(), 0, "c", 0, false, "job"); was || err != nil {
		t.Fatalf("a second time: %v, %v", was, err)
	}
	l = w.local(3, always)
	got := w.fetch(l, 10)
	if !slices.Equal(offsets(got.Messages), []wal.Offset{0, 1}) {
		t.Fatalf("revived are %v", offsets(got.Messages))
	}
	if _, err := l.Ack(t.Context(), 0, "c", acksOf(&got, Done)); err != nil {
		t.Fatal(err)
	}
	l = w.local(4, always)
	if got := w.fetch(l, 10); len(got.Messages) != 0 {
		t.Fatalf("and then %v", offsets(got.Messages))
	}
	if dead, err := l.Dead(t.Context(), 0, ""); err != nil || len(dead) != 0 || len(w.given) != 6 {
		t.Fatalf("%v, %v; told of %v", dead, err, w.given)
	}
}

// TestTheTopicIsWrittenAnew so that it does not grow, and nothing is forgotten by that.
func TestTheTopicIsWrittenAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.local(1, always)
	if err := l.Apply(t.Context(), 0, "idle", &Change{}); err != nil {
		t.Fatal(err)
	}
	pt, err := l.of(t.Context(), 0, true)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		pt.written = 2 * writtenMost // as after so many
		w.append("a", "b")
		got := w.fetch(l, 1)
		if _, err := l.Ack(t.Context(), 0, "c", acksOf(&got, Done)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := w.states.Bounds(t.Context(), 0)
	if err != nil || b.End-b.Start > 3 {
		t.Fatalf("the topic has %d records, %v", b.End-b.Start, err)
	}
	next := w.local(2, always)
	if got := w.fetch(next, 10); !slices.Equal(offsets(got.Messages), []wal.Offset{3, 4, 5}) {
		t.Fatalf("then %v", offsets(got.Messages))
	}
	if all, err := next.List(t.Context(), 0); err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
}

// TestConsumersArePrograms runs random programs: callers that fetch, acknowledge, refuse and forget, processes that begin
// again and take over, a clock. What was acknowledged is not handed out again, nothing is lost, the order of keys holds,
// and no more is in flight than may be.
func TestConsumersArePrograms(t *testing.T) {
	t.Parallel()
	seeds := 60
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p := &program{w: newWorld(t), r: rand.New(rand.NewPCG(uint64(seed), 7)), done: map[wal.Offset]bool{}}
			p.run(300)
		})
	}
}

// program is one random run.
type program struct {
	w     *world
	r     *rand.Rand
	l     *Local
	epoch int64
	keys  []string
	done  map[wal.Offset]bool // acknowledged or given up
	out   []handedOut
}

type handedOut struct {
	m    Message
	life int64
}

const mostInFlight = 6

func (p *program) run(steps int) {
	p.begin()
	n := mostInFlight
	if err := p.l.Apply(p.w.t.Context(), 0, "c", &Change{MaxInFlight: &n}); err != nil {
		p.w.t.Fatal(err)
	}
	for range steps {
		switch k := p.r.IntN(20); {
		case k < 6:
			key := string(rune('a' + p.r.IntN(4)))
			p.w.append(key)
			p.keys = append(p.keys, key)
		case k < 12:
			p.fetch(1 + p.r.IntN(5))
		case k < 17:
			p.say()
		case k < 19:
			p.w.clock.Add(p.r.Int64N(20_000_000))
		default:
			p.begin()
		}
	}
	for len(p.done) < len(p.keys) { // and at last all of them
		p.w.clock.Add(31_000_000)
		p.out = nil
		n := len(p.done)
		for range 3 {
			p.fetch(mostInFlight)
		}
		for len(p.out) > 0 {
			p.ack(Done)
		}
		if len(p.done) == n {
			p.w.t.Fatalf("%d of %d are done, and no more comes", n, len(p.keys))
		}
	}
}

// begin has another process take over, which was told all that was answered.
func (p *program) begin() {
	p.epoch++
	p.l = p.w.local(p.epoch, always)
}

func (p *program) fetch(limit int) {
	got := p.w.fetch(p.l, limit)
	inFetch := make(map[wal.Offset]bool)
	for _, m := range got.Messages {
		inFetch[m.Offset] = true
		if p.done[m.Offset] {
			p.w.t.Fatalf("%d is handed out again, and was done", m.Offset)
		}
		for o := range m.Offset {
			if p.keys[o] == p.keys[m.Offset] && !p.done[o] && !inFetch[o] {
				p.w.t.Fatalf("%d of key %s is handed out before the end of %d", m.Offset, p.keys[o], o)
			}
		}
		p.out = append(p.out, handedOut{m, got.Life})
	}
	if got.InFlight > mostInFlight {
		p.w.t.Fatalf("%d are in flight", got.InFlight)
	}
}

func (p *program) say() {
	if len(p.out) == 0 {
		return
	}
	switch p.r.IntN(8) {
	case 0:
		p.ack(Nak)
	case 1:
		p.ack(Term)
	case 2:
		p.out = slices.Delete(p.out, 0, 1) // the caller died
	default:
		p.ack(Done)
	}
}

// ack says something of one that is out.
func (p *program) ack(kind AckKind) {
	i := p.r.IntN(len(p.out))
	h := p.out[i]
	p.out = slices.Delete(p.out, i, i+1)
	expired, err := p.l.Ack(p.w.t.Context(), 0, "c", []Ack{{
		Offset: h.m.Offset, Life: h.life, Lease: h.m.Lease, Until: h.m.Until, Kind: kind, Delay: time.Duration(p.r.IntN(2)) * time.Second,
	}})
	if err != nil {
		p.w.t.Fatal(err)
	}
	late := h.m.Until <= p.w.clock.Load()
	if late && len(expired) == 0 && !p.done[h.m.Offset] {
		p.w.t.Fatalf("an ack of %d came too late, and was taken", h.m.Offset)
	}
	if len(expired) == 0 && (kind == Done || kind == Term) {
		p.done[h.m.Offset] = true
	}
}
