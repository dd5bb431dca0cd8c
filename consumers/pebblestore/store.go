package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

// Layout is what one kind of store has that others have not. S is its state of a
// partition, E its entry of a token.
type Layout[S any, E wal.Decided] struct {
	Name    string // of the kind, as its errors say it: "kv store"
	Version byte   // of the format of its rows
	// Merger merges its rows. Its name is part of the format.
	Merger *pebble.Merger
	// Fresh is the state of a partition that nothing was committed to.
	Fresh S
	// Common returns the part of a state that every store has.
	Common func(s *S) *consumers.State
	// AppendState and DecodeState write and read the other part; nil where there is
	// none. DecodeState keeps nothing of b and returns what follows.
	AppendState func(dst []byte, s *S) []byte
	DecodeState func(b []byte, s *S) (rest []byte, err error)
	// TokenOf says what an entry is found by.
	TokenOf func(e *E) Token
	// AppendToken and DecodeToken write and read an entry. DecodeToken keeps nothing
	// of b. Its errors wrap wal.ErrCorrupt.
	AppendToken func(dst []byte, e *E) []byte
	DecodeToken func(id wal.TokenID, b []byte) (E, error)
	// BatchBytes is up to what size the memory of a batch is used again.
	BatchBytes int
}

// Token is what an entry is found by. Of two entries of an identity that of the
// larger offset counts.
type Token struct {
	ID      wal.TokenID
	LogTime int64
	Offset  wal.Offset
}

// Store is the part of a store that every store has: it implements
// consumers.Ledger, and a store embeds it. Safe for concurrent use.
type Store[S any, E wal.Decided] struct {
	DB     *DB
	layout Layout[S, E]
	parts  []partition[S]
	gate   *gate
	works  sync.Pool // of *work

	closing sync.Mutex // held by Close, so that a second one waits for the first
	closed  bool       // guarded by closing
}

// partition is what is kept in memory of a partition.
type partition[S any] struct {
	// state is as of the last commit that returned.
	state atomic.Pointer[S]
	// removals is odd while a commit is under way that removes something, and
	// changes with each.
	removals atomic.Uint64
	fresh    bool // as of Open: nothing was committed yet
	// writing is held by a commit and by a sweep, both of which write the state.
	writing sync.Mutex
	// Guarded by writing:
	change *pebbletokens.Change // what the commit or sweep does to the token table
	row    []byte               // the state's, encoded; kept for its memory
}

// Open opens the store in cfg.Dir and makes it if there is none. What was
// committed before a crash is there up to some commit, and up to the last Sync
// at least. Its cost does not depend on the number of rows, nor on what is due for
// compaction; the write-ahead log since the last flush is replayed (at most three
// memtables). A directory of another format wraps wal.ErrUnknownVersion, of
// another number of partitions wal.ErrPartitionCount.
func Open[S any, E wal.Decided](cfg Config, l Layout[S, E]) (_ *Store[S, E], err error) {
	s := &Store[S, E]{layout: l, gate: newGate(), parts: make([]partition[S], max(cfg.Partitions, 0))}
	s.DB, err = openDB(cfg, layout{name: l.Name, version: l.Version, merger: l.Merger, load: s.load})
	if err != nil {
		return nil, err
	}
	for p := range s.parts {
		s.parts[p].change = s.DB.Tokens.NewChange(wal.Partition(p))
	}
	s.works.New = func() any {
		size, kept := pebble.WithInitialSizeBytes(batchInitialBytes), pebble.WithMaxRetainedSizeBytes(l.BatchBytes)
		return &work{W: s.DB.NewBatch(size, kept)}
	}
	return s, nil
}

func (s *Store[S, E]) load(p wal.Partition, row []byte) (rest []byte, err error) {
	st, rest, err := s.layout.decodeState(row)
	s.parts[p].state.Store(&st)
	s.parts[p].fresh = row == nil
	return rest, err
}

// Fresh reports whether nothing had been committed to a partition when the store
// was opened.
func (s *Store[S, E]) Fresh(p wal.Partition) bool { return s.parts[p].fresh }

// Enter is the beginning of every call that uses Pebble. Its error is nil, and
// Leave is to be called, or there is nothing to do. A call that is inside may
// enter again: while Close waits for it that is ErrClosed.
func (s *Store[S, E]) Enter(ctx context.Context, p wal.Partition) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	if int64(p) >= int64(len(s.parts)) {
		s.Leave()
		return s.noPartition(p)
	}
	return nil
}

func (s *Store[S, E]) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !s.gate.enter() {
		return consumers.ErrClosed
	}
	return nil
}

// Leave is the end of a call that Enter let in.
func (s *Store[S, E]) Leave() { s.gate.leave() }

func (s *Store[S, E]) noPartition(p wal.Partition) error {
	return fmt.Errorf("%w: %d of %d", wal.ErrNoPartition, p, len(s.parts))
}

// Keep remembers what stays open in Pebble beyond the call that opened it, which
// is inside. Close of the store closes it.
func (s *Store[S, E]) Keep(c io.Closer) { s.gate.keep(c) }

// Drop forgets what Keep remembered. true: the caller is inside, is to close it
// and to Leave. false: there is nothing to do.
func (s *Store[S, E]) Drop(c io.Closer) bool { return s.gate.drop(c) }

// Removals counts, by two, the commits of a partition that removed something: it
// is odd while one is under way. What was read in several steps, with the same even
// number before and after, is of one moment as far as removals go.
func (s *Store[S, E]) Removals(p wal.Partition) *atomic.Uint64 { return &s.parts[p].removals }

// Saved returns all that the last commit of a partition saved of its state.
func (s *Store[S, E]) Saved(ctx context.Context, p wal.Partition) (st S, err error) {
	if err := s.Enter(ctx, p); err != nil {
		return st, err
	}
	defer s.Leave()
	return *s.parts[p].state.Load(), nil
}

// State implements consumers.Ledger.
func (s *Store[S, E]) State(ctx context.Context, p wal.Partition) (consumers.State, error) {
	st, err := s.Saved(ctx, p)
	if err != nil {
		return consumers.State{}, err
	}
	return *s.layout.Common(&st), nil
}

// Token implements consumers.Ledger.
func (s *Store[S, E]) Token(ctx context.Context, p wal.Partition, id wal.TokenID) (newest E, ok bool, err error) {
	if err := s.Enter(ctx, p); err != nil {
		return newest, false, err
	}
	defer s.Leave()
	var at wal.Offset
	err = s.DB.Tokens.Lookup(p, id, func(value []byte) error {
		e, err := s.layout.DecodeToken(id, value)
		if err != nil {
			return err
		}
		if o := s.layout.TokenOf(&e).Offset; !ok || o > at {
			newest, at, ok = e, o, true
		}
		return nil
	})
	if err != nil {
		var none E
		return none, false, s.DB.ReadError("read token", p, err)
	}
	return newest, ok, nil
}

// Parked implements consumers.Ledger.
func (s *Store[S, E]) Parked(ctx context.Context, p wal.Partition) ([]consumers.ParkedQueue, error) {
	if err := s.Enter(ctx, p); err != nil {
		return nil, err
	}
	defer s.Leave()
	return s.DB.Parked(p)
}

// LiveTokens implements consumers.Ledger.
func (s *Store[S, E]) LiveTokens(p wal.Partition) int64 {
	if int64(p) >= int64(len(s.parts)) {
		return 0
	}
	return s.DB.Tokens.Live(p)
}

// SetTokenWindow implements consumers.Ledger.
func (s *Store[S, E]) SetTokenWindow(window time.Duration) { s.DB.Tokens.SetWindow(window) }

// Sync implements consumers.Ledger: one synced write behind everything committed.
// Calls of many goroutines share the device's sync.
func (s *Store[S, E]) Sync(ctx context.Context) (map[wal.Partition]wal.Offset, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.Leave()
	durable := make(map[wal.Partition]wal.Offset, len(s.parts))
	for p := range s.parts {
		durable[wal.Partition(p)] = s.layout.Common(s.parts[p].state.Load()).Applied
	}
	if err := s.DB.Sync(); err != nil {
		return nil, fmt.Errorf("sync %s: %w", s.layout.Name, err)
	}
	return durable, nil
}

// Follow makes the store one that follows: it decides nothing until a record says
// so. For a store that nobody applies to.
func (s *Store[S, E]) Follow(ctx context.Context) error {
	for p := range wal.Partition(len(s.parts)) {
		st, err := s.Saved(ctx, p)
		if err != nil {
			return err
		}
		s.layout.Common(&st).Follows = true
		b := s.Begin(p)
		if err := b.Commit(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// BeginAt makes a partition go on with the record at o: it lacks nothing of what is
// before it. For a store that nobody applies to.
func (s *Store[S, E]) BeginAt(ctx context.Context, p wal.Partition, o wal.Offset) error {
	st, err := s.Saved(ctx, p)
	if err != nil {
		return err
	}
	common := s.layout.Common(&st)
	common.Applied, common.FirstException = o-1, o
	b := s.Begin(p)
	return b.Commit(ctx, st)
}

// Checkpoint copies the store as of one moment into dir, which must not exist. What
// it holds is durable when it returns. The files that Pebble does not change any
// more are linked, so that it costs no time and no space.
func (s *Store[S, E]) Checkpoint(dir string) error {
	if err := s.enter(context.Background()); err != nil {
		return err
	}
	defer s.Leave()
	if err := s.DB.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("copy %s: %w", s.layout.Name, err)
	}
	return nil
}

// Usage implements consumers.Ledger.
func (s *Store[S, E]) Usage(ctx context.Context) (consumers.Usage, error) {
	if err := s.enter(ctx); err != nil {
		return consumers.Usage{}, err
	}
	defer s.Leave()
	return s.DB.usage()
}

// Close waits for the calls that are under way and closes the store, with what
// is kept open in it. What was committed is durable when it returns nil. A second
// Close does nothing. Close of a store that has failed returns the failure; after
// a failed write its files stay open until the process ends.
func (s *Store[S, E]) Close() error {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	open := s.gate.close()
	return s.DB.Close(func() (err error) {
		for c := range open {
			err = errors.Join(err, c.Close())
		}
		return err
	})
}

// commit applies w, with the state and the list of token buckets, and ends the
// partition's change. lost: w must not be touched any more, and nobody knows whether it is
// there. The partition's writing is held.
func (s *Store[S, E]) commit(p wal.Partition, w *pebble.Batch, st *S, removes bool) (lost bool, err error) {
	part := &s.parts[p]
	change := part.change
	if part.row, err = change.AppendState(s.layout.appendState(part.row[:0], st)); err == nil {
		err = w.Set(StateKey(p), part.row, nil)
	}
	if err != nil {
		change.Discard()
		return false, err
	}
	if removes {
		part.removals.Add(1)
	}
	if err := s.DB.Apply(w); err != nil {
		change.Discard()
		return true, err // it may yet happen: the number stays odd
	}
	if removes {
		part.removals.Add(1)
	}
	change.Committed()
	part.state.Store(st)
	return false, nil
}
