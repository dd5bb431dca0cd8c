package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/headwater-db/headwater/wal"
)

// Options is what a Registry is made of.
type Options struct {
	// Broker holds the registry's topic and those of the namespaces.
	Broker wal.Broker
	Logger *slog.Logger // nil: none
	// TopicPrefix begins the name of every topic, the registry's too: two
	// installations on one cluster have different ones. Default "headwater".
	TopicPrefix string
	// Defaults fill in what a document leaves out.
	Defaults Defaults
	// MaxBackoff bounds the pause between two tries to read the log. Default 5 s;
	// tries never end.
	MaxBackoff time.Duration
}

// Registry is the set of namespaces, kept in a topic of its own and followed by
// every process. All methods may be called concurrently. Get, List and
// Version never block; they answer from the last snapshot.
type Registry struct {
	opts Options
	log  wal.Log

	snap    atomic.Pointer[snapshot]
	applied *wal.Watermark
	stopped atomic.Pointer[error] // why nothing is read any more
	cancel  context.CancelFunc    // of the follower
	ended   context.Context       // done when the follower has ended

	mu      sync.Mutex // guards waiters
	waiters map[wal.Nonce]chan verdict

	cacheMu sync.Mutex // guards cache
	cache   map[uint64]*Config
}

// cacheSize bounds how many configurations that were read from the log are kept.
const cacheSize = 64

// Open makes the registry's topic unless it exists, reads it to the end as of
// the call, and goes on following it until Close. It fails when a record cannot
// be read: an older build does not guess at what a newer one wrote.
func Open(ctx context.Context, opts Options) (*Registry, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.MaxBackoff == 0 {
		opts.MaxBackoff = 5 * time.Second
	}
	if opts.TopicPrefix == "" {
		opts.TopicPrefix = DefaultTopicPrefix
	}
	topic := SystemTopicName(opts.TopicPrefix)
	log, err := opts.Broker.Create(ctx, wal.TopicSpec{Name: topic, Partitions: 1})
	if err != nil {
		return nil, fmt.Errorf("open topic %s: %w", topic, err)
	}
	run, cancel := context.WithCancel(context.Background())
	ended, end := context.WithCancel(context.Background())
	r := &Registry{
		opts: opts, log: log, applied: wal.NewWatermark(wal.NoOffset), cancel: cancel, ended: ended,
		waiters: make(map[wal.Nonce]chan verdict), cache: make(map[uint64]*Config),
	}
	st := newState(opts.TopicPrefix)
	r.snap.Store(st.snapshot(nil))
	go func() {
		defer end()
		r.follow(run, st)
	}()
	if err := r.Sync(ctx); err != nil {
		r.Close()
		return nil, fmt.Errorf("read topic %s: %w", topic, err)
	}
	return r, nil
}

// Close stops following and waits until that has ended. Calls that wait return
// ErrClosed; reads go on answering what was known. The broker stays open.
func (r *Registry) Close() {
	r.stop(ErrClosed)
	r.cancel()
	<-r.ended.Done()
}

// Err returns nil while the registry follows its log, else an error that is
// ErrStopped, or ErrClosed.
func (r *Registry) Err() error {
	if err := r.stopped.Load(); err != nil {
		return *err
	}
	return nil
}

func (r *Registry) stop(err error) { r.stopped.CompareAndSwap(nil, &err) }

// Topic describes the registry's own topic. Its incarnation identifies the
// registry: another one has other namespaces, whatever their names.
func (r *Registry) Topic() wal.TopicInfo { return r.log.Info() }

// Guarantee is what the acknowledgement of a change is worth; see wal.Log.
func (r *Registry) Guarantee() (g wal.Guarantee, why string) { return r.log.Guarantee() }

// Version is the version of the whole registry: it rises with every record of
// its log, and is the version of the namespace that the record changed.
func (r *Registry) Version() uint64 { return r.snap.Load().version }

// Get returns the current version of a namespace.
func (r *Registry) Get(name string) (*Entry, bool) {
	e, ok := r.snap.Load().names[name]
	return e, ok
}

// List returns every namespace, by name.
func (r *Registry) List() []*Entry {
	s := r.snap.Load()
	es := make([]*Entry, 0, len(s.names))
	for _, e := range s.names {
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b *Entry) int { return strings.Compare(a.Name, b.Name) })
	return es
}

// Sync returns once the registry knows every change that was acknowledged
// before the call, by anyone.
func (r *Registry) Sync(ctx context.Context) error {
	if err := r.Err(); err != nil {
		return err
	}
	o, err := r.log.Barrier(ctx, 0)
	if err != nil {
		return fmt.Errorf("barrier of the namespace registry: %w", err)
	}
	return r.waitApplied(ctx, o)
}

// ReachEnd returns once the registry knows what its log held at the call, as its leader tells. It writes
// nothing, as Sync may; a change that was acknowledged by a leader that was since deposed may be missing.
func (r *Registry) ReachEnd(ctx context.Context) error {
	if err := r.Err(); err != nil {
		return err
	}
	b, err := r.log.Bounds(ctx, 0)
	if err != nil {
		return fmt.Errorf("end of the namespace registry: %w", err)
	}
	return r.waitApplied(ctx, b.End-1)
}

// waitApplied returns once offset o is applied, or why it will not be.
func (r *Registry) waitApplied(ctx context.Context, o wal.Offset) error {
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ended, cancel)()
	err := r.applied.Wait(wait, o)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("wait for the namespace registry: %w", context.Cause(ctx))
	}
	return r.Err()
}

// follow reads the log until ctx is done or a record cannot be read.
func (r *Registry) follow(ctx context.Context, st *state) {
	bo := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(r.opts.MaxBackoff), backoff.WithMaxElapsedTime(0))
	for {
		err := r.read(ctx, st, bo)
		if ctx.Err() != nil {
			r.stop(ErrClosed)
			return
		}
		if permanent(err) {
			r.stop(fmt.Errorf("%w: %w", ErrStopped, err))
			r.opts.Logger.ErrorContext(ctx, "namespace: registry has stopped; it answers what it knew and takes no changes", "error", err)
			return
		}
		pause := bo.NextBackOff()
		r.opts.Logger.WarnContext(ctx, "namespace: cannot read the registry, trying again", "error", err, "pause", pause)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// permanent reports whether reading again cannot help.
func permanent(err error) bool {
	for _, p := range []error{
		ErrMalformed, wal.ErrMalformed, wal.ErrUnknownVersion, wal.ErrTrimmed, wal.ErrBeyondEnd, wal.ErrCorrupt,
		wal.ErrIncarnation, wal.ErrClosed, wal.ErrTopicNotFound, wal.ErrPartitionCount, wal.ErrNoPartition,
	} {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}

// read applies the log from where st is, until something goes wrong.
func (r *Registry) read(ctx context.Context, st *state, bo *backoff.ExponentialBackOff) (err error) {
	rd, err := r.log.Read(ctx, 0, wal.Offset(st.version))
	if err != nil {
		return fmt.Errorf("open reader at offset %d: %w", st.version, err)
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	for {
		entries, err := rd.Next(ctx)
		if err != nil {
			return fmt.Errorf("read from offset %d: %w", st.version, err)
		}
		bo.Reset()
		if err := r.applyBatch(st, entries); err != nil {
			return err
		}
	}
}

// decided is a verdict that somebody may wait for.
type decided struct {
	nonce wal.Nonce
	verdict
}

// applyBatch applies entries. The order is what propose and waitApplied rely on:
// the state is visible before a verdict is given, and the verdict is given
// before the watermark is raised. When a record cannot be read, what precedes
// it counts.
func (r *Registry) applyBatch(st *state, entries []wal.Entry) error {
	var ds []decided
	var failed error
	for i := range entries {
		d, err := applyEntry(st, &entries[i])
		if err != nil {
			failed = fmt.Errorf("record at offset %d of topic %s: %w", entries[i].Offset, r.log.Info().Name, err)
			break
		}
		ds = append(ds, d...)
	}
	before := r.snap.Load()
	if st.version > before.version {
		r.snap.Store(st.snapshot(before))
		close(before.changed)
	}
	r.mu.Lock()
	for _, d := range ds {
		if w, ok := r.waiters[d.nonce]; ok {
			w <- d.verdict // has room for one, and is taken out of the map here
			delete(r.waiters, d.nonce)
		}
	}
	r.mu.Unlock()
	r.applied.Advance(wal.Offset(st.version) - 1)
	return failed
}

// applyEntry applies one entry. It returns the verdict on a change, and none on
// a barrier.
func applyEntry(st *state, e *wal.Entry) ([]decided, error) {
	if e.Offset != wal.Offset(st.version) {
		return nil, fmt.Errorf("%w: offset %d follows %d", wal.ErrCorrupt, e.Offset, int64(st.version)-1)
	}
	var rec wal.Record
	if err := wal.DecodeRecord(e.Data, &rec); err != nil {
		return nil, err
	}
	switch rec.Kind {
	case wal.KindBarrier:
		st.skip(e.Offset)
		return nil, nil
	case wal.KindNamespace:
		c, err := decodeChange(rec.Payload)
		if err != nil {
			return nil, err
		}
		return []decided{{nonce: rec.Token.Nonce, verdict: st.apply(c, e.Offset, e.LogTime)}}, nil
	default:
		return nil, fmt.Errorf("%w: a record of kind %s", ErrMalformed, rec.Kind)
	}
}
