package consumers

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// Run is the record in hand, with what all machines do alike. It is valid during
// the call of Machine that it is given to.
type Run struct {
	Part   *Part
	Entry  *wal.Entry
	Record wal.Record
	// LogTime judges tokens and times to live, microseconds since 1970: the running
	// maximum of the partition; of a redriven record, that of its own entry.
	LogTime int64
	// AcceptedAt is the gateway's time, or LogTime where the record has none.
	AcceptedAt int64
	// Redriven: the record was parked and is applied again by a control record. It
	// is applied whatever is parked.
	Redriven bool

	by      *Run // the control record that redrives this one; nil: none
	row     []byte
	last    int        // index of the last decision in row
	decided []Decision // of a store that follows: what was decided of the record
	begun   []Decision // of a control record of which a part was done: what was decided of it
	repeats bool       // it was redriven before, by the part of a control record that was done
	changed bool       // the record has changed something
	came    bool       // it was made of the message source, and was in turn
	source  wal.Source
}

// Follows reports whether the store does what another has decided, or repeats what it had decided itself
// (see Ahead): nothing is judged, refused or parked for reasons of its own.
func (r *Run) Follows() bool { return r.Part.st.Follows || r.Part.ahead.repeats || r.repeats }

// Omitted reports whether the write of a nonce is one that this store leaves out. What
// its token did is saved all the same.
func (r *Run) Omitted(n wal.Nonce) bool {
	left := r.Part.l.cfg.Left
	return left != nil && left.Tokens[n] && r.Follows()
}

// Partial reports whether a call may refer to one that this store has left out, and has
// no effect then.
func (r *Run) Partial() bool { return r.Part.l.cfg.Left != nil && r.Follows() }

// SentAt is LogTime, or when the message was due, by the log that it came from, of which the record was made: what
// judges whether it comes too late.
func (r *Run) SentAt() int64 {
	src, is := r.Source()
	if !is {
		return r.LogTime
	}
	return min(src.Place.At, r.LogTime)
}

// Source is which message of a log namespace the record was made of, if it was.
func (r *Run) Source() (wal.Source, bool) {
	if r.came || r.Record.Origin == "" {
		return r.source, r.came
	}
	src, err := wal.ParseSource(r.Record.Origin) // of one that is redriven
	return src, err == nil
}

// Ref names a call of the record.
func (r *Run) Ref(index int) wal.Ref {
	return wal.Ref{Partition: r.Part.p, Offset: r.Entry.Offset, Index: index}
}

// DecidedAt is the offset of the record that the partition has come to: of a redriven
// record, that of the control record.
func (r *Run) DecidedAt() wal.Offset {
	if r.by != nil {
		return r.by.Entry.Offset
	}
	return r.Entry.Offset
}

// Changed says that the record has changed what is in memory: when it fails now,
// the machine's Load is told that something is lost.
func (r *Run) Changed() { r.changed = true }

// Observe notes the time of a version or token that was applied, microseconds
// since 1970. MaxTime is the largest.
func (r *Run) Observe(t int64) { r.Part.st.MaxTime = max(r.Part.st.MaxTime, t) }

// MaxTime is the largest time that was observed in the partition.
func (r *Run) MaxTime() int64 { return r.Part.st.MaxTime }

// Settled returns when everything before the record in hand can be read from the
// store. The record must not have changed anything yet.
func (r *Run) Settled(ctx context.Context) error {
	if r.by != nil {
		return r.by.settledInside(ctx)
	}
	return r.Part.commit(ctx)
}

// settledInside saves the calls that a control record has redriven so far, with
// what was decided of them. The position stays before the record: after a crash it
// goes on with what is left of the queue.
func (r *Run) settledInside(ctx context.Context) error {
	q := r.Part
	q.parking.settle()
	if len(r.row) > 0 {
		q.m.SaveException(r.Entry.Offset, r.row)
		q.noteAhead(r.Entry.Offset, r.row)
	}
	return q.commit(ctx)
}

// Judge tells what becomes of a call under a token: what the store decides, or
// what was decided where it follows. A record that was made of a message of a log namespace is never too old. window is that of the configuration that
// the record was accepted under, in microseconds. A call that is not Fresh is
// counted, its exception is written and its letter; the machine leaves it.
func (r *Run) Judge(ctx context.Context, index int, key []byte, tok wal.Token, id wal.TokenID, h wal.Hash, window int64) (Verdict, error) {
	v, err := r.verdict(ctx, index, tok, id, h, window)
	if err != nil || v == Fresh {
		return v, err
	}
	r.Refused(index, key, v)
	return v, nil
}

func (r *Run) verdict(ctx context.Context, index int, tok wal.Token, id wal.TokenID, h wal.Hash, window int64) (Verdict, error) {
	if r.Follows() {
		for _, v := range [...]Verdict{Duplicate, Conflict, TooOld} {
			if r.Decision(index, whatOf[v]) != nil {
				return v, nil
			}
		}
		return Fresh, nil
	}
	if r.Record.Origin == "" && tok.GenerationTime < r.LogTime-window { // else its place tells
		return TooOld, nil
	}
	seen, logTime, known, err := r.Part.m.Token(ctx, id)
	switch {
	case err != nil:
		return Fresh, err
	case !known || logTime < r.LogTime-window:
		return Fresh, nil
	case seen.Same(h):
		return Duplicate, nil
	default:
		return Conflict, nil
	}
}

var whatOf = [...]What{Duplicate: WasDuplicate, Conflict: WasConflict, TooOld: WasTooOld}

// Refused counts a call that a token keeps from being decided, with its exception
// and its letter.
func (r *Run) Refused(index int, key []byte, v Verdict) {
	st := &r.Part.l.stats
	switch v {
	case Duplicate:
		st.Duplicates.Add(1)
	case Conflict:
		st.Conflicts.Add(1)
		r.Letter(index, key, "token_conflict", "the token was used for another request before")
	case TooOld:
		st.TooOld.Add(1)
		r.Letter(index, key, "too_old", "the token was generated before the token window")
	case Fresh:
		return
	}
	r.Except(index, whatOf[v], nil)
}

// Letter keeps a dead letter of a call that was decided against and that nobody
// may be waiting for. The letters of a batch are one append, before anybody is
// told that their records are applied.
func (r *Run) Letter(index int, key []byte, reason, detail string) {
	r.letter(DeadLetter{Ref: r.Ref(index), Key: bytes.Clone(key), Reason: reason, Detail: detail, LogTime: r.LogTime})
}

// LetterOf keeps a dead letter of an earlier record, of which the record in hand says what becomes of it.
func (r *Run) LetterOf(l DeadLetter) {
	if !r.Part.st.Follows {
		r.Part.parking.Later(l, r.Entry.Offset)
	}
}

func (r *Run) letter(l DeadLetter) {
	if !r.Part.st.Follows { // the store that decided it has written it; one that repeats may have to
		r.Part.parking.Refuse(l)
	}
}

// Except writes down that call index was decided otherwise than its record says.
func (r *Run) Except(index int, what What, data []byte) {
	if r.Follows() {
		return // it has the row as it was written
	}
	d := Decision{Offset: r.Entry.Offset, Index: index, What: what, Data: data}
	c := r
	if r.by != nil {
		c = r.by
	}
	c.row = AppendDecision(c.row, c.Entry.Offset, &c.last, &d)
}

// Decision returns what was decided of call index, nil where there is no such
// exception. Only of a store that follows.
func (r *Run) Decision(index int, what What) *Decision {
	return find(r.decided, r.Entry.Offset, index, what)
}

func find(ds []Decision, o wal.Offset, index int, what What) *Decision {
	for i := range ds {
		if d := &ds[i]; d.Index == index && d.What == what && d.Offset == o {
			return d
		}
	}
	return nil
}

// Call does one call of a record: it waits behind a parked key, or f decides it,
// or it is parked because f cannot. keys are those that the call touches, the
// first is the one to park. A panic of f is a call that cannot be applied.
func (r *Run) Call(ctx context.Context, index int, keys [][]byte, f func(ctx context.Context) error) error {
	if aside, err := r.Aside(index, keys...); aside || err != nil {
		return err
	}
	err := r.Guard(index, func() error { return f(ctx) })
	if !errors.Is(err, ErrPoison) || r.Redriven {
		return err
	}
	var key []byte
	if len(keys) > 0 {
		key = keys[0]
	}
	return r.Park(index, key, err)
}

// Aside puts a call behind the parked records of one of its keys, and reports
// whether it did. A store that follows parks what was parked.
func (r *Run) Aside(index int, keys ...[]byte) (bool, error) {
	if r.Redriven {
		return false, nil
	}
	k := r.Part.parking
	if r.Follows() {
		d := r.Decision(index, WasParked)
		if d == nil {
			return false, nil
		}
		if len(d.Data) > 0 {
			key, attempts, reason, err := decodeParkedData(d.Data)
			if err != nil {
				return false, err
			}
			q := &ParkedQueue{Key: key, Refs: []wal.Ref{r.Ref(index)}, ParkedHead: ParkedHead{
				Reason: reason, Attempts: attempts, At: r.Entry.Offset, LogTime: r.LogTime,
			}}
			if !r.Part.st.Follows { // who decided it may have been stopped before the letter
				k.parkedLetter(q, r.Entry)
			}
			k.begin(q)
			return true, nil
		}
	}
	if k.Len() == 0 && !r.Follows() {
		return false, nil
	}
	for _, key := range keys {
		if q := k.Queue(key); q != nil {
			r.changed = true
			if err := k.Enqueue(q, r.Ref(index)); err != nil {
				return false, err
			}
			r.Except(index, WasParked, nil)
			return true, nil
		}
	}
	if r.Partial() { // what it waits behind was left out
		return true, nil
	}
	if r.Follows() {
		return false, fmt.Errorf("%w: call %s was parked, and its key is not", ErrCannotFollow, r.Ref(index))
	}
	return false, nil
}

// Park sets a key aside with call index at the head of its queue, because it
// cannot be applied.
func (r *Run) Park(index int, key []byte, cause error) error {
	if r.Follows() {
		return fmt.Errorf("%w: %s: %w", ErrCannotFollow, r.Ref(index), cause)
	}
	first := r.Part.parking.Queue(key) == nil
	r.changed = true
	if err := r.Part.parking.Park(r.Entry, index, key, r.LogTime, cause); err != nil {
		return err
	}
	if !first {
		r.Except(index, WasParked, nil)
		return nil
	}
	r.Part.l.stats.Parked.Add(1)
	r.Except(index, WasParked, parkedData(nil, key, 1, cause.Error()))
	return nil
}

// Poisoned returns why a call can never be applied, as far as the loop knows: it
// made this build panic. Nil when nothing is known against it.
func (r *Run) Poisoned(index int) error { return r.Part.panicked[r.Ref(index)] }

// MayPark reports whether Aside or Poisoned may have something to say of any call
// of the record, so that most records cost one look.
func (r *Run) MayPark() bool {
	return r.Redriven || r.Part.parking.Len() > 0 || len(r.Part.panicked) > 0 || len(r.decided) > 0
}

// Guard runs f, which may change memory, and turns a panic into an error: what
// was changed is read back from the store, and on the way back here the call is
// ErrPoison without another try.
func (r *Run) Guard(index int, f func() error) (err error) {
	if cause := r.Poisoned(index); cause != nil {
		return fmt.Errorf("%w: %w", ErrPoison, cause)
	}
	defer r.Recover(&index, &err)
	return f()
}

// Recover is Guard for a loop over many calls: deferred, with the index of the
// call in hand.
func (r *Run) Recover(index *int, err *error) {
	if x := recover(); x != nil {
		ref := r.Ref(*index)
		if r.Follows() {
			*err = fmt.Errorf("%w %s: panic: %v", ErrCannotFollow, ref, x)
			return
		}
		r.Part.panicked[ref] = fmt.Errorf("panic: %v", x)
		r.changed = true
		if r.by != nil {
			r.by.changed = true
		}
		*err = fmt.Errorf("%w %s: %v", errPanic, ref, x)
	}
}

// CountApplied counts calls that had their effect, and CountRefused those that a
// bound or condition was against.
func (r *Run) CountApplied(n int64) { r.Part.l.stats.Applied.Add(n) }

// CountRefused is CountApplied of what was decided against.
func (r *Run) CountRefused(n int64) { r.Part.l.stats.Refused.Add(n) }
