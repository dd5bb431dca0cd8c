package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// checked compares the store with its log, and claims the namespace for this data
// directory: not before, since a directory that cannot rebuild the store must not keep
// out one that has it. A store that is ahead is removed and made anew, to be rebuilt
// from the log. The store that it returns is to be stopped also after an error.
func (st *store) checked(ctx context.Context) (*store, error) {
	ahead, err := st.check(ctx)
	if err != nil {
		return st, err
	}
	if !st.x.keeps() {
		return st.madeAnew(ctx, ahead)
	}
	if err := st.x.s.names.Claim(ctx, st.x.entry.Name, st.x.s.id); err != nil {
		return st, fmt.Errorf("claim namespace %s: %w", st.x.entry.Name, err)
	}
	return st.madeAnew(ctx, ahead)
}

// madeAnew is the store, or a fresh one in its place where it is ahead.
func (st *store) madeAnew(ctx context.Context, ahead bool) (*store, error) {
	if !ahead {
		return st, nil
	}
	st.x.s.log.Warn("a store is ahead of its log, and is rebuilt from it", "namespace", st.x.entry.Name, "store", st.name)
	remove := st.x.s.removeStores
	if st.goesOn() { // its rows are others' too
		remove = func(_ context.Context, dir string) error { return os.RemoveAll(dir) }
	}
	if err := errors.Join(st.stop(ctx), remove(ctx, st.dir)); err != nil {
		return st, fmt.Errorf("remove store %s of namespace %s: %w", st.name, st.x.entry.Name, err)
	}
	fresh, err := st.x.newStore(st.conf, st.dir, st.left)
	if err != nil {
		return st, err
	}
	_, err = fresh.check(ctx)
	return fresh, err
}

// pebbleConfig is that of a store on Pebble in dir.
func (st *store) pebbleConfig() pebblestore.Config {
	x := st.x
	return pebblestore.Config{
		Dir: st.dir, Partitions: x.log.Info().Partitions, Cache: x.s.cache, Logger: x.s.log, TokenWindow: x.ns.Config().Tokens.Window,
		OnFail: st.failed,
	}
}

// mayOwn returns why this process's data directory cannot be the home of the
// namespace, as far as the registry is known here; nil when it is, or nobody is.
func (x *space) mayOwn() error {
	cur, ok := x.s.names.Get(x.entry.Name)
	if !ok || cur.Generation != x.entry.Generation {
		return fmt.Errorf("namespace %s: %w", x.entry.Name, namespace.ErrNotFound)
	}
	return cur.Owned(x.s.id)
}

// checkIncarnation refuses a store's directory that was another topic's.
func checkIncarnation(dir string, e *namespace.Entry) error {
	name := filepath.Join(dir, incarnationFile)
	if err := writeOnce(name, e.Incarnation.String()+"\n"); err != nil {
		return err
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read whose store %s is: %w", dir, err)
	}
	if got := strings.TrimSpace(string(b)); got != e.Incarnation.String() {
		return fmt.Errorf("the store of namespace %s, %s, is that of topic incarnation %s: put the directories back in their places, or remove it to have it rebuilt from the log", e.Name, dir, got)
	}
	return nil
}

// writeOnce writes a small file unless it is there.
func writeOnce(name, content string) error {
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	return writeSynced(name, []byte(content))
}

// check compares a store with its log. ahead: the store has applied what
// the log does not hold, which only loss or tampering brings about. The error
// names a range that neither has.
func (st *store) check(ctx context.Context) (ahead bool, err error) {
	x := st.x
	if st.goesOn() {
		return st.foreign(ctx)
	}
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		state, err := st.ledger.State(ctx, p)
		if err != nil {
			return false, fmt.Errorf("read the state of partition %d: %w", p, err)
		}
		saved := state.Applied
		b, err := x.log.Bounds(ctx, p)
		if err != nil {
			return false, fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		if l, ok := st.ledger.(interface {
			LogEndsAt(p wal.Partition, end wal.Offset)
		}); ok {
			l.LogEndsAt(p, b.End)
		}
		if saved+1 < b.Start && x.s.beginsAnywhere(x.entry) {
			if err := st.ledger.BeginAt(ctx, p, b.Start); err != nil {
				return false, fmt.Errorf("begin partition %d at offset %d: %w", p, b.Start, err)
			}
			continue
		}
		if saved+1 < b.Start {
			return false, fmt.Errorf("the store of namespace %s has partition %d up to offset %d, and the log begins at %d: offsets %d to %d are in neither; restore the store from a copy",
				x.entry.Name, p, saved, b.Start, saved+1, b.Start-1)
		}
		if saved >= b.End {
			if b.Start > 0 && !x.s.beginsAnywhere(x.entry) {
				return false, fmt.Errorf("the store of namespace %s is ahead of its log (partition %d: applied %d, log ends at %d), and the log begins at %d: it cannot be rebuilt, offsets 0 to %d are gone; restore the log from a copy",
					x.entry.Name, p, saved, b.End, b.Start, b.Start-1)
			}
			ahead = true
		}
	}
	return ahead, nil
}

// goesOn reports whether the store goes on where another process has ended: what it has here is a copy.
func (st *store) goesOn() bool {
	t, ok := st.backend.(taker)
	return ok && t.goesOn()
}

// foreign reports whether the store has applied here what nobody has decided.
func (st *store) foreign(ctx context.Context) (bool, error) {
	for p := range wal.Partition(st.x.log.Info().Partitions) {
		if err := st.x.claims.Sync(ctx, p); err != nil {
			return false, err
		}
		state, err := st.ledger.State(ctx, p)
		if err != nil {
			return false, fmt.Errorf("read the state of partition %d: %w", p, err)
		}
		if s := st.x.claims.Standing(p); s.Foreign(&state) {
			return true, nil
		}
	}
	return false, nil
}

// configAt is the configuration at the version that a record was accepted under.
// An error is transient.
func (x *space) configAt(version uint64) (*namespace.Config, error) {
	if c := x.ns.Config(); c.Version == version || version == 0 {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(x.s.run, patienceForVersion)
	defer cancel()
	c, err := x.s.names.At(ctx, x.ns.Name, version)
	if err != nil {
		return nil, fmt.Errorf("namespace %s at version %d: %w", x.ns.Name, version, err)
	}
	return c, nil
}
