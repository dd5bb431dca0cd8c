package counter

import (
	"cmp"
	"context"
	"errors"

	"github.com/headwater-db/headwater/wal"
)

// softParked is where writes of a parked counter are refused, well below where
// its partition would be held.
const softParked = 10_000

// complete checks a token and fills in what it lacks. fromServer says that the
// generation time is the server's.
func (db *DB) complete(t *wal.Token, opts *Options) (fromServer bool, err error) {
	fromServer, err = db.cfg.Clock.Stamp(t, db.cfg.Now(), opts.DriftPast, opts.DriftFuture)
	if t.Nonce == (wal.Nonce{}) {
		t.Nonce = wal.NewNonce()
	}
	return fromServer, err
}

// admit refuses what must not reach the log.
func (db *DB) admit(opts *Options) error {
	if opts.MaxLiveTokens > 0 && db.tokens.Load() >= opts.MaxLiveTokens {
		return wal.ErrTokensFull
	}
	return nil
}

// claim finds out whether a call comes for the first time in a partition. See
// wal.ClaimToken.
func (db *DB) claim(ctx context.Context, p wal.Partition, id wal.TokenID, generated int64, h wal.Hash, opts *Options) (wal.Claim[TokenEntry], bool, error) {
	return wal.ClaimToken(ctx, db.cfg.Stream, p, id, generated, h, opts.TokenWindow, true, db.cfg.Applier.Token)
}

func (db *DB) logTime(p wal.Partition) int64 { return db.cfg.Stream.Progress().LogTime(p) }

// Write does a call that is decided by the applier, and returns its answer: the
// same to every copy of the call. The shape of the call, names and ranges, has
// been checked by the gateway. Errors of Result.Err, beyond the log's:
// *DriftError, wal.ErrTokensFull, wal.ErrTokenReused, wal.ErrTooOld, ErrOverflow,
// *InsufficientError, *EndedError, *TooMuchError, ErrNoReservation,
// ErrTooManyReservations, *ParkedError. An add that a bound rejects is no error:
// see Result.Violation.
func (db *DB) Write(ctx context.Context, r *Request) (res Result) {
	opts := db.cfg.Options()
	serverTime, err := db.complete(&r.Token, &opts)
	res.Token = r.Token
	if err == nil {
		err = db.admit(&opts)
	}
	p := db.cfg.Stream.PartitionOf(r.Call.Add.Counter)
	if err == nil {
		err = db.parkedErr(p, r.Call.Add.Counter)
	}
	if err != nil {
		res.Err = err
		return res
	}
	payload := AppendPayload(make([]byte, 0, 64+len(r.Call.Add.Counter)), &r.Call)
	h, id := wal.HashOf(payload), wal.IDOf(r.Call.Add.Counter, r.Token.Nonce)
	c, unknown, err := db.claim(ctx, p, id, r.Token.GenerationTime, h, &opts)
	if err != nil {
		res.Err, res.Unknown = err, unknown
		return res
	}
	if c.Own != nil {
		rec := &wal.Record{
			RoutingKey: r.Call.Add.Counter, Kind: wal.KindCounter, Token: r.Token, RequestHash: h, NamespaceVersion: opts.Version,
			AcceptedAt: db.cfg.Now().UnixMicro(), Origin: db.cfg.Origin, Payload: payload,
		}
		if _, err = db.cfg.Stream.Append(ctx, p, rec, c.Own); err != nil {
			res.Err, res.Unknown = err, errors.Is(err, wal.ErrUnknown)
			return res
		}
	}
	res.Duplicate = c.Own == nil
	e := c.Known
	if e == nil {
		first := cmp.Or(c.Own, c.First)
		if serverTime {
			res.Token.GenerationTime = first.Time
		}
		if e, err = db.decision(ctx, p, r, id, first.Offset, h); err != nil {
			res.Err, res.Unknown = err, !errors.Is(err, wal.ErrTooOld) && !errors.Is(err, wal.ErrTokenReused)
			return res
		}
	} else if serverTime {
		res.Token.GenerationTime = e.Time
	}
	db.answer(&res, r, p, e)
	return res
}

// decision waits until the record at o is applied and returns what it did.
func (db *DB) decision(ctx context.Context, p wal.Partition, r *Request, id wal.TokenID, o wal.Offset, h wal.Hash) (*TokenEntry, error) {
	if err := db.cfg.Stream.WaitApplied(ctx, p, o); err != nil {
		return nil, err
	}
	e, ok, err := db.cfg.Applier.Token(ctx, p, id)
	switch {
	case err != nil:
		return nil, err
	case ok && e.Hash != h:
		return nil, wal.ErrTokenReused // another gateway took the first copy
	case ok:
		return &e, nil
	}
	if err := db.parkedErr(p, r.Call.Add.Counter); err != nil {
		var pe *ParkedError
		if errors.As(err, &pe) {
			pe.Appended = true
		}
		return nil, err
	}
	return nil, wal.ErrTooOld
}

// answer fills res in from what was decided.
func (db *DB) answer(res *Result, r *Request, p wal.Partition, e *TokenEntry) {
	res.Position = db.cfg.Stream.Position(p, e.Offset)
	res.Count = Count{Value: e.Value, Held: e.Held, Accuracy: Accurate, AsOf: AsOf{Position: res.Position, Time: e.LogTime}}
	res.AppliedDelta, res.Violation, res.ExpiresAt, res.Reservation = e.AppliedDelta, e.Violation, e.ExpiresAt, e.ID
	switch e.Outcome {
	case Applied, Rejected:
	case Overflow:
		res.Err = ErrOverflow
	case Insufficient:
		res.Err = &InsufficientError{Value: e.Value, Held: e.Held, Wanted: r.Call.Amount}
	case NoReservation:
		res.Err = ErrNoReservation
	case ReservationEnded:
		res.Err = &EndedError{State: e.Ended}
	case TooMuch:
		res.AppliedDelta = 0 // the entry says how much is reserved
		res.Err = &TooMuchError{Reserved: e.AppliedDelta, Wanted: r.Call.Amount}
	case TooMany:
		res.Err = ErrTooManyReservations
	}
}

// parkedErr returns the error that a reader or decided write of a counter gets
// when it is parked, or nil.
func (db *DB) parkedErr(p wal.Partition, name []byte) error {
	q, ok := db.cfg.Applier.Parked(p, name)
	if !ok {
		return nil
	}
	return q.Err()
}
