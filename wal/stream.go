package wal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of a Stream, and of the tokens of what it carries.
var (
	// ErrTokenReused: the token was used for another request.
	ErrTokenReused = errors.New("token was used for another request")
	// ErrTokenUnsure: another request under the token is in the log, and it is not known here which of
	// the two was first.
	ErrTokenUnsure = errors.New("token may have been used for another request")
	// ErrTooOld: the record reached the log after its token's window, and had no
	// effect.
	ErrTooOld = errors.New("token is older than the token window")
	// ErrTokensFull: as many tokens are live as the namespace allows.
	ErrTokensFull = errors.New("too many live tokens")
	// ErrUnapplied: too much of the log waits to be applied; writes are shed until
	// it is.
	ErrUnapplied = errors.New("too many mutations wait to be applied")
	// ErrWrongIncarnation: a position belongs to an earlier life of the namespace.
	ErrWrongIncarnation = errors.New("position is of another life of the namespace")
)

// StreamConfig is what a Stream is made of.
type StreamConfig struct {
	Namespace string
	Log       Log
	Progress  *Progress
	// MaxUnapplied is how many mutations of a partition may be acknowledged and not
	// applied before writes to it are shed: it bounds the replay after a crash. A
	// record that another process appended counts as one. Default
	// DefaultMaxUnapplied.
	MaxUnapplied int64
}

// DefaultMaxUnapplied is how many mutations a store applies in a part of a second.
const DefaultMaxUnapplied = 250_000

// Stream is the log of one namespace as the API uses it: it reserves tokens,
// appends, and waits for what was appended to be applied. Safe for concurrent
// use.
type Stream struct {
	cfg       StreamConfig
	info      TopicInfo
	shards    [tokenShards]tokenShard
	parts     []streamPart
	letBehind atomic.Bool // see LetBehind
}

const tokenShards = 64

type tokenShard struct {
	mu sync.Mutex // guards m
	m  map[tokenKey]*Reservation
}

// tokenKey is what is reserved. A call that spans partitions carries one token
// into each of them, and has an outcome in each.
type tokenKey struct {
	id   TokenID
	part Partition
}

// streamPart keeps the reservations of acknowledged records until they are
// applied: until then the store does not know their tokens.
type streamPart struct {
	mu      sync.Mutex // guards what follows, up to heavy
	waiting []*Reservation
	unknown []*Reservation // whose append has an unknown outcome, oldest first
	heavy   []heavyRecord  // acknowledged, of more than one mutation, nearly in the order of the log

	more atomic.Int64 // mutations of the heavy records beyond one each

	// unsure is up to where the log may have tokens that nobody here knows until it is
	// applied, and one: 0 is nowhere.
	unsure atomic.Int64

	inFlight atomic.Int64 // records handed to the log whose outcome is not known
	doubted  atomic.Int64 // records whose outcome was unknown, ever
	cleared  atomic.Int64 // of doubted, how many are below the watermark or acknowledged, or never come

	position atomic.Pointer[positionText] // see Stream.Position
	found    atomic.Int64                 // when the log's end was last found to be seen; see SeenAt
}

// NewStream returns a stream over cfg.Log.
func NewStream(cfg StreamConfig) *Stream {
	if cfg.MaxUnapplied == 0 {
		cfg.MaxUnapplied = DefaultMaxUnapplied
	}
	s := &Stream{cfg: cfg, info: cfg.Log.Info()}
	for i := range s.shards {
		s.shards[i].m = make(map[tokenKey]*Reservation)
	}
	s.parts = make([]streamPart, s.info.Partitions)
	for i := range s.parts {
		p := Partition(i)
		f := func(o Offset) { s.applied(p, o) }
		cfg.Progress.parts[i].onApplied.Store(&f)
	}
	return s
}

// Info describes the stream's topic.
func (s *Stream) Info() TopicInfo { return s.info }

// Log is the stream's log.
func (s *Stream) Log() Log { return s.cfg.Log }

// Progress is how far the stream is applied.
func (s *Stream) Progress() *Progress { return s.cfg.Progress }

// PartitionOf returns the partition of a routing key.
func (s *Stream) PartitionOf(key []byte) Partition { return PartitionOf(key, s.info.Partitions) }

// Position is the position of one record of this stream; with NoOffset, that in
// front of the first. The last one of each
// partition is remembered: the calls of a record share theirs, and so do the
// reads between two writes.
func (s *Stream) Position(p Partition, o Offset) string {
	last := &s.parts[p].position
	if at := last.Load(); at != nil && at.offset == o {
		return at.text
	}
	at := &positionText{o, NewPosition(s.cfg.Namespace, s.info.Incarnation, p, o).String()}
	last.Store(at)
	return at.text
}

type positionText struct {
	offset Offset
	text   string
}

// Reservation is a write that a request of this process is busy with in a
// partition, or that it has appended there and that is not applied yet.
type Reservation struct {
	tokenKey
	hash Hash

	// done is closed when the append's outcome is known. The fields below are set
	// before that and do not change after it.
	done       chan struct{}
	err        error
	Offset     Offset
	AcceptedAt int64  // microseconds since 1970
	Version    uint64 // of the namespace, that the record was accepted under
	Time       int64  // the token's generation time
	// Note is what a copy is answered with before the record is applied. The owner may set
	// it before it appends.
	Note string
	// Looked is one above the offset up to which the log was applied when the applier was asked
	// for the token and did not know it; Asked: it was asked. Who has reserved sets them before it
	// appends.
	Looked Offset
	Asked  bool

	others Offset // see Result.Others
}

// Unsure reports of an acknowledged append whether an earlier copy may have been taken: one that
// another process appended, above what had been applied when the token was looked for, or any where
// it could not be looked for. A copy that is answered from such an append is as unsure.
func (s *Stream) Unsure(p Partition, r *Reservation) bool {
	return !r.Asked || r.others > r.Looked || !s.KnowsTokens(p)
}

// Reserve takes an identity for a request in one partition. The caller that gets
// owner true must end it with Release, Append or AppendAll. Otherwise the same
// request is under way or was just acknowledged: r.Wait tells. An append of the
// identity whose outcome was unknown makes Reserve wait until the log has been
// applied past it, so that the store can answer whether it took place.
// ErrTokenReused when it is busy with another request in p, ErrTokenUnsure when that one may itself be the one
// that came later, and is not applied within a second.
func (s *Stream) Reserve(ctx context.Context, p Partition, id TokenID, h Hash) (r *Reservation, owner bool, err error) {
	for {
		r, owner, err = s.TryReserve(p, id, h)
		if errors.Is(err, ErrTokenUnsure) {
			if s.appliedSoon(ctx, p, r.Offset) {
				continue
			}
			return nil, false, err
		}
		if owner || err != nil || !r.Done() || !errors.Is(r.err, ErrUnknown) {
			return r, owner, err
		}
		if err := s.Barrier(ctx, p); err != nil {
			return nil, false, fmt.Errorf("find out about an earlier copy of the request: %w", err)
		}
		s.forget(r)
	}
}

// unsureFor is how long a request waits to learn whose its token is.
const unsureFor = time.Second

// appliedSoon reports whether the record at o is applied, now or in a moment.
func (s *Stream) appliedSoon(ctx context.Context, p Partition, o Offset) bool {
	ctx, cancel := context.WithTimeout(ctx, unsureFor)
	defer cancel()
	return s.WaitApplied(ctx, p, o) == nil
}

// TryReserve is Reserve that never waits. With owner false and no error another
// copy of the same request has it, be it under way, acknowledged, or of
// unknown outcome.
func (s *Stream) TryReserve(p Partition, id TokenID, h Hash) (r *Reservation, owner bool, err error) {
	key := tokenKey{id, p}
	shard := s.shard(key)
	shard.mu.Lock()
	r = shard.m[key]
	if r == nil {
		r = &Reservation{tokenKey: key, hash: h, done: make(chan struct{})}
		shard.m[key] = r
		owner = true
	}
	shard.mu.Unlock()
	switch {
	case r.hash.Same(h):
		return r, owner, nil
	case r.Done() && r.err == nil && s.Unsure(p, r): // r may be the copycat
		return r, false, ErrTokenUnsure
	default:
		return nil, false, ErrTokenReused
	}
}

func (s *Stream) shard(k tokenKey) *tokenShard { return &s.shards[k.id[len(k.id)-1]%tokenShards] }

// Done reports whether the append of r has an outcome, so that Wait does not
// block.
func (r *Reservation) Done() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// Wait returns when the append of r has an outcome: nil when it is
// acknowledged.
func (r *Reservation) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w: an earlier copy of the request is under way: %w", ErrUnknown, ctx.Err())
	}
}

// Release gives up a reservation whose request was not appended; err says why
// to those who wait for it.
func (s *Stream) Release(r *Reservation, err error) {
	if err == nil {
		err = ErrNotAppended
	}
	r.err = err
	s.forget(r)
	close(r.done)
}

func (s *Stream) forget(r *Reservation) {
	shard := s.shard(r.tokenKey)
	shard.mu.Lock()
	if shard.m[r.tokenKey] == r {
		delete(shard.m, r.tokenKey)
	}
	shard.mu.Unlock()
}

// Admit refuses a write while the partition has too much unapplied.
func (s *Stream) Admit(p Partition) error {
	g := s.cfg.Progress
	if err := g.Stopped(p); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAppended, err)
	}
	if !s.letBehind.Load() && int64(g.Acked(p)-g.Applied(p))+s.parts[p].more.Load() >= s.cfg.MaxUnapplied {
		return fmt.Errorf("%w: %w", ErrNotAppended, ErrUnapplied)
	}
	return nil
}

// LetBehind says whether writes are taken however much waits to be applied: where the store
// is another server's, and may be away for hours. MaxUnapplied then bounds memory alone:
// of what waits beyond it the oldest tokens are forgotten here, and a copy of such a write is
// appended once more; the applier, who knows the token, changes nothing.
func (s *Stream) LetBehind(yes bool) { s.letBehind.Store(yes) }

// Inherit says that the log of p had records up to o before this process took writes: while
// they are not applied, their tokens are not known.
func (s *Stream) Inherit(p Partition, o Offset) {
	u := &s.parts[p].unsure
	for {
		cur := u.Load()
		if int64(o)+1 <= cur || u.CompareAndSwap(cur, int64(o)+1) {
			return
		}
	}
}

// KnowsTokens reports whether every token of p is known here or by the store. Else a write that
// seems to be new may be a copy, which changes nothing when it is applied.
func (s *Stream) KnowsTokens(p Partition) bool {
	return int64(s.cfg.Progress.Applied(p))+1 >= s.parts[p].unsure.Load()
}

// WaitApplied returns once the record at o is applied.
func (s *Stream) WaitApplied(ctx context.Context, p Partition, o Offset) error {
	return s.cfg.Progress.Wait(ctx, p, o)
}

// Barrier returns once everything acknowledged before the call, by anyone, is
// applied: what a linearizable read waits for.
func (s *Stream) Barrier(ctx context.Context, p Partition) error {
	mark := s.parts[p].doubted.Load()
	o, err := s.cfg.Log.Barrier(ctx, p)
	if err != nil && ctx.Err() != nil {
		return s.behind(p, err)
	}
	if err != nil {
		return fmt.Errorf("barrier of partition %d: %w", p, err)
	}
	if err := s.cfg.Progress.Wait(ctx, p, o); err != nil {
		return err
	}
	s.parts[p].clear(mark)
	return nil
}

// behind says how far p is for a read whose barrier cannot be had: how far it would
// have had to be is not known; what is known is told.
func (s *Stream) behind(p Partition, cause error) error {
	g := s.cfg.Progress
	return &BehindError{Partition: p, Wanted: g.Acked(p), Applied: g.Applied(p), Cause: cause}
}

// Consistency is what a read waits for.
type Consistency uint8

// The consistencies of a read.
const (
	// ReadYourWrites waits for what this process has acknowledged and for After.
	ReadYourWrites Consistency = iota
	// Latest waits for what anyone has acknowledged: linearizable.
	Latest
	// Eventual waits for nothing but After.
	Eventual
)

// ReadPoint is what a read must see.
type ReadPoint struct {
	Consistency Consistency
	After       Position // only this namespace's; see MergeAfter
}

// WaitRead returns once p can serve a read at point. The error is a
// *BehindError when it cannot in time.
func (s *Stream) WaitRead(ctx context.Context, p Partition, point *ReadPoint) error {
	want := NoOffset
	if o, ok := point.After.Offsets[p]; ok {
		want = o
	}
	switch point.Consistency {
	case Latest:
		if err := s.Barrier(ctx, p); errors.Is(err, ErrUnavailable) {
			return s.behind(p, err)
		} else if err != nil {
			return err
		}
	case ReadYourWrites:
		// Without a position: whatever this process has acknowledged.
		if len(point.After.Offsets) == 0 {
			want = max(want, s.cfg.Progress.Acked(p))
		}
	case Eventual:
	}
	return s.cfg.Progress.Wait(ctx, p, want)
}

// MergeAfter parses the positions that a read must be at or after and merges
// those of this namespace. ErrMalformed, ErrWrongIncarnation.
func (s *Stream) MergeAfter(after []string) (Position, error) {
	merged := Position{Namespace: s.cfg.Namespace, Incarnation: s.info.Incarnation}
	for _, a := range after {
		p, err := ParsePosition(a)
		if err != nil {
			return Position{}, err
		}
		if p.Namespace != s.cfg.Namespace {
			continue
		}
		if p.Incarnation != s.info.Incarnation {
			return Position{}, ErrWrongIncarnation
		}
		for part := range p.Offsets {
			if int(part) >= s.info.Partitions {
				return Position{}, fmt.Errorf("%w position: no partition %d", ErrMalformed, part)
			}
		}
		merged.Merge(p)
	}
	return merged, nil
}
