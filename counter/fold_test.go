package counter

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

var foldWindows = []time.Duration{time.Minute, time.Hour, 24 * time.Hour}

// foldSettings are the rules of the four classes of counters.
var foldSettings = []Settings{
	{TokenWindow: 2 * time.Hour},
	{TokenWindow: 2 * time.Hour, TTL: 3 * time.Minute},
	{TokenWindow: 2 * time.Hour, Bounds: Bounds{HasCeiling: true, Ceiling: 1000}},
	{TokenWindow: 2 * time.Hour, Bounds: Bounds{HasFloor: true, Floor: -50, HasCeiling: true, Ceiling: 50, Saturate: true}},
}

// foldLetters counts letters.
type foldLetters map[string]int

func (l foldLetters) Put(_ context.Context, letters []consumers.DeadLetter) error {
	for i := range letters {
		l[letters[i].Reason]++
	}
	return nil
}

// fold is a log of random calls, what they come to, and an applier of them over a
// store of maps.
type fold struct {
	t       *testing.T
	rng     *rand.Rand
	n       *naive
	now     int64
	tokens  uint64
	answers map[wal.TokenID]naiveAnswer
	open    []wal.TokenID // reservations, some of them ended
	opened  []string      // their counters
	entries []wal.Entry
	adds    int

	// doubled: everything is delivered at least twice.
	doubled bool
	late    []lateCopy

	store   *mapStore
	letters foldLetters
	log     wal.Log
	applier *Applier
	copies  int64 // duplicates that the appliers before this one saw
	next    int   // entry to deliver
	retain  time.Duration
}

type lateCopy struct {
	due int // entry before which it comes
	rec *wal.Record
}

func newFold(t *testing.T, seed uint64, doubled bool) *fold {
	b, err := pebblelog.Open(pebblelog.Config{FS: vfs.NewMem(), Dir: "log", Logger: slog.New(slog.DiscardHandler), FreeSpaceFloor: -1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	log, err := b.Create(t.Context(), wal.TopicSpec{Name: "fold", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := &fold{
		t: t, rng: rand.New(rand.NewPCG(seed, 4)), n: newNaive(foldWindows), now: 1_700_000_000_000_000, answers: map[wal.TokenID]naiveAnswer{},
		doubled: doubled, store: newMapStore(), letters: foldLetters{}, log: log,
	}
	f.restart()
	return f
}

// restart forgets what is in memory.
func (f *fold) restart() {
	if f.applier != nil {
		if err := f.machine().wait(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
		f.copies += f.applier.Stats().Duplicates.Load()
	}
	a := NewApplier(ApplierConfig{
		LoopConfig: consumers.LoopConfig{Log: f.log, Letters: f.letters, Ledger: f.store}, Store: f.store, Windows: foldWindows,
		Settings: func(v uint64) (Settings, error) { return foldSettings[v], nil },
		HotBytes: 100 << 10, FlushCounters: 1000,
	})
	if err := a.Assign(f.t.Context(), 0); err != nil {
		f.t.Fatal(err)
	}
	f.applier = a
	from, err := a.Resume(f.t.Context(), 0)
	if err != nil {
		f.t.Fatal(err)
	}
	f.next = int(from)
}

func (f *fold) machine() *machine {
	m, err := f.applier.machine(0)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

func (f *fold) token() wal.Token {
	f.tokens++
	tok := wal.Token{GenerationTime: f.now}
	binary.BigEndian.PutUint64(tok.Nonce[:], f.tokens)
	return tok
}

func (f *fold) name(class int) []byte {
	i := f.rng.IntN(1250)
	if f.rng.IntN(2) == 0 {
		i = f.rng.IntN(20) // the busy ones
	}
	return fmt.Appendf(nil, "%d/%d", class, i)
}

func (f *fold) delta(class int) int64 {
	switch n := f.rng.IntN(100); {
	case class == 0 && n < 2:
		return math.MaxInt64 - f.rng.Int64N(100)
	case class == 0 && n < 4:
		return math.MinInt64 + f.rng.Int64N(100)
	case n < 10:
		return 0
	}
	return f.rng.Int64N(61) - 25
}

func (f *fold) put(rec *wal.Record) {
	if rec.Kind = wal.KindCounter; len(rec.Payload) == 0 {
		rec.Kind = wal.KindBarrier
	}
	f.entries = append(f.entries, wal.Entry{Offset: wal.Offset(len(f.entries)), LogTime: f.now, Data: wal.AppendRecord(nil, rec)})
}

// write makes one more record and its copies.
func (f *fold) write() {
	for len(f.late) > 0 && f.late[0].due <= len(f.entries) {
		rec := f.late[0].rec
		f.late = f.late[1:]
		f.put(rec)
	}
	f.now += f.rng.Int64N(200_000)
	f.n.at(f.now)
	class := f.rng.IntN(len(foldSettings))
	s := &foldSettings[class]
	rec := &wal.Record{Token: f.token(), NamespaceVersion: uint64(class), AcceptedAt: f.now - f.rng.Int64N(5000), RoutingKey: []byte("r")}
	rec.RequestHash = wal.Hash(rec.Token.Nonce)
	copied := *rec
	if f.rng.IntN(100) < 92 {
		adds := make([]Add, 1+f.rng.IntN(64))
		ownSome, ownAll := f.doubled && f.rng.IntN(3) == 0, f.doubled && f.rng.IntN(3) == 0
		for i := range adds {
			a := &adds[i]
			*a = Add{Counter: f.name(class), Delta: f.delta(class)}
			if f.rng.IntN(4) == 0 {
				a.EventTime = f.now - f.rng.Int64N(2*3600e6)
			}
			if f.rng.IntN(20) == 0 {
				a.TTL = 1 + f.rng.Int64N(300e6)
			}
			if ownAll || (ownSome && f.rng.IntN(2) == 0) {
				a.Token = f.token()
				a.Hash = wal.Hash(a.Token.Nonce)
				if f.rng.IntN(4) == 0 {
					a.Token.GenerationTime = 0 // the call's
				}
			}
			f.n.add(a, &Bounds{}, s, rec.AcceptedAt)
		}
		f.adds += len(adds)
		rec.Payload = payloadOf(f.withCopies(adds))
		if ownAll { // the copy is another call, in another order
			copied.Token = f.token()
			f.rng.Shuffle(len(adds), func(i, j int) { adds[i], adds[j] = adds[j], adds[i] })
			adds = f.withCopies(adds)
		}
		copied.Payload = payloadOf(adds)
	} else {
		c := f.single(class)
		rec.Payload = AppendPayload(nil, &c)
		copied.Payload = rec.Payload
		id := wal.IDOf(c.Add.Counter, rec.Token.Nonce)
		ans := f.n.call(&c, id, s, rec.AcceptedAt)
		f.answers[id] = ans
		if c.Op == OpReserve && ans.outcome == Applied {
			f.open, f.opened = append(f.open, id), append(f.opened, string(c.Add.Counter))
		}
	}
	f.put(rec)
	if f.doubled {
		for range 1 + f.rng.IntN(2) {
			f.late = append(f.late, lateCopy{len(f.entries) + f.rng.IntN(30), &copied})
		}
		slices.SortStableFunc(f.late, func(a, b lateCopy) int { return a.due - b.due })
	}
}

// withCopies puts copies of adds with a token of their own behind them.
func (f *fold) withCopies(adds []Add) []Add {
	out := slices.Clone(adds)
	for i := range adds {
		if adds[i].Token.IsZero() || f.rng.IntN(4) > 0 {
			continue
		}
		again := adds[i]
		if f.rng.IntN(20) == 0 {
			again.Hash[15], again.Delta = 0xff, 7 // the token, used for something else
		}
		out = append(out, again)
	}
	return out
}

func payloadOf(adds []Add) []byte {
	c := Call{Op: OpAdd}
	for i := range adds {
		c.Adds = AppendAdd(c.Adds, &adds[i])
	}
	return AppendPayload(nil, &c)
}

func (f *fold) single(class int) Call {
	c := Call{Add: Add{Counter: f.name(class)}}
	pick := func() {
		if len(f.open) == 0 {
			return
		}
		i := len(f.open) - 1 - f.rng.IntN(min(len(f.open), 40))
		c.Reservation = f.open[i]
		if f.rng.IntN(10) > 0 {
			c.Add.Counter = []byte(f.opened[i])
		}
	}
	switch f.rng.IntN(8) {
	case 0:
		c.Op = OpClear
	case 1, 2:
		c.Op, c.Amount, c.Lease = OpReserve, 1+f.rng.Int64N(30), time.Duration(1+f.rng.Int64N(20e6))*time.Microsecond
	case 3:
		c.Op, c.Amount, c.All = OpSettle, f.rng.Int64N(30), false
		pick()
	case 4:
		c.Op, c.All = OpSettle, true
		pick()
	case 5:
		c.Op = OpCancel
		pick()
	default:
		c.Op, c.Add.Delta = OpAddAndGet, f.delta(class)
		if f.rng.IntN(2) == 0 {
			c.Bounds = Bounds{HasFloor: f.rng.IntN(2) == 0, Floor: -f.rng.Int64N(100), HasCeiling: f.rng.IntN(2) == 0, Ceiling: f.rng.Int64N(100), Saturate: f.rng.IntN(2) == 0}
		}
	}
	return c
}

// deliver applies what was written and not delivered, with everything in between
// that an applier lives through.
func (f *fold) deliver() {
	ctx := f.t.Context()
	for f.next < len(f.entries) {
		n := min(1+f.rng.IntN(20), len(f.entries)-f.next)
		if _, err := f.applier.Apply(ctx, 0, f.entries[f.next:f.next+n]); err != nil {
			f.t.Fatal(err)
		}
		f.next += n
		switch f.rng.IntN(60) {
		case 0:
			f.restart()
		case 1, 2, 3:
			if _, err := f.applier.Sweep(ctx, 0, 2*time.Hour, &Fold{Retention: f.retain, UpTo: math.MaxInt64}, 1+f.rng.IntN(3000)); err != nil {
				f.t.Fatal(err)
			}
		case 4, 5, 6, 7, 8, 9, 10, 11, 12, 13:
			if err := f.applier.Flush(ctx, 0); err != nil {
				f.t.Fatal(err)
			}
		}
	}
}

// check compares everything with the naive fold.
func (f *fold) check() {
	t, ctx := f.t, f.t.Context()
	m := f.machine()
	names := make([]string, 0, len(f.n.counters))
	for name := range f.n.counters {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make([]Amount, len(names))
	if _, err := f.applier.view(ctx, 0, names, f.now, wal.NoOffset, out); err != nil {
		t.Fatal(err)
	}
	for i, name := range names {
		if c := f.n.counters[name]; out[i].Value != f.n.value(c) || out[i].Held != c.held {
			t.Fatalf("%s reads %+v, want %d, %d held", name, out[i], f.n.value(c), c.held)
		}
	}
	if err := f.applier.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	windows := make(map[uint64]map[naiveWindow]Bucket)
	for w, b := range f.store.data.windows {
		if windows[w.id] == nil {
			windows[w.id] = make(map[naiveWindow]Bucket)
		}
		windows[w.id][naiveWindow{w.size, w.start}] = b
	}
	for _, name := range names {
		f.checkRow(name, f.n.counters[name], windows)
	}
	for id, want := range f.answers {
		e, ok, err := f.applier.Known(ctx, 0, id)
		got := naiveAnswer{outcome: e.Outcome, value: e.Value, held: e.Held, applied: e.AppliedDelta, violation: e.Violation, ended: e.Ended}
		if err != nil || !ok || got != want {
			t.Fatalf("call %s is told %+v %v %v, want %+v", id, got, ok, err, want)
		}
	}
	for id, want := range f.n.leases {
		v, err := m.reservation(ctx, id)
		if err != nil || v == nil || v.State != want.state || v.Amount != want.amount || v.ExpiresAt != want.ends || string(v.Counter) != want.counter {
			t.Fatalf("reservation %s: %+v %v, want %+v", id, v, err, want)
		}
	}
}

// checkRow compares what the store has of a counter: row, windows, events.
func (f *fold) checkRow(name string, c *naiveCounter, windows map[uint64]map[naiveWindow]Bucket) {
	t := f.t
	row, ok := f.store.data.rows[name]
	if !f.n.alive(c) {
		if ok && (row.alive(f.n.now) || row.Held != c.held) {
			t.Fatalf("%s is alive: %+v", name, row)
		}
		return
	}
	if !ok || row.Value != c.value || row.Held != c.held || row.ExpiresAt != c.expires || row.Fixed != c.fixed {
		t.Fatalf("%s is %+v %v, want %+v", name, row, ok, c)
	}
	got := windows[row.ID]
	if got == nil {
		got = make(map[naiveWindow]Bucket)
	}
	for i, o := range row.Open {
		if o.Adds != 0 {
			w := naiveWindow{foldWindows[i], o.Start}
			b := got[w]
			b.Merge(o.Bucket)
			got[w] = b
		}
	}
	if len(got) != len(c.windows) {
		t.Fatalf("%s has %d windows, want %d", name, len(got), len(c.windows))
	}
	for w, want := range c.windows {
		b := got[w]
		sum := new(big.Int).Lsh(big.NewInt(b.Hi), 64)
		sum.Add(sum, new(big.Int).SetUint64(b.Lo))
		if b.Adds != want.adds || sum.Cmp(want.sum()) != 0 {
			t.Fatalf("%s, window %+v: %v in %d adds, want %v in %d", name, w, sum, b.Adds, want.sum(), want.adds)
		}
	}
	snap := mapSnapshot{f.store}
	sum, _, err := recountIn(t.Context(), snap, &row)
	if err != nil || sum != c.value {
		t.Fatalf("%s counts again as %d %v, want %d", name, sum, err, c.value)
	}
	base := f.store.data.bases[row.ID]
	events := base.Events
	for o := row.LastEvent; o > f.store.st.Folded; {
		_, n, prev, err := sumRow(o, f.store.data.events[o], row.ID)
		if err != nil || n == 0 || prev >= o {
			t.Fatalf("%s: row %d has %d events, before it %d: %v", name, o, n, prev, err)
		}
		events, o = events+n, prev
	}
	if events != c.events {
		t.Fatalf("%s has %d events, want %d", name, events, c.events)
	}
}

// sweepAll sweeps and flushes until nothing is left to do.
func (f *fold) sweepAll() {
	for range 3 { // the rest of a round, one that finds what is gone, and one that frees it
		for more := true; more; {
			var err error
			if more, err = f.applier.Sweep(f.t.Context(), 0, 2*time.Hour, &Fold{Retention: f.retain, UpTo: math.MaxInt64}, 1000); err != nil {
				f.t.Fatal(err)
			}
		}
		if err := f.applier.Drain(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}
	ids := make(map[uint64]bool)
	for name, row := range f.store.data.rows {
		if ids[row.ID] = true; !row.alive(f.n.now) && row.Held == 0 {
			f.t.Errorf("the row of %s, which is gone, was not freed: %+v", name, row)
		}
	}
	for w := range f.store.data.windows {
		if !ids[w.id] {
			f.t.Fatalf("windows of %d, which is gone, were not freed", w.id)
		}
	}
}

// foldSize is how many adds a fold is of: a million, but for those that are short or
// slow.
func foldSize() int {
	switch {
	case raceEnabled && testing.Short():
		return 30_000
	case raceEnabled || testing.Short():
		return 100_000
	}
	return 1_000_000
}

func (f *fold) run() {
	steps := 8
	for i := 1; i <= steps; i++ {
		for f.adds < foldSize()*i/steps {
			f.write()
			if len(f.entries)%500 == 0 {
				f.deliver()
			}
		}
		f.deliver()
		f.check()
	}
	f.sweepAll()
	f.check()
	for range 2 { // what the first writes can be forgotten by the second
		f.put(&wal.Record{})
		f.deliver()
		if err := f.applier.Drain(f.t.Context()); err != nil {
			f.t.Fatal(err)
		}
	}
	if got := f.machine().rollup.hotBytes; got > 100<<10 {
		f.t.Errorf("%d bytes of counters are in memory, %d are allowed", got, 100<<10)
	}
	if p := f.applier.Stats().Parked.Load(); p != 0 {
		f.t.Errorf("%d calls were parked", p)
	}
}

// TestAMillionIncrementsAreTheNaiveFold: small records, cut and evicted and
// restarted anywhere, come to what they come to one by one.
func TestAMillionIncrementsAreTheNaiveFold(t *testing.T) {
	t.Parallel()
	f := newFold(t, 1, false)
	f.run()
	if f.letters["overflow"] == 0 || f.letters["bound"] == 0 {
		t.Errorf("refused: %v; the run shows nothing of refusals", f.letters)
	}
}

// TestAMillionDoubledIncrementsAreTheNaiveFold: every record comes at least
// twice, late and out of order, adds stand twice in a batch, and old events are
// folded into bases.
func TestAMillionDoubledIncrementsAreTheNaiveFold(t *testing.T) {
	t.Parallel()
	f := newFold(t, 2, true)
	f.retain = 5 * time.Minute
	if foldSize() < 100_000 { // the log is of three minutes at most
		f.retain = time.Minute / 2
	}
	f.run()
	if copies := f.copies + f.applier.Stats().Duplicates.Load(); copies == 0 || f.letters["token_conflict"] == 0 || f.store.st.Folded == wal.NoOffset {
		t.Errorf("%d duplicates, %v, folded to %d: the run shows too little", copies, f.letters, f.store.st.Folded)
	}
}
