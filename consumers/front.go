package consumers

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// Owner is what stands between the typed calls of a namespace and the applier that
// holds its partitions: all that the two share. E is what the abstraction keeps of
// a token; each abstraction adds its reads. In one process the owner is the applier
// itself. Any method may be called at any time by anyone.
type Owner[E wal.Decided] interface {
	// Wait returns nil once p is applied up to o, so that a read sees it.
	// *wal.BehindError when ctx ends first, or the partition has stopped.
	Wait(ctx context.Context, p wal.Partition, o wal.Offset) error
	// Token returns what a token did, whatever its age.
	Token(ctx context.Context, p wal.Partition, id wal.TokenID) (E, bool, error)
	// Tokens is Token of several; out[i] is that of tokens[i]. It waits for no owner that cannot
	// be asked at once.
	Tokens(ctx context.Context, tokens []TokenAt) (out []Found[E])
	// Parked returns the queue of a key, and whether it is parked. It asks nobody while
	// nothing of the partition is parked.
	Parked(ctx context.Context, p wal.Partition, key []byte) (ParkedQueue, bool, error)
	// ParkedKeys returns how many keys of a partition are parked, and the lowest
	// offset that only the log still holds for them (wal.NoOffset when none), as far as
	// it is known without asking anyone.
	ParkedKeys(p wal.Partition) (n int, lowest wal.Offset)
}

// TokenAt is an identity in a partition.
type TokenAt struct {
	Partition wal.Partition
	ID        wal.TokenID
}

// Found is what an owner found of a token.
type Found[E wal.Decided] struct {
	Entry E
	Known bool
	Err   error
}

// ErrOwnerAway means that the process that holds a partition cannot be asked now. It says nothing of
// what was asked.
var ErrOwnerAway = errors.New("the process that holds the partition cannot be reached")

// FrontOptions are the parts of a namespace's configuration that a Front acts on.
// They may change from one call to the next.
type FrontOptions struct {
	Version       uint64 // of the namespace; stamped on every record
	DriftPast     time.Duration
	DriftFuture   time.Duration
	TokenWindow   time.Duration
	MaxLiveTokens int64
}

// Front is the side of a namespace that takes calls, as all abstractions have it:
// it completes a token, claims it, waits for what was decided, and says how fresh
// a read is. Safe for concurrent use.
type Front[E wal.Decided] struct {
	Stream *wal.Stream
	Owner  Owner[E]
	Clock  *wal.Clock       // makes generation times
	Now    func() time.Time // the log's clock; see wal.Broker.Now

	live atomic.Int64 // tokens, as of the last look
}

// SoftParked is how many records may wait behind a key before the gateway takes no
// more writes of it, well below where its partition would be held.
const SoftParked = 10_000

// NoteUsage tells how many tokens are live, from time to time, so that writes can
// be shed above the limit.
func (f *Front[E]) NoteUsage(liveTokens int64) { f.live.Store(liveTokens) }

// Complete checks a token and fills in what it lacks. made says that the
// generation time is the server's. Errors: *wal.DriftError, wal.ErrTokensFull.
func (f *Front[E]) Complete(t *wal.Token, o *FrontOptions) (made bool, err error) {
	made, err = f.Clock.Stamp(t, f.Now(), o.DriftPast, o.DriftFuture)
	if t.Nonce == (wal.Nonce{}) {
		t.Nonce = wal.NewNonce()
	}
	if err == nil && o.MaxLiveTokens > 0 && f.live.Load() >= o.MaxLiveTokens {
		err = wal.ErrTokensFull
	}
	return made, err
}

// Claim is what a token turned out to be in one partition. One of its fields is
// set; none, when another copy of the request is about to be appended and the
// caller did not want to wait for that.
type Claim[E wal.Decided] struct {
	// Own: the request is the first. It has to end this by appending or by Release.
	Own *wal.Reservation
	// First is that of an earlier copy, which this process has appended. It may not
	// be applied yet.
	First *wal.Reservation
	// Known is of an earlier copy that is applied, no longer than a token window ago.
	Known *E
}

// Asking is a request of ClaimAll: its identity in a partition, and what became of it.
type Asking[E wal.Decided] struct {
	TokenAt
	Generated int64 // the token's generation time
	Hash      wal.Hash

	Claim Claim[E]
	// Unknown says of Err that an earlier copy may have taken place.
	Unknown bool
	Err     error
}

// Claim finds out whether a request comes for the first time in a partition, and
// reserves its token if it does. wal.ErrTokenReused: the token is another
// request's. unknown says of any other error that an earlier copy may have taken
// place. An owner that cannot be asked keeps no write out: a copy changes nothing when it is applied,
// and see wal.Stream.Unsure.
func (f *Front[E]) Claim(ctx context.Context, p wal.Partition, id wal.TokenID, generated int64, h wal.Hash, o *FrontOptions, wait bool) (c Claim[E], unknown bool, err error) {
	a := Asking[E]{TokenAt: TokenAt{p, id}, Generated: generated, Hash: h}
	if f.reserve(ctx, &a, wait); a.Claim.Own == nil || a.Err != nil {
		return a.Claim, a.Unknown, a.Err
	}
	looked := f.Stream.Progress().Applied(p) + 1
	f.judge(&a, f.Owner.Tokens(ctx, []TokenAt{a.TokenAt})[0], looked, o)
	return a.Claim, a.Unknown, a.Err
}

// ClaimAll is Claim of several requests, each with an outcome of its own. The owner is asked once for
// all. With wait it waits for other copies of one while it holds those before it: then they
// must be of one call, and rise by partition.
func (f *Front[E]) ClaimAll(ctx context.Context, asks []Asking[E], o *FrontOptions, wait bool) {
	if len(asks) == 1 {
		a := &asks[0]
		a.Claim, a.Unknown, a.Err = f.Claim(ctx, a.Partition, a.ID, a.Generated, a.Hash, o, wait)
		return
	}
	tokens, of := make([]TokenAt, 0, len(asks)), make([]*Asking[E], 0, len(asks))
	looked := make([]wal.Offset, 0, len(asks))
	for i := range asks {
		if f.reserve(ctx, &asks[i], wait); asks[i].Claim.Own != nil {
			tokens, of = append(tokens, asks[i].TokenAt), append(of, &asks[i])
			looked = append(looked, f.Stream.Progress().Applied(asks[i].Partition)+1)
		}
	}
	if len(tokens) == 0 {
		return
	}
	for i, found := range f.Owner.Tokens(ctx, tokens) {
		f.judge(of[i], found, looked[i], o)
	}
}

// reserve reserves the token of a request in this process.
func (f *Front[E]) reserve(ctx context.Context, a *Asking[E], wait bool) {
	for {
		r, owner, err := f.Stream.Reserve(ctx, a.Partition, a.ID, a.Hash)
		switch {
		case err != nil:
			a.Err, a.Unknown = err, !errors.Is(err, wal.ErrTokenReused)
			return
		case owner:
			r.Time = a.Generated
			a.Claim.Own = r
			return
		case !wait && !r.Done():
			return
		}
		err = r.Wait(ctx)
		if err == nil {
			a.Claim.First = r
			return
		}
		if ctx.Err() != nil {
			a.Err, a.Unknown = err, true
			return
		}
		// Of unknown outcome: Reserve finds out. Refused: this copy may fare better.
	}
}

// judge takes what the owner found of a token that is reserved into account. looked is as
// Reservation.Looked.
func (f *Front[E]) judge(a *Asking[E], found Found[E], looked wal.Offset, o *FrontOptions) {
	own := a.Claim.Own
	known, err := f.inWindow(a.Partition, &found, a.Hash, o)
	switch {
	case errors.Is(err, ErrOwnerAway): // the applier knows
	case err != nil:
		f.Stream.Release(own, err)
		a.Claim, a.Err = Claim[E]{}, err
	case known:
		// Others that wait for this reservation ask the store themselves.
		f.Stream.Release(own, wal.ErrNotAppended)
		a.Claim = Claim[E]{Known: &found.Entry}
	default:
		own.Looked, own.Asked = looked, true
	}
}

// inWindow reports whether a token that was found is remembered still. wal.ErrTokenReused where it
// is another request's.
func (f *Front[E]) inWindow(p wal.Partition, found *Found[E], h wal.Hash, o *FrontOptions) (bool, error) {
	if found.Err != nil || !found.Known {
		return false, found.Err
	}
	hash, logTime := found.Entry.Request()
	switch {
	case logTime < f.LogTime(p)-o.TokenWindow.Microseconds():
		return false, nil
	case !hash.Same(h):
		return false, wal.ErrTokenReused
	}
	return true, nil
}

// Look is one request of KnownAll.
type Look struct {
	TokenAt
	Hash wal.Hash

	Known  bool       // it was decided before, within its window
	Looked wal.Offset // as Reservation.Looked, and Asked
	Asked  bool
	Err    error // wal.ErrTokenReused: its token is another request's
}

// KnownAll finds out which requests were decided before. It reserves nothing. Where the owner cannot
// be asked, none was, as far as it is known here.
func (f *Front[E]) KnownAll(ctx context.Context, looks []Look, o *FrontOptions) {
	if len(looks) == 0 {
		return
	}
	tokens := make([]TokenAt, len(looks))
	for i := range looks {
		tokens[i] = looks[i].TokenAt
		looks[i].Looked = f.Stream.Progress().Applied(tokens[i].Partition) + 1
	}
	for i, found := range f.Owner.Tokens(ctx, tokens) {
		l := &looks[i]
		l.Known, l.Err = f.inWindow(l.Partition, &found, l.Hash, o)
		if l.Asked = !errors.Is(l.Err, ErrOwnerAway); !l.Asked {
			l.Err = nil
		}
	}
}

// Known is KnownAll of one request.
func (f *Front[E]) Known(ctx context.Context, p wal.Partition, id wal.TokenID, h wal.Hash, o *FrontOptions) (bool, error) {
	looks := [1]Look{{TokenAt: TokenAt{p, id}, Hash: h}}
	f.KnownAll(ctx, looks[:], o)
	return looks[0].Known, looks[0].Err
}

// Decision waits until the record at o is applied and returns what the call under
// the token did. keys are those that the call touches. Errors: those of Wait;
// wal.ErrTokenReused where another gateway took the token for another request;
// *ParkedError with Appended set; wal.ErrTooOld.
func (f *Front[E]) Decision(ctx context.Context, p wal.Partition, o wal.Offset, id wal.TokenID, h wal.Hash, keys ...[]byte) (*E, error) {
	if err := f.Owner.Wait(ctx, p, o); err != nil {
		return nil, err
	}
	e, ok, err := f.Owner.Token(ctx, p, id)
	if err != nil {
		return nil, err
	}
	if ok {
		if hash, _ := e.Request(); !hash.Same(h) {
			return nil, wal.ErrTokenReused
		}
		return &e, nil
	}
	for _, key := range keys {
		var pe *ParkedError
		err := f.ParkedErr(ctx, p, key)
		if errors.As(err, &pe) {
			pe.Appended = true
			return nil, pe
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, wal.ErrTooOld
}

// Undecided reports whether an error of Decision leaves open what becomes of the
// call.
func Undecided(err error) bool {
	return !errors.Is(err, wal.ErrTooOld) && !errors.Is(err, wal.ErrTokenReused)
}

// ParkedErr returns the error that a reader or decided write of a key gets when it
// is parked, or nil. *ParkedError, or that of an owner that cannot be asked.
func (f *Front[E]) ParkedErr(ctx context.Context, p wal.Partition, key []byte) error {
	q, ok, err := f.Owner.Parked(ctx, p, key)
	if err != nil {
		return err
	}
	if ok {
		return q.Err()
	}
	return nil
}

// QueueFull returns the error of a plain write when SoftParked records wait behind its
// key, or nil. An owner that cannot be asked refuses nothing: its applier parks the write,
// or holds the partition.
func (f *Front[E]) QueueFull(ctx context.Context, p wal.Partition, key []byte) error {
	if q, ok, err := f.Owner.Parked(ctx, p, key); err == nil && ok && len(q.Refs) >= SoftParked {
		return q.Err()
	}
	return nil
}

// QueueFullUnlessKnown is QueueFull for a write that was perhaps decided before; see
// ParkedUnlessKnown.
func (f *Front[E]) QueueFullUnlessKnown(ctx context.Context, p wal.Partition, key []byte, id wal.TokenID, h wal.Hash, o *FrontOptions) error {
	return f.unlessKnown(ctx, f.QueueFull(ctx, p, key), p, id, h, o)
}

// ParkedUnlessKnown is ParkedErr for a write: one that was decided before is owed its
// first answer, whatever has been parked since. wal.ErrTokenReused.
func (f *Front[E]) ParkedUnlessKnown(ctx context.Context, p wal.Partition, key []byte, id wal.TokenID, h wal.Hash, o *FrontOptions) error {
	return f.unlessKnown(ctx, f.ParkedErr(ctx, p, key), p, id, h, o)
}

func (f *Front[E]) unlessKnown(ctx context.Context, parked error, p wal.Partition, id wal.TokenID, h wal.Hash, o *FrontOptions) error {
	if parked == nil {
		return nil
	}
	known, err := f.Known(ctx, p, id, h, o)
	if err != nil || known {
		return err
	}
	return parked
}

// LogTime is the append time of the last record applied, microseconds since 1970.
func (f *Front[E]) LogTime(p wal.Partition) int64 { return f.Stream.Progress().LogTime(p) }

// ReadTime is what readers judge expiry by: the wall clock, or the log's where that
// is ahead. Microseconds since 1970.
func (f *Front[E]) ReadTime(p wal.Partition) int64 { return max(f.Now().UnixMicro(), f.LogTime(p)) }
