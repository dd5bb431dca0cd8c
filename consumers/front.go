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
	// Parked returns the queue of a key, and whether it is parked.
	Parked(p wal.Partition, key []byte) (ParkedQueue, bool)
	// ParkedKeys returns how many keys of a partition are parked, and the lowest
	// offset that only the log still holds for them (wal.NoOffset when none).
	ParkedKeys(p wal.Partition) (n int, lowest wal.Offset)
}

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

// Claim finds out whether a request comes for the first time in a partition, and
// reserves its token if it does. wal.ErrTokenReused: the token is another
// request's. unknown says of any other error that an earlier copy may have taken
// place.
func (f *Front[E]) Claim(ctx context.Context, p wal.Partition, id wal.TokenID, generated int64, h wal.Hash, o *FrontOptions, wait bool) (c Claim[E], unknown bool, err error) {
	for {
		r, owner, err := f.Stream.Reserve(ctx, p, id, h)
		if err != nil {
			return Claim[E]{}, !errors.Is(err, wal.ErrTokenReused), err
		}
		if owner {
			r.Time = generated
			c.Own = r
			break
		}
		if !wait && !r.Done() {
			return Claim[E]{}, false, nil
		}
		err = r.Wait(ctx)
		if err == nil {
			return Claim[E]{First: r}, false, nil
		}
		if ctx.Err() != nil {
			return Claim[E]{}, true, err
		}
		// Of unknown outcome: Reserve finds out. Refused: this copy may fare better.
	}
	e, ok, err := f.known(ctx, p, id, h, o)
	switch {
	case err != nil:
		f.Stream.Release(c.Own, err)
		return Claim[E]{}, false, err
	case !ok:
		return c, false, nil
	}
	// Others that wait for this reservation ask the store themselves.
	f.Stream.Release(c.Own, wal.ErrNotAppended)
	return Claim[E]{Known: &e}, false, nil
}

// known asks the owner for a token that is within its window.
func (f *Front[E]) known(ctx context.Context, p wal.Partition, id wal.TokenID, h wal.Hash, o *FrontOptions) (e E, ok bool, err error) {
	if e, ok, err = f.Owner.Token(ctx, p, id); err != nil || !ok {
		return e, false, err
	}
	hash, logTime := e.Request()
	switch {
	case logTime < f.LogTime(p)-o.TokenWindow.Microseconds():
		return e, false, nil
	case !hash.Same(h):
		return e, false, wal.ErrTokenReused
	}
	return e, true, nil
}

// Known reports whether a request was decided before, within its window.
// wal.ErrTokenReused where its token is another request's. It reserves nothing.
func (f *Front[E]) Known(ctx context.Context, p wal.Partition, id wal.TokenID, h wal.Hash, o *FrontOptions) (bool, error) {
	_, known, err := f.known(ctx, p, id, h, o)
	return known, err
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
		if errors.As(f.ParkedErr(p, key), &pe) {
			pe.Appended = true
			return nil, pe
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
// is parked, or nil.
func (f *Front[E]) ParkedErr(p wal.Partition, key []byte) error {
	if q, ok := f.Owner.Parked(p, key); ok {
		return q.Err()
	}
	return nil
}

// ParkedUnlessKnown is ParkedErr for a write: one that was decided before is owed its
// first answer, whatever has been parked since. wal.ErrTokenReused.
func (f *Front[E]) ParkedUnlessKnown(ctx context.Context, p wal.Partition, key []byte, id wal.TokenID, h wal.Hash, o *FrontOptions) error {
	parked := f.ParkedErr(p, key)
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
