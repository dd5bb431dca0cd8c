package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// backend is what an abstraction brings of a store of its own and of the applier
// that writes it. A store calls open, then load, then everything else.
type backend interface {
	// open opens the store, whose directory may not exist.
	open(cfg pebblestore.Config) (ledger, error)
	// load makes the applier on the open store.
	load() *consumers.Loop
	// save returns when the store has everything that was applied of p.
	save(ctx context.Context, p wal.Partition) error
	// view is a snapshot of a partition with all that was applied, and its position.
	view(ctx context.Context, p wal.Partition) (view, wal.Offset, error)
	// compare compares two views of a partition, of this store and of another.
	compare(ctx context.Context, c *comparison) error
	// serve has reads of p answered by this store from now on.
	serve(p wal.Partition)
	// run does what is done beside applying until ctx is done; it may be nothing.
	run(ctx context.Context)
	// sweep frees up to limit keys that nobody can see any more. In the goroutine of
	// the partition's applier.
	sweep(ctx context.Context, p wal.Partition, limit int) (more bool, err error)
	// due reports whether the log of p should be moved on by a tick, so that what
	// ends by log time does: now is log time in microseconds since 1970. In the
	// goroutine of the partition's applier.
	due(p wal.Partition, now int64) bool
}

// ledger is what is known of a store without its abstraction; see
// pebblestore.Store.
type ledger interface {
	consumers.Exceptions
	State(ctx context.Context, p wal.Partition) (consumers.State, error)
	LiveTokens(p wal.Partition) int64
	SetTokenWindow(window time.Duration)
	Sync(ctx context.Context) (map[wal.Partition]wal.Offset, error)
	Follow(ctx context.Context) error
	BeginAt(ctx context.Context, p wal.Partition, o wal.Offset) error
	Checkpoint(dir string) error
	Close() error // closing again does nothing
}

// store is one store of a namespace: what it keeps, the applier that writes it,
// and the runner that drives it. Several stores of a namespace run side by side,
// each at its own pace.
type store struct {
	x          *space
	name       string
	conf       namespace.StoreConfig // its role may have changed since
	dir        string                // of the Pebble itself
	generation uint64
	left       *namespace.LeftOut // what it was built without; nil: nothing

	backend  backend
	ledger   ledger // open
	loop     *consumers.Loop
	progress *wal.Progress // of this store
	// building: it has not caught up since it was made, and takes a share of the machine.
	building atomic.Bool
	runner   *consumers.Runner
	// inHand, by partition: readers' progress is told of the entries in hand. Of the partition's goroutine.
	inHand []bool
	run    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex // guards what follows
	role   string
	report *consumers.Report // of the last comparison of this generation; nil: none
}

// roleNow is the store's role: a promote exchanges them.
func (st *store) roleNow() string {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.role
}

// hasRole reports whether the store has a role now.
func (st *store) hasRole(role string) bool { return st.roleNow() == role }

// savedOffset is up to where the store has a partition saved.
func (st *store) savedOffset(p wal.Partition) wal.Offset {
	if part := st.loop.Part(p); part != nil {
		return part.SavedOffset()
	}
	return wal.NoOffset
}

// newStore opens a store of the namespace and makes its applier. It does not start
// it.
func (x *space) newStore(conf namespace.StoreConfig, dir string, left *namespace.LeftOut) (*store, error) {
	name, role := conf.ID(), conf.Role
	st := &store{x: x, name: name, conf: conf, role: role, dir: dir, left: left, progress: wal.NewProgress(x.log.Info().Partitions), inHand: make([]bool, x.log.Info().Partitions)}
	b := abstractions[x.entry.Config.Abstraction].store(st)
	err := os.MkdirAll(filepath.Dir(dir), 0o700)
	if err != nil {
		return nil, fmt.Errorf("make the directory of a store: %w", err)
	}
	if st.ledger, err = b.open(st.pebbleConfig()); err != nil {
		return nil, fmt.Errorf("open store %s of namespace %s: %w", name, x.entry.Name, err)
	}
	st.backend = b
	st.loop = b.load()
	st.runner = consumers.New(consumers.Config{
		Namespace: x.entry.Name, Role: role, Log: x.log, Applier: gentle{st.loop, st}, Stopped: st.stopped, Holding: st.holding, Logger: x.s.log,
		Finish: x.s.cfg.ShutdownTimeout / 5, Pace: st.pace, Linger: st.linger,
	})
	return st, nil
}

// loopConfig is what the loops of all abstractions are made of.
func (st *store) loopConfig() consumers.LoopConfig {
	x := st.x
	return consumers.LoopConfig{
		Log: x.log, Letters: x.ns.Letters, Clock: &x.s.spaces.clock, Ledger: st.ledger, Siblings: x.siblings, Store: st.name,
		Applied: st.applied, TakesOver: st.takesOver, Left: leftOut(st.left),
	}
}

// takesOver implements LoopConfig.TakesOver: the PRIMARY decides what no other store of
// the registry does.
func (st *store) takesOver(q *consumers.Part) bool {
	x := st.x
	e, ok := x.s.names.Get(x.entry.Name)
	if !ok || e.Config.Primary() != st.name {
		return false
	}
	var others []*consumers.Part
	for _, l := range e.Applied() {
		if l.Name == st.name || l.State == namespace.Failed {
			continue
		}
		other := x.store(l.Name)
		if other == nil || other.loop.Part(q.Partition()) == nil {
			return false // it is being opened
		}
		others = append(others, other.loop.Part(q.Partition()))
	}
	return q.Forsaken(others)
}

// served is the store that answers for a partition, since the promote of a step.
type served struct {
	st   *store
	step uint64
}

// serves is the store that answers for a partition, nil while none does.
func (x *space) serves(p wal.Partition) *store {
	if s := x.serving[p].Load(); s != nil {
		return s.st
	}
	return nil
}

// applied is told by the loop how far a partition can be read. A store that decides
// answers, and goes on to do so when it has applied the record that has another
// decide, until that one has too. Of two that decide, one has not come to that record
// yet, as after a crash: the one with the higher step answers. What a store that does
// not answer has applied is no progress to readers: it may have more than the one that
// does, and a token in it would be unknown.
func (st *store) applied(p wal.Partition, s *consumers.State) {
	st.progress.Advance(p, s.Applied, s.LogTime)
	x := st.x
	x.turning.Lock()
	cur := x.serving[p].Load()
	switch {
	case cur != nil && cur.st == st:
	case s.Follows, cur != nil && cur.step >= s.Step:
		x.turning.Unlock()
		return
	default:
		st.backend.serve(p)
		x.serving[p].Store(&served{st, s.Step})
	}
	x.turning.Unlock()
	x.progress.Advance(p, s.Applied, s.LogTime)
}

// start applies the log to the store until stop.
func (st *store) start() error {
	x := st.x
	x.siblings.Add(st.loop, st.ledger)
	run, cancel := context.WithCancel(x.run)
	st.run, st.cancel = run, cancel
	if err := st.startPartitions(); err != nil {
		return errors.Join(err, st.stop(context.Background()))
	}
	st.work.Go(func() { st.backend.run(run) })
	return nil
}

// startPartitions starts those that this process applies.
func (st *store) startPartitions() error {
	x := st.x
	if x.holding == nil {
		return st.runner.StartAll(st.run)
	}
	for i := range x.holding.parts {
		p := wal.Partition(i)
		if !x.holds(p) {
			continue
		}
		s := x.claims.Standing(p)
		if err := st.begin(st.run, p, &s); err != nil {
			return err
		}
	}
	return nil
}

// registered is where the registry says that the store has its rows on another server; its life is empty where it
// does not.
func (st *store) registered() (at namespace.RowsPlace) {
	e, ok := st.x.s.names.Get(st.x.entry.Name)
	if !ok || e.Generation != st.x.entry.Generation || st.x.holding == nil {
		return at
	}
	if l, ok := e.Store(st.name); ok && l.Rows != nil && st.x.storePath(l) == st.dir {
		return *l.Rows
	}
	return at
}

// gentle is the loop of a store. While the store is being built it takes small batches,
// each of which keeps a processor for about a millisecond: what is served beside it
// waits no longer.
type gentle struct {
	*consumers.Loop
	st *store
}

// gentleBytes is how much of the log such a batch has.
const gentleBytes = 64 << 10

// Ready implements consumers.Applier.
func (g gentle) Ready(p wal.Partition, entries []wal.Entry) (int, <-chan struct{}) {
	n, changed := g.Loop.Ready(p, entries)
	if !g.st.building.Load() {
		return n, changed
	}
	size := 0
	for i := range n {
		if size += len(entries[i].Data); size > gentleBytes {
			return i + 1, changed
		}
	}
	return n, changed
}

// buildingShare is how many times longer than a batch took a store that is being built
// is left alone.
const buildingShare = 20

// pace implements consumers.Config.Pace.
func (st *store) pace(took time.Duration) time.Duration {
	if !st.building.Load() {
		return 0
	}
	return buildingShare * took
}

// A store on ClickHouse gets a block when lingerBytes of the log are there, lingerFor after the
// last one, or when somebody waits for it: ClickHouse keeps up with one small block a second and
// not with a hundred.
const (
	lingerBytes = 256 << 10
	lingerFor   = time.Second
)

// linger implements consumers.Config.Linger.
func (st *store) linger(p wal.Partition, bytes int) (time.Duration, <-chan struct{}) {
	if st.conf.Type != clickhouseType || st.hasRole(namespace.EventsRole) || bytes >= lingerBytes { // counters are flushed from time to time
		return 0, nil
	}
	if st.x.serves(p) == st {
		return lingerFor, st.x.progress.Wanted(p)
	}
	return lingerFor, st.progress.Wanted(p)
}

// owesTokens reports whether a partition of the store remembers tokens that an idle
// log keeps from being forgotten. now is in microseconds since 1970. In the
// partition's goroutine.
func (st *store) owesTokens(part *consumers.Part, now int64) bool {
	if part == nil {
		return false
	}
	idle := now - part.State().LogTime
	return st.ledger.LiveTokens(part.Partition()) > 0 && idle > (st.x.ns.Config().Tokens.Window+time.Minute).Microseconds()
}

// holding is told which entries are being applied; see wal.Progress.Hold. Another store may answer by the time that they
// are: they are let go all the same, since the memory is this one's.
func (st *store) holding(p wal.Partition, entries []wal.Entry) {
	if entries == nil {
		st.progress.Release(p)
		if st.inHand[p] {
			st.x.progress.Release(p)
		}
		st.inHand[p] = false
		return
	}
	st.progress.Hold(p, entries)
	if st.inHand[p] = st.x.serves(p) == st; st.inHand[p] {
		st.x.progress.Hold(p, entries)
	}
}

// stopped is told that a partition of the store will not go on.
func (st *store) stopped(p wal.Partition, err error) {
	st.progress.Stop(p, err)
	if st.x.serves(p) == st {
		st.x.progress.Stop(p, err)
	}
}

// stop ends the runner after the batches in hand, saves what was applied, and
// closes the store.
func (st *store) stop(ctx context.Context) error {
	var err error
	if h, ok := st.backend.(halting); ok {
		err = h.halt()
	}
	if st.cancel != nil {
		err = errors.Join(err, st.runner.StopAll(ctx))
		st.cancel()
		st.work.Wait()
		st.x.siblings.Remove(st.loop)
		if err == nil {
			_, err = st.ledger.Sync(ctx)
		}
	}
	return errors.Join(err, st.ledger.Close())
}

// failed is told by a store that takes no more writes.
func (st *store) failed(err error) {
	x := st.x
	if st.hasRole(primary) {
		x.ns.Fail(fmt.Errorf("the store of namespace %s has failed: %w", x.ns.Name, err))
	}
	x.s.log.Error("a store has failed; restart the process when the cause is mended", "namespace", x.ns.Name, "store", st.name, "reason", err)
}

// do runs f in the goroutine that applies p to the store, between two batches.
func (st *store) do(ctx context.Context, p wal.Partition, f func(context.Context) error) error {
	err := st.runner.Do(ctx, p, f)
	if errors.Is(err, consumers.ErrNotRunning) {
		return fmt.Errorf("%w: %w", wal.ErrClosed, err)
	}
	return err
}

// doHere is do, and does nothing where another process applies p or it is just being begun.
func (st *store) doHere(ctx context.Context, p wal.Partition, f func(context.Context) error) error {
	err := st.do(ctx, p, f)
	if st.x.holding != nil && errors.Is(err, consumers.ErrNotRunning) {
		return nil
	}
	return err
}
