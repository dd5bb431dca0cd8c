package counter

import (
	"cmp"
	"context"
	"errors"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Write does a call that is decided by the applier, and returns its answer: the
// same to every copy of the call. The shape of the call, names and ranges, has
// been checked by the gateway. Errors of Result.Err, beyond the log's:
// *DriftError, wal.ErrTokensFull, wal.ErrTokenReused, wal.ErrTooOld, ErrOverflow,
// *InsufficientError, *EndedError, *TooMuchError, ErrNoReservation,
// ErrTooManyReservations, *ParkedError. An add that a bound rejects is no error:
// see Result.Violation.
func (db *DB) Write(ctx context.Context, r *Request) (res Result) {
	opts := db.cfg.Options()
	name := r.Call.Add.Counter
	serverTime, err := db.Complete(&r.Token, &opts.FrontOptions)
	res.Token = r.Token
	p := db.Stream.PartitionOf(name)
	id, h := wal.IDOf(name, r.Token.Nonce), r.Call.requestHash()
	if err == nil {
		err = db.ParkedUnlessKnown(ctx, p, name, id, h, &opts.FrontOptions)
	}
	if err != nil {
		res.Err = err
		return res
	}
	payload := AppendPayload(make([]byte, 0, 64+len(name)), &r.Call)
	c, unknown, err := db.Claim(ctx, p, id, r.Token.GenerationTime, h, &opts.FrontOptions, true)
	if err != nil {
		res.Err, res.Unknown = err, unknown
		return res
	}
	if c.Own != nil {
		rec := &wal.Record{
			RoutingKey: name, Kind: wal.KindCounter, Token: r.Token, RequestHash: h, NamespaceVersion: opts.Version,
			AcceptedAt: db.Now().UnixMicro(), Payload: payload,
		}
		if _, err = db.Stream.Append(ctx, p, rec, c.Own); err != nil {
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
		if e, err = db.Decision(ctx, p, first.Offset, id, h, name); err != nil {
			res.Err, res.Unknown = err, consumers.Undecided(err)
			return res
		}
		res.Duplicate = res.Duplicate || e.Offset != first.Offset // another process took the first copy
	} else if serverTime {
		res.Token.GenerationTime = e.Time
	}
	db.answer(&res, r, p, e)
	return res
}

// answer fills res in from what was decided.
func (db *DB) answer(res *Result, r *Request, p wal.Partition, e *TokenEntry) {
	res.Position = db.Stream.Position(p, e.Offset)
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
