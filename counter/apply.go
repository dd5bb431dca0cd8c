package counter

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// errPanic makes the runner resume from what is saved.
var errPanic = errors.New("panic while applying")

// scratch is what the loop over the adds of a record uses again and again.
type scratch struct {
	adds    []pendingAdd
	names   [][]byte // of adds, and what is found under them
	hashes  []uint64
	found   []*hot
	touched int64 // of no meaning: it keeps the loads that fetch counters alive
	extras  []extraAdd
	missing [][]byte
	rows    []Row
	there   []bool
}

// extraAdd is an add with a time, a time to live or a token of its own.
type extraAdd struct {
	Add
	id wal.TokenID // of its own token
}

// pendingAdd is an add whose counter is in memory.
type pendingAdd struct {
	h     *hot
	delta int64
	extra int // index in extras, -1: none
	index int // in the record
}

// entry applies one record and moves the partition past it.
func (pa *partApplier) entry(ctx context.Context, e *wal.Entry) error {
	st := &pa.rollup.state
	if st.Applied >= 0 && e.Offset <= st.Applied {
		return fmt.Errorf("offset %d is already applied (at %d)", e.Offset, st.Applied)
	}
	logTime := max(st.LogTime, e.LogTime)
	pa.partial = false
	if err := pa.dispatch(ctx, e, logTime); err != nil {
		pa.parking.Forget(e.Offset)
		pa.broken = pa.broken || pa.partial
		return err
	}
	pa.mu.Lock()
	pa.rollup.move(e.Offset, logTime)
	pa.mu.Unlock()
	return nil
}

func (pa *partApplier) dispatch(ctx context.Context, e *wal.Entry, logTime int64) error {
	rec := &pa.record
	err := wal.DecodeRecord(e.Data, rec)
	if errors.Is(err, wal.ErrUnknownVersion) {
		return err
	}
	accepted := rec.AcceptedAt
	if accepted == 0 {
		accepted = logTime
	}
	pa.rollup.begin(e.Offset, logTime, accepted, rec.Token.Nonce)
	if err := pa.expire(ctx, logTime); err != nil {
		return err
	}
	if err != nil {
		key, keyErr := wal.RoutingKeyOf(e.Data)
		if keyErr != nil {
			key = nil
		}
		return pa.park(e, wal.WholeRecord, key, logTime, err)
	}
	switch rec.Kind {
	case wal.KindBarrier:
		return nil
	case wal.KindControl:
		if err := pa.parking.Control(ctx, e, rec, logTime); err != nil {
			pa.broken = true // a part of the queue may be applied
			return err
		}
		return nil
	case wal.KindCounter:
		return pa.counterRecord(ctx, e, rec, logTime)
	default:
		return pa.park(e, wal.WholeRecord, rec.RoutingKey, logTime, fmt.Errorf("a record of kind %s does not belong here", rec.Kind))
	}
}

func (pa *partApplier) park(e *wal.Entry, index int, key []byte, logTime int64, cause error) error {
	if err := pa.parking.Park(e, index, key, logTime, cause); err != nil {
		return err
	}
	pa.a.stats.Parked.Add(1)
	return nil
}

// counterRecord applies a record of calls, or parks what cannot be.
func (pa *partApplier) counterRecord(ctx context.Context, e *wal.Entry, rec *wal.Record, logTime int64) error {
	c := &pa.call
	if err := DecodePayload(rec.Payload, c); err != nil {
		if errors.Is(err, wal.ErrUnknownVersion) {
			return err
		}
		return pa.park(e, wal.WholeRecord, rec.RoutingKey, logTime, err)
	}
	settings, err := pa.a.cfg.Settings(rec.NamespaceVersion)
	if err != nil {
		return err
	}
	pl := &place{at: at{offset: e.Offset, logTime: logTime, acceptedAt: pa.rollup.row.AcceptedAt, settings: &settings}, entry: e, callTime: rec.Token.GenerationTime}
	if c.Op == OpAdd {
		poison, err := pa.adds(ctx, c, rec, pl)
		if poison != nil {
			return pa.park(e, wal.WholeRecord, rec.RoutingKey, logTime, poison)
		}
		return err
	}
	if pa.parking.Len() > 0 {
		if q := pa.parking.Queue(c.Add.Counter); q != nil {
			return pa.parking.Enqueue(q, wal.Ref{Partition: pa.p, Offset: e.Offset})
		}
	}
	poison, err := pa.single(ctx, c, rec, 0, pl)
	if poison != nil {
		return pa.park(e, 0, c.Add.Counter, logTime, poison)
	}
	return err
}

// place is where a call stands in the log.
type place struct {
	at
	entry *wal.Entry
	// callTime is the generation time of the call's token, for adds whose own has
	// none.
	callTime int64
	// redriven: the call was parked. It is applied whatever is parked, and what
	// cannot be applied is the redriver's to deal with.
	redriven bool
}

// applied is the entry of a write that takes effect here.
func (pl *place) applied(id wal.TokenID, generated int64, h wal.Hash) *TokenEntry {
	return &TokenEntry{
		ID: id, Hash: h, Offset: pl.offset, LogTime: pl.logTime, AcceptedAt: pl.acceptedAt, Time: generated, Outcome: Applied,
	}
}

// guard turns a panic of this build into a record that is parked on the way back.
func (pa *partApplier) guard(ref *wal.Ref, err *error) {
	if r := recover(); r != nil {
		pa.panicked[*ref] = fmt.Errorf("panic: %v", r)
		pa.broken = true // memory may hold a part of the record
		*err = fmt.Errorf("%w %s: %v", errPanic, *ref, r)
	}
}

// verdict is what is known of a token.
type verdict uint8

const (
	fresh verdict = iota
	duplicate
	conflict
	tooOld
)

// judge tells what becomes of a write whose token is of the time generated.
func (pa *partApplier) judge(ctx context.Context, id wal.TokenID, generated int64, h wal.Hash, pl *place) (verdict, error) {
	window := pl.settings.TokenWindow.Microseconds()
	if generated < pl.logTime-window {
		return tooOld, nil
	}
	seen, ok, err := pa.token(ctx, id)
	if err != nil {
		return fresh, err
	}
	if !ok || seen.LogTime < pl.logTime-window {
		return fresh, nil
	}
	if seen.Hash == h {
		return duplicate, nil
	}
	return conflict, nil
}

func (pa *partApplier) token(ctx context.Context, id wal.TokenID) (TokenEntry, bool, error) {
	if e, ok := pa.rollup.token(id); ok {
		return e, true, nil
	}
	return pa.a.cfg.Store.Token(ctx, pa.p, id)
}

// refused counts a verdict, and keeps the letter of one that is not a duplicate.
func (pa *partApplier) refused(v verdict, key []byte, index int, pl *place) {
	st := &pa.a.stats
	switch v {
	case duplicate:
		st.Duplicates.Add(1)
	case conflict:
		st.Conflicts.Add(1)
		pa.letter(key, index, pl, "token_conflict", "the token was used for another request before")
	case tooOld:
		st.TooOld.Add(1)
		pa.letter(key, index, pl, "too_old", "the token was generated before the token window")
	case fresh:
	}
}

func (pa *partApplier) letter(key []byte, index int, pl *place, reason, detail string) {
	pa.parking.Refuse(consumers.DeadLetter{
		Ref: wal.Ref{Offset: pl.offset, Index: index}, Key: append([]byte(nil), key...), Reason: reason, Detail: detail, LogTime: pl.logTime,
	})
}

func checkName(name []byte) error {
	if len(name) == 0 || len(name) > MaxNameBytes {
		return fmt.Errorf("a counter's name of %d bytes", len(name))
	}
	return nil
}

// find returns a counter, from the store where it is not in memory.
func (pa *partApplier) find(ctx context.Context, name []byte) (*hot, error) {
	if h := pa.rollup.find(name); h != nil {
		return h, nil
	}
	var row [1]Row
	var found [1]bool
	if err := pa.a.cfg.Store.Counters(ctx, pa.p, [][]byte{name}, row[:], found[:]); err != nil {
		return nil, fmt.Errorf("read counter: %w", err)
	}
	pa.mu.Lock()
	defer pa.mu.Unlock()
	return pa.rollup.load(name, row[0], found[0]), nil
}

// expire ends the leases that are due.
func (pa *partApplier) expire(ctx context.Context, logTime int64) error {
	for pa.rollup.leases.due(logTime) {
		v := pa.firstLease()
		if v == nil || v.ExpiresAt > logTime {
			return nil
		}
		if _, err := pa.find(ctx, v.Counter); err != nil {
			return err
		}
		pa.mu.Lock()
		pa.rollup.expireOne(v)
		pa.mu.Unlock()
	}
	return nil
}

// firstLease is leases.first, which takes out what has ended and so must not meet
// a reader.
func (pa *partApplier) firstLease() *Reservation {
	pa.mu.Lock()
	defer pa.mu.Unlock()
	return pa.rollup.leases.first()
}

// single applies a call that is not OpAdd. poison says that it can never be
// applied; err that the store could not be asked, and nothing has changed.
func (pa *partApplier) single(ctx context.Context, c *Call, rec *wal.Record, index int, pl *place) (poison, err error) {
	ref := wal.Ref{Partition: pa.p, Offset: pl.offset, Index: index}
	if p := pa.panicked[ref]; p != nil {
		return p, nil
	}
	if err := checkName(c.Add.Counter); err != nil {
		return err, nil
	}
	if rec.Token.IsZero() {
		return errors.New("a call without a token"), nil
	}
	defer pa.guard(&ref, &err)
	id := wal.IDOf(c.Add.Counter, rec.Token.Nonce)
	v, err := pa.judge(ctx, id, rec.Token.GenerationTime, rec.RequestHash, pl)
	if err != nil {
		return nil, err
	}
	if v != fresh {
		pa.refused(v, c.Add.Counter, index, pl)
		return nil, nil
	}
	h, err := pa.find(ctx, c.Add.Counter)
	if err != nil {
		return nil, err
	}
	var held *Reservation
	if c.Op == OpSettle || c.Op == OpCancel {
		if held, err = pa.reservation(ctx, c.Reservation); err != nil {
			return nil, err
		}
	}
	e := pl.applied(id, rec.Token.GenerationTime, rec.RequestHash)
	pa.mu.Lock()
	defer pa.mu.Unlock()
	r := pa.rollup
	switch c.Op {
	case OpAddAndGet:
		e.Outcome, e.AppliedDelta, e.Violation = r.add(h, &c.Add, &c.Bounds, &pl.at)
	case OpClear:
		r.clear(h, &pl.at)
	case OpReserve:
		r.reserve(h, id, c.Amount, c.Lease.Microseconds(), &pl.at, e)
	case OpSettle:
		r.settle(h, held, c.Amount, c.All, &pl.at, e)
	case OpCancel:
		r.cancel(h, held, &pl.at, e)
	case OpAdd:
	}
	if e.Outcome == Applied {
		pa.a.stats.Applied.Add(1)
	} else {
		pa.a.stats.Refused.Add(1)
	}
	e.Value, e.Held = h.row.value(pl.logTime), h.row.Held
	r.saveToken(e)
	return nil, nil
}

// reservation returns a reservation in any state, nil when there is none.
func (pa *partApplier) reservation(ctx context.Context, id wal.TokenID) (*Reservation, error) {
	if v, ok := pa.rollup.reservation(id); ok {
		return &v, nil
	}
	v, ok, err := pa.a.cfg.Store.Reservation(ctx, pa.p, id)
	if err != nil || !ok {
		return nil, err
	}
	return &v, nil
}
