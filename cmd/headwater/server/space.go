package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/pebblekv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// primary is the role of the one store that namespaces have so far.
const primary = "PRIMARY"

// space is one open namespace: its log, store, applier and runner.
type space struct {
	s       *Server
	ns      *gateway.Namespace
	log     wal.Log
	store   *pebblekv.Store // nil for a log namespace
	applier *kv.Applier     // nil for a log namespace
	db      *kv.DB          // nil for a log namespace
	runner  *consumers.Runner
	cancel  context.CancelFunc
	work    sync.WaitGroup
	ready   chan struct{} // closed when it takes writes, or never will
	upkeep  []upkeep

	mu    sync.Mutex // guards entry
	entry *namespace.Entry
}

// openSpace opens a namespace and starts applying its log. It returns before the
// log is caught up; the namespace is ready then.
func (s *Server) openSpace(ctx context.Context, e *namespace.Entry) (_ *space, err error) {
	x := &space{s: s, entry: e, ready: make(chan struct{})}
	defer func() {
		if err != nil && x.store != nil {
			err = errors.Join(err, x.store.Close())
		}
	}()
	if e.Config.Abstraction == namespace.KV {
		if err := s.names.Claim(ctx, e.Name, s.dir.id); err != nil {
			return nil, fmt.Errorf("claim namespace %s: %w; serve it with the data directory that owns it", e.Name, err)
		}
	}
	if x.log, err = s.broker.Open(ctx, e.Topic); err != nil {
		return nil, fmt.Errorf("open topic %s: %w", e.Topic, err)
	}
	info := x.log.Info()
	if info.Incarnation != e.Incarnation {
		return nil, fmt.Errorf("topic %s: %w: it is %s, the registry has %s", e.Topic, wal.ErrIncarnation, info.Incarnation, e.Incarnation)
	}
	x.upkeep = make([]upkeep, info.Partitions)
	x.ns = &gateway.Namespace{Name: e.Name, StoreState: x.storeState, TrimBlocked: x.trimBlocked}
	x.ns.SetConfig(e.Config)
	letters, err := s.broker.Open(ctx, e.DeadLetterTopic)
	if err != nil {
		return nil, fmt.Errorf("open topic %s: %w", e.DeadLetterTopic, err)
	}
	if x.ns.Letters, err = wal.OpenDeadLetters(ctx, letters, s.countLetter); err != nil {
		return nil, fmt.Errorf("read topic %s: %w", e.DeadLetterTopic, err)
	}
	progress := wal.NewProgress(info.Partitions)
	x.ns.Stream = wal.NewStream(wal.StreamConfig{Namespace: e.Name, Log: x.log, Progress: progress})
	var applier consumers.Applier
	switch e.Config.Abstraction {
	case namespace.KV:
		if err := x.openKV(ctx, progress); err != nil {
			return nil, err
		}
		applier = x.applier
	case namespace.Log:
		x.ns.Messages = wal.NewMessages(x.ns.Stream, s.broker.Now, func() time.Duration { return x.ns.Config().Tokens.Window })
		applier = x.ns.Messages
	default:
		return nil, fmt.Errorf("abstraction %s is not in this build", e.Config.Abstraction)
	}
	x.runner = consumers.New(consumers.Config{Namespace: e.Name, Role: primary, Log: x.log, Applier: applier, Progress: progress, Logger: s.log})
	run, cancel := context.WithCancel(s.run)
	x.cancel = cancel
	x.work.Go(func() {
		if err := x.runner.Run(run); err != nil {
			x.ns.Fail(err)
		}
	})
	x.work.Go(func() { x.catchUp(run) })
	x.addTargets()
	return x, nil
}

// openKV opens the store of a key-value namespace, checks it against the log, and
// puts the applier and DB on it.
func (x *space) openKV(ctx context.Context, progress *wal.Progress) error {
	s, e := x.s, x.entry
	dir := s.dir.storeDir(e.Incarnation.String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the store: %w", err)
	}
	if err := writeOnce(filepath.Join(dir, originFile), s.spaces.origin); err != nil {
		return err
	}
	if err := checkIncarnation(dir, e); err != nil {
		return err
	}
	open := func() (err error) {
		x.store, err = pebblekv.Open(pebblekv.Config{
			Dir: filepath.Join(dir, "kv"), Partitions: x.log.Info().Partitions, Cache: s.cache, Logger: s.log, TokenWindow: e.Config.Tokens.Window,
			OnFail: func(err error) {
				x.ns.Fail(fmt.Errorf("the store of namespace %s has failed: %w", e.Name, err))
				s.log.Error("a store has failed; restart the process when the cause is mended", "namespace", e.Name, "reason", err)
			},
		})
		if err != nil {
			x.store = nil
			return fmt.Errorf("open the store of namespace %s: %w", e.Name, err)
		}
		return nil
	}
	if err := open(); err != nil {
		return err
	}
	ahead, err := x.checkStore(ctx)
	if err != nil {
		return err
	}
	if ahead {
		s.log.Warn("a store is ahead of its log, and is rebuilt from it", "namespace", e.Name)
		if err := errors.Join(x.store.Close(), os.RemoveAll(filepath.Join(dir, "kv"))); err != nil {
			x.store = nil
			return fmt.Errorf("remove the store of namespace %s: %w", e.Name, err)
		}
		if err := open(); err != nil {
			return err
		}
		if _, err := x.checkStore(ctx); err != nil {
			return err
		}
	}
	x.applier, err = kv.NewApplier(ctx, kv.ApplierConfig{
		Store: x.store, Log: x.log, Letters: x.ns.Letters, Progress: progress, Clock: &s.spaces.clock,
		Settings: func(version uint64) (kv.Settings, error) { return x.settings(version) },
	})
	if err != nil {
		return fmt.Errorf("load namespace %s: %w", e.Name, err)
	}
	x.ns.Applier = x.applier
	x.db = kv.NewDB(kv.DBConfig{Stream: x.ns.Stream, Store: x.store, Applier: x.applier, Clock: &s.spaces.clock, Now: s.broker.Now, Options: x.options})
	x.ns.KV = x.db
	return nil
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
		st, err := x.store.State(ctx, p)
		if err != nil {
			return false, fmt.Errorf("read the state of partition %d: %w", p, err)
		}
		b, err := x.log.Bounds(ctx, p)
		if err != nil {
			return false, fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		if st.Applied+1 < b.Start {
			return false, fmt.Errorf("the store of namespace %s has partition %d up to offset %d, and the log begins at %d: offsets %d to %d are in neither; restore the store from a copy",
				x.entry.Name, p, st.Applied, b.Start, st.Applied+1, b.Start-1)
		}
		if st.Applied >= b.End {
			if b.Start > 0 {
				return false, fmt.Errorf("the store of namespace %s is ahead of its log (partition %d: applied %d, log ends at %d), and the log begins at %d: it cannot be rebuilt, offsets 0 to %d are gone; restore the log from a copy",
					x.entry.Name, p, st.Applied, b.End, b.Start, b.Start-1)
			}
			ahead = true
		}
	}
	return ahead, nil
}

// settings are those of the version that a record was accepted under.
func (x *space) settings(version uint64) (kv.Settings, error) {
	if c := x.ns.Config(); c.Version == version || version == 0 {
		return kv.Settings{TokenWindow: c.Tokens.Window}, nil
	}
	ctx, cancel := context.WithTimeout(x.s.run, 5*time.Second)
	defer cancel()
	c, err := x.s.names.At(ctx, x.ns.Name, version)
	if err != nil {
		return kv.Settings{}, fmt.Errorf("namespace %s at version %d: %w", x.ns.Name, version, err)
	}
	return kv.Settings{TokenWindow: c.Tokens.Window}, nil
}

func (x *space) options() kv.Options {
	c := x.ns.Config()
	return kv.Options{
		Version: c.Version, DriftPast: c.Tokens.MaxDriftPast, DriftFuture: c.Tokens.MaxDriftFuture, TokenWindow: c.Tokens.Window,
		MaxLiveTokens: c.Tokens.MaxLive, DefaultTTL: c.KV.DefaultTTL, Descending: c.KV.Descending,
		ReadMax: c.SLO.Read.Max,
	}
}

// configure puts a changed configuration into force.
func (x *space) configure(e *namespace.Entry) {
	x.mu.Lock()
	x.entry = e
	x.mu.Unlock()
	x.ns.SetConfig(e.Config)
	if x.store != nil {
		x.store.SetTokenWindow(e.Config.Tokens.Window)
	}
}

// catchUp lets writes in once everything that the log held is applied: only then
// is every token known.
func (x *space) catchUp(ctx context.Context) {
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		o, err := x.end(ctx, p)
		if err == nil {
			err = x.ns.Stream.WaitApplied(ctx, p, o)
		}
		if err != nil {
			if ctx.Err() == nil {
				x.ns.Fail(fmt.Errorf("namespace %s: read its log: %w", x.ns.Name, err))
				x.s.log.Error("a namespace takes no writes", "namespace", x.ns.Name, "partition", uint32(p), "reason", err)
			}
			close(x.ready)
			return
		}
	}
	x.ns.SetReady()
	close(x.ready)
}

// end asks for the end of a partition's log until it gets an answer.
func (x *space) end(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	for {
		b, err := x.log.Bounds(ctx, p)
		if err == nil {
			return b.End - 1, nil
		}
		if !errors.Is(err, wal.ErrUnavailable) {
			return wal.NoOffset, err
		}
		t := time.NewTimer(200 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return wal.NoOffset, ctx.Err()
		}
	}
}

func (x *space) waitReady(ctx context.Context) error {
	select {
	case <-x.ready:
		return x.ns.Failed()
	case <-ctx.Done():
		return fmt.Errorf("wait for namespace %s to read its log: %w", x.ns.Name, ctx.Err())
	}
}

// storeState tells how the runner fares: a partition that has stopped counts
// before one that is retried.
func (x *space) storeState() (state, reason string) {
	state = "running"
	for _, h := range x.runner.Health() {
		if h.Stopped != nil {
			return "stopped", fmt.Sprintf("partition %d: %v", h.Partition, h.Stopped)
		}
		if h.Retrying != nil {
			state, reason = "retrying", fmt.Sprintf("partition %d: %v", h.Partition, h.Retrying)
		}
	}
	return state, reason
}

// failedSpace stands for a namespace that cannot be opened, so that its callers
// are told why.
func (s *Server) failedSpace(e *namespace.Entry, err error) *space {
	x := &space{s: s, entry: e, ready: make(chan struct{})}
	close(x.ready)
	reason := err.Error()
	if errors.Is(err, namespace.ErrOwned) {
		reason = apierrors.NotOwner + ": " + reason
	}
	x.ns = &gateway.Namespace{Name: e.Name, StoreState: func() (string, string) { return "stopped", reason }}
	x.ns.SetConfig(e.Config)
	x.ns.Fail(err)
	return x
}

// close stops applying, after the batch in hand, and closes the store.
func (x *space) close() error {
	x.removeTargets()
	if x.cancel != nil {
		x.cancel()
	}
	x.work.Wait()
	if x.store == nil {
		return nil
	}
	_, err := x.store.Sync(context.Background())
	return errors.Join(err, x.store.Close())
}

func (x *space) removeStore() error {
	return os.RemoveAll(x.s.dir.storeDir(x.entry.Incarnation.String()))
}
