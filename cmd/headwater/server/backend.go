package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// backend is the store of a namespace and what stands on it: one of each
// abstraction that has a store. A space calls openStore, then load, then
// everything else, and drain and closeStore at the end.
type backend interface {
	gateway.Parker

	// openStore opens the store in dir, a directory of its own that may not exist.
	openStore(dir string) error
	// saved is the offset that the store has of a partition.
	saved(ctx context.Context, p wal.Partition) (wal.Offset, error)
	// load makes the applier on the open store, and the DB once there is a runner.
	load(ctx context.Context, progress *wal.Progress) (consumers.Applier, error)
	// run does what is done beside applying until ctx is done; it may be nothing.
	run(ctx context.Context)
	// sweep frees up to limit keys that nobody can see any more. In the goroutine of
	// the partition's applier.
	sweep(ctx context.Context, p wal.Partition, limit int) (more bool, err error)
	// due reports whether the log of p should be moved on by a tick, so that what
	// ends by log time does: now is log time in microseconds since 1970. In the
	// goroutine of the partition's applier.
	due(p wal.Partition, now int64) bool
	// sync makes what is applied durable, as far as it is saved, and returns up to
	// which offset that is.
	sync(ctx context.Context) (map[wal.Partition]wal.Offset, error)
	// tokens is how many tokens are remembered; noteTokens lets the DB shed by it.
	tokens(ctx context.Context) (int64, error)
	noteTokens(n int64)
	// configure puts a changed configuration into force.
	configure(c *namespace.Config)
	// drain saves what is applied and not saved, after the runner has ended.
	drain(ctx context.Context) error
	// closeStore closes the store, if it is open.
	closeStore() error
}

// newBackend returns the backend of an abstraction, nil for one without a store,
// and the name of its directory.
func (x *space) newBackend() (b backend, dir string, err error) {
	switch a := x.entry.Config.Abstraction; a {
	case namespace.KV:
		return &kvBackend{x: x}, "kv", nil
	case namespace.Counter:
		return &counterBackend{x: x}, "counter", nil
	case namespace.Log:
		return nil, "", nil
	default:
		return nil, "", fmt.Errorf("abstraction %s is not in this build", a)
	}
}

// openBackend opens the store of the namespace, checks it against the log, and
// loads the applier on it.
func (x *space) openBackend(ctx context.Context, name string, progress *wal.Progress) (consumers.Applier, error) {
	s, e := x.s, x.entry
	dir := s.dir.storeDir(e.Incarnation.String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the store: %w", err)
	}
	if err := writeOnce(filepath.Join(dir, originFile), s.spaces.origin); err != nil {
		return nil, err
	}
	if err := checkIncarnation(dir, e); err != nil {
		return nil, err
	}
	open := func() error {
		if err := x.backend.openStore(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("open the store of namespace %s: %w", e.Name, err)
		}
		return nil
	}
	if err := open(); err != nil {
		return nil, err
	}
	ahead, err := x.checkStore(ctx)
	if err != nil {
		return nil, err
	}
	if ahead {
		s.log.Warn("a store is ahead of its log, and is rebuilt from it", "namespace", e.Name)
		if err := errors.Join(x.backend.closeStore(), os.RemoveAll(filepath.Join(dir, name))); err != nil {
			return nil, fmt.Errorf("remove the store of namespace %s: %w", e.Name, err)
		}
		if err := open(); err != nil {
			return nil, err
		}
		if _, err := x.checkStore(ctx); err != nil {
			return nil, err
		}
	}
	applier, err := x.backend.load(ctx, progress)
	if err != nil {
		return nil, fmt.Errorf("load namespace %s: %w", e.Name, err)
	}
	x.ns.Applier = x.backend
	return applier, nil
}

// storeFailed is told by a store that takes no more writes.
func (x *space) storeFailed(err error) {
	x.ns.Fail(fmt.Errorf("the store of namespace %s has failed: %w", x.ns.Name, err))
	x.s.log.Error("a store has failed; restart the process when the cause is mended", "namespace", x.ns.Name, "reason", err)
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

// checkStore compares a store with its log. ahead: the store has applied what
// the log does not hold, which only loss or tampering brings about. The error
// names a range that neither has.
func (x *space) checkStore(ctx context.Context) (ahead bool, err error) {
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		saved, err := x.backend.saved(ctx, p)
		if err != nil {
			return false, fmt.Errorf("read the state of partition %d: %w", p, err)
		}
		b, err := x.log.Bounds(ctx, p)
		if err != nil {
			return false, fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		if saved+1 < b.Start {
			return false, fmt.Errorf("the store of namespace %s has partition %d up to offset %d, and the log begins at %d: offsets %d to %d are in neither; restore the store from a copy",
				x.entry.Name, p, saved, b.Start, saved+1, b.Start-1)
		}
		if saved >= b.End {
			if b.Start > 0 {
				return false, fmt.Errorf("the store of namespace %s is ahead of its log (partition %d: applied %d, log ends at %d), and the log begins at %d: it cannot be rebuilt, offsets 0 to %d are gone; restore the log from a copy",
					x.entry.Name, p, saved, b.End, b.Start, b.Start-1)
			}
			ahead = true
		}
	}
	return ahead, nil
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
