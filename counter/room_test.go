package counter_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/countertest"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

const roomEpoch = 1_700_000_000_000_000 // microseconds since 1970: a Tuesday, 22:13:20

// roomClock is the time of a room. The log's and the clients' are apart, so that a
// test can tell which of them decides.
type roomClock struct{ log, wall atomic.Int64 }

func (c *roomClock) pass(d time.Duration) {
	c.log.Add(d.Microseconds())
	c.wall.Add(d.Microseconds())
}

// timedLog is a log whose times are the room's: a record has the time that it was
// first seen at, and keeps it.
type timedLog struct {
	wal.Log
	clock *roomClock

	mu    sync.Mutex // guards what follows
	times map[wal.Partition]map[wal.Offset]int64
	// misread replaces the bytes of records.
	misread map[wal.Offset][]byte
	// refuse, when it is not nil, says which appends fail.
	refuse func(e *wal.NewEntry) error
}

func (l *timedLog) at(p wal.Partition, o wal.Offset) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.times[p] == nil {
		l.times[p] = make(map[wal.Offset]int64)
	}
	t, ok := l.times[p][o]
	if !ok {
		t = l.clock.log.Load()
		l.times[p][o] = t
	}
	return t
}

func (l *timedLog) Append(ctx context.Context, d wal.Durability, entries []wal.NewEntry) []wal.Result {
	l.mu.Lock()
	refuse := l.refuse
	l.mu.Unlock()
	res := make([]wal.Result, len(entries))
	var kept []wal.NewEntry
	for i := range entries {
		if refuse != nil {
			res[i].Err = refuse(&entries[i])
		}
		if res[i].Err == nil {
			kept = append(kept, entries[i])
		}
	}
	if len(kept) == 0 {
		return res
	}
	got := l.Log.Append(ctx, d, kept)
	for i := range res {
		if res[i].Err != nil {
			continue
		}
		if res[i] = got[0]; res[i].Err == nil && d == wal.Sync {
			res[i].LogTime = l.at(entries[i].Partition, res[i].Offset)
		}
		got = got[1:]
	}
	return res
}

func (l *timedLog) Read(ctx context.Context, p wal.Partition, from wal.Offset) (wal.Reader, error) {
	r, err := l.Log.Read(ctx, p, from)
	return &timedReader{r, l}, err
}

type timedReader struct {
	wal.Reader
	l *timedLog
}

func (r *timedReader) Next(ctx context.Context) ([]wal.Entry, error) {
	entries, err := r.Reader.Next(ctx)
	for i := range entries {
		e := &entries[i]
		e.LogTime = r.l.at(e.Partition, e.Offset)
		r.l.mu.Lock()
		if b, ok := r.l.misread[e.Offset]; ok {
			e.Data = b
		}
		r.l.mu.Unlock()
	}
	return entries, err
}

// gatedStore is a store whose commits and tokens a test can hold up or fail.
type gatedStore struct {
	counter.Store
	commit atomic.Pointer[func() error] // before each commit
}

func (s *gatedStore) Begin(p wal.Partition) counter.Batch { return &gatedBatch{s.Store.Begin(p), s} }

type gatedBatch struct {
	counter.Batch
	s *gatedStore
}

func (b *gatedBatch) Commit(ctx context.Context, st counter.State) error {
	if f := b.s.commit.Load(); f != nil {
		if err := (*f)(); err != nil {
			return err
		}
	}
	return b.Batch.Commit(ctx, st)
}

// brittleLetters fail while they are told to.
type brittleLetters struct {
	*consumers.DeadLetterLog
	fail atomic.Pointer[func(l *consumers.DeadLetter) error]
}

func (b *brittleLetters) Put(ctx context.Context, letters []consumers.DeadLetter) error {
	if f := b.fail.Load(); f != nil {
		for i := range letters {
			if err := (*f)(&letters[i]); err != nil {
				return err
			}
		}
	}
	return b.DeadLetterLog.Put(ctx, letters)
}

// roomConfig is what a room is made with; zero values are usual.
type roomConfig struct {
	partitions    int
	accuracy      counter.Accuracy
	settings      counter.Settings
	windows       []time.Duration
	hotBytes      int64
	flushCounters int
	maxParked     int
	events        *countertest.Events // nil: the store has them
	published     *published          // nil: the store is not shared
}

// room is a counter namespace with everything that it stands on: log and store on
// file systems in memory that can crash, and a runner.
type room struct {
	t     testing.TB
	cfg   roomConfig
	clock *roomClock
	// settings of the namespace's versions.
	mu       sync.Mutex
	settings map[uint64]counter.Settings
	version  uint64

	logFS, storeFS *vfs.MemFS
	broker         *pebblelog.Broker
	log            *timedLog
	letters        *brittleLetters
	store          *gatedStore
	progress       *wal.Progress
	stream         *wal.Stream
	applier        *counter.Applier
	runner         *consumers.Runner
	db             *counter.DB
	shared         *sharedStore // nil: the store is not shared
	marks          *decisions.Marks
	book           *decisions.Book
	epochs         []atomic.Int64
	decisions      wal.Log
	stop           func()
	closed         bool
	within         context.Context // of every call: a test that hangs ends
}

func newRoom(t testing.TB, cfg roomConfig) *room {
	t.Helper()
	if cfg.partitions == 0 {
		cfg.partitions = 1
	}
	if cfg.accuracy == 0 {
		cfg.accuracy = counter.Accurate
	}
	if cfg.settings.TokenWindow == 0 {
		cfg.settings.TokenWindow = time.Hour
	}
	if cfg.windows == nil {
		cfg.windows = []time.Duration{time.Minute, time.Hour, 24 * time.Hour}
	}
	r := &room{t: t, cfg: cfg, clock: &roomClock{}, version: 1, settings: map[uint64]counter.Settings{1: cfg.settings}}
	r.clock.log.Store(roomEpoch)
	r.clock.wall.Store(roomEpoch)
	r.logFS, r.storeFS = vfs.NewCrashableMem(), vfs.NewCrashableMem()
	r.log = &timedLog{clock: r.clock, times: make(map[wal.Partition]map[wal.Offset]int64), misread: make(map[wal.Offset][]byte)}
	var cancel context.CancelFunc
	r.within, cancel = context.WithTimeout(context.Background(), 2*time.Minute)
	r.open()
	t.Cleanup(func() {
		r.close()
		cancel()
	})
	return r
}

// rules makes a new version of the namespace.
func (r *room) rules(s counter.Settings) {
	if s.TokenWindow == 0 {
		s.TokenWindow = time.Hour
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.version++
	r.settings[r.version] = s
}

var errNoSettings = errors.New("the version is not known yet")

func (r *room) settingsOf(v uint64) (counter.Settings, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.settings[v]
	if !ok {
		return s, errNoSettings
	}
	return s, nil
}

func (r *room) options() counter.Options {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := consumers.FrontOptions{Version: r.version, DriftPast: time.Hour, DriftFuture: time.Hour, TokenWindow: r.settings[r.version].TokenWindow}
	return counter.Options{FrontOptions: o, Accuracy: r.cfg.accuracy, Windows: r.cfg.windows, Events: r.cfg.events != nil}
}

func (r *room) open() {
	r.t.Helper()
	ctx := context.Background()
	must := func(err error) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
	}
	var err error
	r.broker, err = pebblelog.Open(pebblelog.Config{FS: r.logFS, Dir: "log", Logger: slog.New(slog.DiscardHandler), FreeSpaceFloor: -1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
	must(err)
	r.log.Log, err = r.broker.Create(ctx, wal.TopicSpec{Name: "hw.test", Partitions: r.cfg.partitions})
	must(err)
	lettersLog, err := r.broker.Create(ctx, wal.TopicSpec{Name: "hw.test.dlq", Partitions: 1})
	must(err)
	dlq, err := consumers.OpenDeadLetters(ctx, lettersLog, nil)
	must(err)
	r.letters = &brittleLetters{DeadLetterLog: dlq}
	storeConfig := pebblecounter.Config{FS: r.storeFS, Dir: "store", Partitions: r.cfg.partitions, CacheBytes: 1 << 20, MemTableBytes: 256 << 10, TokenWindow: r.cfg.settings.TokenWindow}
	var applied counter.Store
	if r.cfg.published == nil {
		store, err := pebblecounter.Open(storeConfig)
		must(err)
		r.store = &gatedStore{Store: store}
		applied = r.store
	} else {
		store, err := pebblecounter.OpenShared(storeConfig)
		must(err)
		r.shared = &sharedStore{store, r.cfg.published}
		r.store, applied = &gatedStore{Store: r.shared}, r.shared
	}
	r.progress = wal.NewProgress(r.cfg.partitions)
	r.stream = wal.NewStream(wal.StreamConfig{Namespace: "test", Log: r.log, Progress: r.progress})
	clock := &wal.Clock{}
	cfg := counter.ApplierConfig{
		LoopConfig: consumers.LoopConfig{
			Log: r.log, Letters: r.letters, Clock: clock, MaxParked: r.cfg.maxParked, Ledger: r.store,
			Applied: consumers.AdvanceOf(r.progress),
		},
		Store: applied, Settings: r.settingsOf, Windows: r.cfg.windows, HotBytes: r.cfg.hotBytes, FlushCounters: r.cfg.flushCounters,
	}
	if r.cfg.events != nil {
		cfg.Events = r.cfg.events
	}
	if r.shared != nil {
		must(r.shareMarks(ctx))
		cfg.Ahead = r.marks
	}
	r.applier = counter.NewApplier(cfg)
	r.runner = consumers.New(consumers.Config{Namespace: "test", Role: "PRIMARY", Log: r.log, Applier: r.applier, Stopped: r.progress.Stop, MaxBackoff: 20 * time.Millisecond})
	owner := counter.NewLocal(r.progress, &counter.Replica{Store: applied, Applier: r.applier, Do: r.runner.Do, Progress: r.progress})
	r.db = counter.NewDB(counter.DBConfig{
		Stream: r.stream, Owner: owner, Clock: clock, Options: r.options,
		Now: func() time.Time { return time.UnixMicro(r.clock.wall.Load()) }, BufferedLoss: time.Second,
	})
	for p := range wal.Partition(r.cfg.partitions) {
		if r.shared != nil {
			must(r.take(ctx, p))
		}
	}
	must(r.runner.StartAll(context.Background()))
	r.stop = func() {
		if err := r.runner.StopAll(context.Background()); err != nil {
			r.t.Error(err)
		}
		if r.book != nil {
			r.book.Close()
		}
	}
	for p := range wal.Partition(r.cfg.partitions) {
		must(r.stream.Barrier(r.ctx(), p))
	}
}

func (r *room) close() {
	if r.closed {
		return
	}
	r.closed = true
	r.stop()
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
	if err := r.broker.Close(); err != nil {
		r.t.Error(err)
	}
}

// crash ends the process and the machine: of the store's unsynced bytes, percent
// are left.
func (r *room) crash(percent int) {
	r.t.Helper()
	r.stop()
	logFS := r.logFS.CrashClone(vfs.CrashCloneCfg{})
	storeFS := r.storeFS.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, uint64(percent)))})
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
	if err := r.broker.Close(); err != nil {
		r.t.Error(err)
	}
	r.logFS, r.storeFS = logFS, storeFS
	r.open()
}

func (r *room) ctx() context.Context { return r.within }

// do runs f in the goroutine of partition 0.
func (r *room) do(f func(ctx context.Context) error) {
	r.t.Helper()
	if err := r.runner.Do(r.ctx(), 0, f); err != nil {
		r.t.Fatal(err)
	}
}

// save has everything that is applied written to the store, and evicts what is
// too much in memory, if anything has changed since.
func (r *room) save() {
	r.t.Helper()
	if _, _, _, err := r.db.List(r.ctx(), &counter.ListQuery{Limit: 1}); err != nil {
		r.t.Fatal(err)
	}
}

// durable saves, and makes the store survive a crash.
func (r *room) durable() {
	r.t.Helper()
	r.save()
	if _, err := r.store.Sync(r.ctx()); err != nil {
		r.t.Fatal(err)
	}
}

// sweep sweeps partition p until there is no more to do.
func (r *room) sweep(retention time.Duration) {
	r.t.Helper()
	for range 3 {
		for p := range wal.Partition(r.cfg.partitions) {
			for more := true; more; {
				err := r.runner.Do(r.ctx(), p, func(ctx context.Context) (err error) {
					more, err = r.applier.Sweep(ctx, p, r.options().TokenWindow, &counter.Fold{Retention: retention, UpTo: math.MaxInt64}, 100)
					return err
				})
				if err != nil {
					r.t.Fatal(err)
				}
			}
		}
		r.tick()
		r.save()
	}
}

// tick appends a record that says nothing but the time, to every partition, and
// waits until it is applied.
func (r *room) tick() {
	r.t.Helper()
	for p := range wal.Partition(r.cfg.partitions) {
		r.raw(p, &wal.Record{Kind: wal.KindBarrier})
	}
}

// raw appends a record as it is and waits until it is applied.
func (r *room) raw(p wal.Partition, rec *wal.Record) wal.Offset {
	r.t.Helper()
	o := r.append(p, rec)
	if err := r.stream.WaitApplied(r.ctx(), p, o); err != nil {
		r.t.Fatal(err)
	}
	return o
}

func (r *room) append(p wal.Partition, rec *wal.Record) wal.Offset {
	r.t.Helper()
	res := r.log.Append(r.ctx(), wal.Sync, []wal.NewEntry{{Partition: p, Data: wal.AppendRecord(nil, rec)}})[0]
	if res.Err != nil {
		r.t.Fatal(res.Err)
	}
	return res.Offset
}

// record is one of a call, as a DB would write it.
func (r *room) record(tok wal.Token, c *counter.Call) *wal.Record {
	payload := counter.AppendPayload(nil, c)
	return &wal.Record{
		Kind: wal.KindCounter, RoutingKey: c.Add.Counter, Token: tok, RequestHash: counter.HashOfCall(c), NamespaceVersion: r.options().Version,
		AcceptedAt: r.clock.wall.Load(), Payload: payload,
	}
}

// addsRecord is a record of adds in partition 0.
func (r *room) addsRecord(tok wal.Token, adds ...counter.Add) *wal.Record {
	c := counter.Call{Op: counter.OpAdd}
	for i := range adds {
		c.Adds = counter.AppendAdd(c.Adds, &adds[i])
	}
	rec := r.record(tok, &c)
	rec.RoutingKey = slices.MinFunc(adds, func(a, b counter.Add) int { return bytes.Compare(a.Counter, b.Counter) }).Counter
	return rec
}

func (r *room) token() wal.Token {
	return wal.Token{GenerationTime: r.clock.wall.Load(), Nonce: wal.NewNonce()}
}

// addAll is AddCounts.
func (r *room) addAll(tok wal.Token, adds ...counter.Add) counter.Result {
	a := r.db.NewAdds()
	for i := range adds {
		a.Add(&adds[i])
	}
	return r.db.AddCounts(r.ctx(), tok, a)
}

// add adds one delta and fails on anything but success.
func (r *room) add(name string, delta int64) {
	r.t.Helper()
	if res := r.addAll(wal.Token{}, plus(name, delta)); res.Err != nil {
		r.t.Fatalf("add %d to %s: %v", delta, name, res.Err)
	}
}

func plus(name string, delta int64) counter.Add {
	return counter.Add{Counter: []byte(name), Delta: delta}
}

// own gives an add a token of its own.
func own(a counter.Add, tok wal.Token) counter.Add {
	a.Token, a.Hash = tok, counter.HashOfAdd(&a)
	return a
}

func (r *room) call(tok wal.Token, c counter.Call) counter.Result {
	return r.db.Write(r.ctx(), &counter.Request{Token: tok, Call: c})
}

func on(op counter.Op, name string) counter.Call {
	return counter.Call{Op: op, Add: counter.Add{Counter: []byte(name)}}
}

func addAndGet(name string, delta int64) counter.Call {
	c := on(counter.OpAddAndGet, name)
	c.Add.Delta = delta
	return c
}

func reserve(name string, amount int64, lease time.Duration) counter.Call {
	c := on(counter.OpReserve, name)
	c.Amount, c.Lease = amount, lease
	return c
}

func settle(name string, id wal.TokenID, amount int64) counter.Call {
	c := on(counter.OpSettle, name)
	c.Reservation, c.Amount = id, amount
	return c
}

func cancelOf(name string, id wal.TokenID) counter.Call {
	c := on(counter.OpCancel, name)
	c.Reservation = id
	return c
}

// get reads counters, accurately where the namespace can.
func (r *room) get(names ...string) []counter.Count {
	r.t.Helper()
	counts, _, err := r.db.Get(r.ctx(), names, 0, wal.Position{})
	if err != nil {
		r.t.Fatal(err)
	}
	return counts
}

// want compares value and held of a counter, and what its events come to.
func (r *room) want(name string, value, held int64) {
	r.t.Helper()
	if c := r.get(name)[0]; c.Value != value || c.Held != held {
		r.t.Errorf("%s is %d with %d held, want %d with %d", name, c.Value, c.Held, value, held)
	}
	v, err := r.db.Verify(r.ctx(), []byte(name), 0, wal.Position{})
	if err != nil || v.Drift != 0 || v.Stored.Value != value {
		r.t.Errorf("verify %s: %+v %v", name, v, err)
	}
}

// series sums the windows of a counter.
func (r *room) series(name string, g time.Duration, from, to int64, loc *time.Location) []counter.Point {
	r.t.Helper()
	points, _, err := r.db.Series(r.ctx(), &counter.SeriesQuery{Counter: []byte(name), From: from, To: to, Granularity: g, Location: loc})
	if err != nil {
		r.t.Fatal(err)
	}
	return points
}

func (r *room) lettersOf(reason string) (out []consumers.DeadLetter) {
	r.t.Helper()
	all, _, more, err := r.letters.List(r.ctx(), &consumers.LetterQuery{
		Match: func(l *consumers.DeadLetter) bool { return l.Reason == reason }, Limit: 1 << 20, Bytes: 1 << 30, Scan: 1 << 30,
	})
	if err != nil || more {
		r.t.Fatalf("list letters: %v, more %v", err, more)
	}
	for _, l := range all { // the last of a mutation says what became of it
		out = slices.DeleteFunc(out, func(o consumers.DeadLetter) bool { return o.Ref == l.Ref })
		out = append(out, l)
	}
	return out
}

// redrive asks for the parked calls of a counter to be tried again.
func (r *room) redrive(name string) {
	r.t.Helper()
	payload, err := consumers.EncodeControl(&consumers.Control{Op: consumers.OpRedrive, Key: []byte(name), By: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.raw(0, &wal.Record{Kind: wal.KindControl, RoutingKey: []byte(name), Payload: payload})
}

func (r *room) parked(name string) bool {
	_, ok := r.applier.Parked(r.stream.PartitionOf([]byte(name)), []byte(name))
	return ok
}
