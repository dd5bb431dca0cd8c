package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// storeConfig is what a document says of the store of a name.
func storeConfig(c *namespace.Config, name string) namespace.StoreConfig {
	for i := range c.Storage {
		if c.Storage[i].ID() == name {
			return c.Storage[i]
		}
	}
	return namespace.StoreConfig{Name: name}
}

// storePath is the directory of a generation of a store. Example: counter-2. Names
// of users are not in it.
func (x *space) storePath(l namespace.StoreLife) string {
	return filepath.Join(x.s.dir.storeDir(x.entry.Incarnation.String()), fmt.Sprintf("%s-%d", x.entry.Config.Abstraction, l.Generation))
}

// openStores opens the stores of the namespace, the PRIMARY first, and starts to
// apply the log to them.
func (x *space) openStores(ctx context.Context) error {
	s, e := x.s, x.entry
	dir := s.dir.storeDir(e.Incarnation.String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the stores: %w", err)
	}
	if err := writeOnce(filepath.Join(dir, originFile), s.spaces.origin); err != nil {
		return err
	}
	if err := checkIncarnation(dir, e); err != nil {
		return err
	}
	name := e.Config.Primary()
	life, ok := e.Store(name)
	if !ok {
		return fmt.Errorf("the registry knows no store %s of namespace %s", name, e.Name)
	}
	if err := x.nameRows(ctx, life); err != nil {
		return err
	}
	st, err := x.newStore(storeConfig(e.Config, name), x.storePath(life), life.Left)
	if errors.Is(err, clusterstore.ErrOtherRows) && x.holding != nil { // what is here is a copy of another's
		s.log.Warn("the ledger of a store is of other rows than the registry says, and is made anew", "namespace", e.Name, "store", name, "reason", err)
		if err = os.RemoveAll(x.storePath(life)); err == nil {
			st, err = x.newStore(storeConfig(e.Config, name), x.storePath(life), life.Left)
		}
	}
	if err != nil {
		return err
	}
	if st, err = st.checked(ctx); err != nil {
		return errors.Join(err, st.stop(ctx))
	}
	st.generation = life.Generation
	st.readReport()
	x.add(st)
	if err := st.start(); err != nil {
		return fmt.Errorf("load namespace %s: %w", e.Name, err)
	}
	x.work.Go(func() { x.noteRows(x.run, st) })
	return nil
}

// servingEvery is how often a partition is looked at that no store answers for.
const servingEvery = 100 * time.Millisecond

// watchServing has the PRIMARY decide a partition whose decider is gone, see
// store.takesOver, until every partition has a store that answers: from then on each has.
func (x *space) watchServing(ctx context.Context) {
	t := time.NewTicker(servingEvery)
	defer t.Stop()
	failed := ""
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		served := true
		for p := range wal.Partition(len(x.serving)) {
			if x.serves(p) != nil || !x.holds(p) {
				continue
			}
			served = false
			st := x.primary()
			if st == nil {
				continue
			}
			err := st.doHere(ctx, p, func(ctx context.Context) error { return st.loop.TakeOver(ctx, p) })
			if err != nil && ctx.Err() == nil && err.Error() != failed {
				failed = err.Error()
				x.s.log.Warn("a partition has no store that answers; it is looked at again", "namespace", x.ns.Name, "partition", uint32(p), "reason", err)
			}
		}
		if served && x.holding == nil {
			return
		}
	}
}

func (x *space) add(st *store) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stores[st.name] = st
}

// store returns an open store.
func (x *space) store(name string) *store {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stores[name]
}

// changedStores wakes the goroutine that keeps the stores in step with the registry.
func (x *space) changedStores() {
	select {
	case x.reconcile <- struct{}{}:
	default:
	}
}

// followers keeps the stores that follow in step with the registry until ctx is
// done: new ones are built, those that are gone are removed.
func (x *space) followers(ctx context.Context) {
	told := ""
	for {
		err := x.reconcileOnce(ctx)
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			told = ""
		case opensLater(err):
			again = time.After(buildAgain)
			if told != err.Error() {
				told = err.Error()
				x.s.log.Warn("a store cannot be opened yet; it is tried again, and the log is kept for it", "namespace", x.ns.Name, "reason", err)
			}
		default:
			x.s.log.Error("the stores of a namespace are not as its document says; it is tried again at the next change", "namespace", x.ns.Name, "reason", err)
		}
		select {
		case <-x.reconcile:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// opensLater reports whether a store that cannot be opened now may be later: its server is away, or not in
// this process's configuration.
func opensLater(err error) bool {
	return errors.Is(err, consumers.ErrStoreAway) || errors.Is(err, errNoCluster)
}

// buildAgain is how long a server that does not answer is left alone while a store is to be built on it.
const buildAgain = 5 * time.Second

func (x *space) reconcileOnce(ctx context.Context) error {
	x.stepping.Lock()
	defer x.stepping.Unlock()
	e, ok := x.s.names.Get(x.ns.Name)
	if !ok || e.Generation != x.entry.Generation {
		return nil // it is being removed
	}
	var errs []error
	for _, st := range x.all() {
		l, ok := e.Store(st.name)
		if ok && x.storePath(l) == st.dir && l.State != namespace.Failed {
			continue
		}
		if st == x.primary() {
			continue
		}
		errs = append(errs, x.close1(ctx, st))
	}
	errs = append(errs, x.removeStale(ctx, e))
	for _, l := range e.Applied() {
		if l.Name == e.Config.Primary() || l.State == namespace.Failed || x.store(l.Name) != nil {
			continue
		}
		err := x.openFollower(ctx, e, l)
		if ctx.Err() != nil {
			return ctx.Err() // the process stops; the next start goes on
		}
		switch {
		case opensLater(err):
			errs = append(errs, fmt.Errorf("store %s: %w", l.Name, err))
		case err != nil:
			errs = append(errs, x.failStore(ctx, l.Name, l.Generation, err))
		}
	}
	x.siblings.Wake()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := x.steady(ctx); err != nil {
		return err
	}
	x.resumeRebuilds(e)
	return nil
}

// close1 stops a store and forgets it.
func (x *space) close1(ctx context.Context, st *store) error {
	x.mu.Lock()
	delete(x.stores, st.name)
	x.mu.Unlock()
	st.servesEvents(false)
	return st.stop(ctx)
}

// removeStale removes the directories of generations that the registry no longer
// has. Those of a store that is open stay.
func (x *space) removeStale(ctx context.Context, e *namespace.Entry) error {
	keep := make(map[string]bool)
	for _, l := range e.Stores {
		if l.State != namespace.Failed {
			keep[x.storePath(l)] = true
		}
	}
	for _, st := range x.all() {
		keep[st.dir] = true
	}
	parent := x.s.dir.storeDir(x.entry.Incarnation.String())
	dirs, err := os.ReadDir(parent)
	if err != nil {
		return fmt.Errorf("list the stores of namespace %s: %w", e.Name, err)
	}
	for _, d := range dirs {
		path := filepath.Join(parent, d.Name())
		if report, ok := strings.CutSuffix(path, reportSuffix); ok && !keep[report] {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("remove the report of a store of namespace %s that was dropped: %w", e.Name, err)
			}
		}
		if !d.IsDir() || keep[path] {
			continue
		}
		if err := x.s.removeStores(ctx, path); err != nil {
			return fmt.Errorf("remove a store of namespace %s that was dropped: %w", e.Name, err)
		}
		x.s.log.Info("removed a store that was dropped", "namespace", e.Name, "store", d.Name())
	}
	return nil
}

// failStore notes in the registry why a store is not applied to any more, and
// returns the error that it could not be noted.
func (x *space) failStore(ctx context.Context, name string, generation uint64, cause error) error {
	x.s.log.Error("a store that follows has failed; drop it, or apply the namespace with another", "namespace", x.ns.Name, "store", name, "reason", cause)
	return x.s.names.SetStore(ctx, x.ns.Name, name, func(l *namespace.StoreLife) bool {
		if l.Generation != generation || l.State == namespace.Failed {
			return false
		}
		l.State, l.Message = namespace.Failed, cause.Error()
		return true
	})
}

// openFollower opens a store that follows, builds what it begins with where that is
// not there yet, and starts it.
func (x *space) openFollower(ctx context.Context, e *namespace.Entry, l namespace.StoreLife) error {
	dir := x.storePath(l)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if l.State != namespace.Building {
			return fmt.Errorf("its directory %s is gone; drop it, or apply the namespace with another", filepath.Base(dir))
		}
		if err := x.buildFollower(ctx, storeConfig(e.Config, l.Name), l, dir); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	st, err := x.newStore(storeConfig(e.Config, l.Name), dir, l.Left)
	if err != nil {
		return err
	}
	st.generation = l.Generation
	st.readReport()
	if _, err := st.check(ctx); err != nil {
		return errors.Join(err, st.stop(ctx))
	}
	// What is written to another server takes little of this one.
	st.building.Store(l.State == namespace.Building && !isRemote(st.conf))
	unlock := x.lockPartitions()
	x.add(st)
	err = st.start()
	unlock()
	if err != nil {
		x.mu.Lock()
		delete(x.stores, st.name)
		x.mu.Unlock()
		return err
	}
	x.work.Go(func() { x.noteRows(x.run, st) })
	if l.State == namespace.Serving {
		st.servesEvents(true)
	}
	if l.State == namespace.Building || l.State == namespace.Comparing && l.Compared == nil {
		st.work.Go(func() { x.watchBuilding(st.run, st) })
	}
	return nil
}

// buildFollower makes the directory that a store begins with: an empty one where
// the log reaches back to its first record, or else a copy of the PRIMARY as of one
// moment. It is made under another name, so that a crash leaves nothing half done.
func (x *space) buildFollower(ctx context.Context, conf namespace.StoreConfig, l namespace.StoreLife, dir string) error {
	tmp, copied := dir+".building", false
	err := x.s.removeStores(ctx, tmp)
	if err != nil {
		return err
	}
	if l.Rebuild {
		err = x.reachesBack(ctx, firstOf(l.Left))
	} else {
		copied, err = x.primary().isCopied(ctx)
	}
	if err != nil {
		return err
	}
	if copied {
		if err := x.primary().ledger.Checkpoint(tmp); err != nil {
			return fmt.Errorf("copy the PRIMARY: %w", err)
		}
	}
	st, err := x.newStore(conf, tmp, l.Left)
	if err != nil {
		return err
	}
	if from := x.primary(); copied && (isRemote(conf) || isRemote(from.conf)) {
		if err := st.fill(ctx, from); err != nil {
			return errors.Join(err, st.ledger.Close())
		}
	}
	err = st.ledger.Follow(ctx)
	for p, o := range firstOf(l.Left) {
		err = errors.Join(err, st.ledger.BeginAt(ctx, wal.Partition(p), o))
	}
	if err = errors.Join(err, st.ledger.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// lockPartitions keeps partitions from being begun and given up until unlock.
func (x *space) lockPartitions() (unlock func()) {
	if x.holding == nil {
		return func() {}
	}
	return x.holding.lockAll()
}

// filler is a backend whose stores keep their data in different places, so that a copy of a
// ledger is not a copy of the store.
type filler interface {
	// fill adds what a view of another store has, as if it had always been there.
	fill(ctx context.Context, p wal.Partition, from view) error
}

// fill completes a store whose ledger is a copy: with what the other store has now. What the
// log adds to it on the way is added once more, and changes nothing.
func (st *store) fill(ctx context.Context, from *store) error {
	f, ok := st.backend.(filler)
	if !ok {
		return fmt.Errorf("a store of type %s cannot begin as a copy of one of type %s", st.conf.Type, from.conf.Type)
	}
	for p := range wal.Partition(st.x.log.Info().Partitions) {
		v, _, err := from.backend.view(ctx, p)
		if err == nil {
			err = errors.Join(f.fill(ctx, p, v), v.Close())
		}
		if err != nil {
			return fmt.Errorf("copy partition %d of the PRIMARY: %w", p, err)
		}
	}
	return nil
}

// firstOf are the offsets that a store begins at, nil where it begins with the log.
func firstOf(l *namespace.LeftOut) (first []wal.Offset) {
	if l == nil {
		return nil
	}
	for _, o := range l.From {
		first = append(first, wal.Offset(o))
	}
	return first
}

// leftOut is what the loop of a store leaves out.
func leftOut(l *namespace.LeftOut) *consumers.LeftOut {
	if l == nil {
		return nil
	}
	out := &consumers.LeftOut{Tokens: make(map[wal.Nonce]bool)}
	for _, n := range l.Omit {
		out.Tokens[wal.Nonce(n)] = true
	}
	return out
}

// isCopied reports whether a new store begins as a copy of this one, because the log
// does not hold every record of the namespace with every exception that there was.
func (st *store) isCopied(ctx context.Context) (bool, error) {
	if st.left != nil { // the log has what this store was built without
		return true, nil
	}
	for p := range wal.Partition(st.x.log.Info().Partitions) {
		b, err := st.x.log.Bounds(ctx, p)
		if err != nil {
			return false, fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		s, err := st.ledger.State(ctx, p)
		if err != nil {
			return false, err
		}
		if b.Start > 0 || s.FirstException > 0 {
			return true, nil
		}
	}
	return false, nil
}
