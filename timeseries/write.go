package timeseries

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Result is what became of a write.
type Result struct {
	Token     wal.Token
	Position  string // empty of a buffered write
	Duplicate bool   // every part of the call was there before
	// Unsure: whether it is a copy, or which one came first, is not known; see wal.Stream.Unsure.
	Unsure   bool
	Buffered bool
	// Refused are the events that were left out, by index; the others are written.
	Refused []Refusal
	Err     error
	// Unknown: Err does not say whether the write took place; resend it with the same
	// token.
	Unknown bool
}

// RefusedError is the error of a call of which every event is left out.
type RefusedError struct{ First Refusal }

func (e *RefusedError) Error() string {
	return "event " + fmt.Sprint(e.First.Index) + ": " + e.First.Why.String()
}

// Write appends events, one record for each partition that they touch, all under one
// token, and returns when they are durable. events are the caller's; an event without an
// id gets one that is made of the token and its index. Resending completes a call of which
// a part is missing. Errors of Result.Err, beyond the log's: *RefusedError,
// *wal.DriftError, wal.ErrTokensFull, wal.ErrTokenReused, *consumers.ParkedError.
func (db *DB) Write(ctx context.Context, tok wal.Token, events []Event) Result {
	w, res := db.begin(ctx, tok, events)
	if res.Err != nil {
		return res
	}
	if err := w.claim(ctx); err != nil {
		return w.failed(err)
	}
	w.judge(ctx)
	if w.accepted() == 0 {
		return w.failed(&RefusedError{w.refused[0]})
	}
	w.records()
	w.db.Stream.AppendAll(ctx, w.as)
	return w.end()
}

// WriteBuffered is Write that returns when the events are queued. What is queued is lost
// if the process dies within BufferedLoss. Copies are not known here: the applier absorbs
// them.
func (db *DB) WriteBuffered(ctx context.Context, tok wal.Token, events []Event) Result {
	w, res := db.begin(ctx, tok, events)
	if res.Err != nil {
		return res
	}
	w.judge(ctx)
	if w.accepted() == 0 {
		return w.failed(&RefusedError{w.refused[0]})
	}
	w.records()
	w.db.Stream.AppendBuffered(ctx, w.as)
	res = Result{Token: w.tok, Buffered: true, Refused: w.refused}
	queued := 0
	for i := range w.as {
		if err := w.as[i].Err; err != nil {
			res.Err = err
		} else {
			queued++
		}
	}
	res.Unknown = res.Err != nil && queued > 0
	return res
}

// writing is one call on its way.
type writing struct {
	db      *DB
	opts    *Options
	tok     wal.Token
	made    bool // the server gave the token its time
	hash    wal.Hash
	events  []Event
	parts   []writingPart
	refused []Refusal
	judged  bool // refused is what the first copy was told
	as      []wal.Appending

	first int64 // generation time of the first copy; 0: this is it
	known int   // partitions that had the call before
	at    wal.Position
	// unknown: an earlier copy may have taken place.
	unknown bool
	unsure  bool // a copy that is known may not be the first
}

// writingPart is what a call has in one partition.
type writingPart struct {
	p     wal.Partition
	index []int // of its events
	key   []byte
	own   *wal.Reservation // nil: an earlier copy is there
}

// begin completes the token and splits the call by partition.
func (db *DB) begin(ctx context.Context, tok wal.Token, events []Event) (*writing, Result) {
	w := &writing{db: db, opts: db.cfg.Options(), hash: hashOf(events)}
	var err error
	w.made, err = db.Complete(&tok, &w.opts.FrontOptions)
	w.tok = tok
	if err == nil {
		err = db.checkParked(ctx, events)
	}
	if err == nil {
		w.at, err = db.Stream.MergeAfter(nil) // a position of this stream, covering nothing
	}
	if err != nil {
		return nil, Result{Token: tok, Err: err}
	}
	w.split(events)
	return w, Result{}
}

// split gives the events ids and partitions.
func (w *writing) split(events []Event) {
	w.events = slices.Clone(events)
	byPart := make(map[wal.Partition]int)
	for i := range w.events {
		e := &w.events[i]
		if len(e.ID) == 0 {
			e.ID = fmt.Appendf(nil, "%s-%d", w.tok.Nonce, i)
		}
		p := w.db.Stream.PartitionOf(e.Series)
		at, ok := byPart[p]
		if !ok {
			at = len(w.parts)
			byPart[p] = at
			w.parts = append(w.parts, writingPart{p: p, key: e.Series})
		}
		q := &w.parts[at]
		q.index = append(q.index, i)
		if bytes.Compare(e.Series, q.key) < 0 {
			q.key = e.Series
		}
	}
	slices.SortFunc(w.parts, func(a, b writingPart) int { return cmp.Compare(a.p, b.p) })
}

// checkParked refuses a call with a series whose queue is nearly full. While nothing is
// parked it costs a look at each partition.
func (db *DB) checkParked(ctx context.Context, events []Event) error {
	parked := false
	for p := range wal.Partition(db.Stream.Info().Partitions) {
		n, _ := db.Owner.ParkedKeys(p)
		parked = parked || n > 0
	}
	for i := 0; parked && i < len(events); i++ {
		s := events[i].Series
		if err := db.QueueFull(ctx, db.Stream.PartitionOf(s), s); err != nil {
			return err
		}
	}
	return nil
}

// claim finds out which partitions have the call already.
func (w *writing) claim(ctx context.Context) error {
	asks := make([]consumers.Asking[TokenEntry], len(w.parts))
	for i := range w.parts {
		asks[i] = consumers.Asking[TokenEntry]{
			TokenAt: consumers.TokenAt{Partition: w.parts[i].p, ID: wal.CallIDOf(w.parts[i].key, w.tok.Nonce)}, Generated: w.tok.GenerationTime, Hash: w.hash,
		}
	}
	w.db.ClaimAll(ctx, asks, &w.opts.FrontOptions, true)
	var failed error
	for i := range asks {
		q, c := &w.parts[i], &asks[i].Claim
		switch {
		case asks[i].Err != nil:
			if failed == nil {
				failed, w.unknown = asks[i].Err, asks[i].Unknown
			}
			continue
		case c.Own != nil:
			q.own = c.Own
			continue
		}
		e := c.Known
		if r := c.First; r != nil { // it is in the log, and may be applied much later
			e = &TokenEntry{Offset: r.Offset, Time: r.Time, Refused: r.Note}
			w.unsure = w.unsure || w.db.Stream.Unsure(q.p, r)
		}
		w.known++
		w.first, w.judged = e.Time, true
		w.cover(q.p, e.Offset)
		var err error
		if w.refused, err = DecodeRefusals([]byte(e.Refused)); err != nil && failed == nil {
			failed = err
		}
	}
	w.unknown = failed != nil && (w.unknown || w.known > 0)
	return failed
}

// judge decides which events are left out, unless an earlier copy was told.
func (w *writing) judge(ctx context.Context) {
	if w.judged {
		return
	}
	now := w.db.Now().UnixMicro()
	for i := range w.parts {
		q := &w.parts[i]
		known, err := w.slices(ctx, q, now)
		for _, j := range q.index {
			e := &w.events[j]
			in, found := known.Of(e.Time)
			if !found || err != nil { // the applier judges by the slices as of the record
				in = known.New(e.Time, &w.opts.Settings)
			}
			if why := w.opts.judge(e.Series, e.Time, now, now, in, 0); why != 0 {
				w.refused = append(w.refused, Refusal{j, why})
			}
		}
	}
	slices.SortFunc(w.refused, func(a, b Refusal) int { return cmp.Compare(a.Index, b.Index) })
}

// slicesTimeout bounds how long a write waits to hear of slices.
const slicesTimeout = 300 * time.Millisecond

// slices are those of a part's partition, as far as they are needed: an event that is younger than
// close_after is in no closed slice, whatever its slice.
func (w *writing) slices(ctx context.Context, q *writingPart, now int64) (Slices, error) {
	old := func(j int) bool { return w.events[j].Time <= now-w.opts.CloseAfter.Microseconds() }
	if w.opts.CloseAfter <= 0 || !slices.ContainsFunc(q.index, old) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, slicesTimeout)
	defer cancel()
	return w.db.cfg.Owner.Slices(ctx, q.p)
}

// accepted is how many events are not left out.
func (w *writing) accepted() int { return len(w.events) - len(w.refused) }

// records makes a record for each partition that lacks the call and has something of it.
func (w *writing) records() {
	left := make(map[int]bool, len(w.refused))
	for _, r := range w.refused {
		left[r.Index] = true
	}
	refused := AppendRefusals(nil, w.refused)
	accepted := w.db.Now().UnixMicro()
	for i := range w.parts {
		q := &w.parts[i]
		if w.judged && q.own == nil {
			continue
		}
		payload, n := appendWrite(nil, refused), 0
		for _, j := range q.index {
			if !left[j] {
				payload = appendEvent(payload, &w.events[j])
				n++
			}
		}
		if n == 0 {
			if q.own != nil {
				w.db.Stream.Release(q.own, wal.ErrNotAppended)
				q.own = nil
			}
			continue
		}
		a := wal.Appending{Partition: q.p, Weight: n, Record: &wal.Record{
			Kind: wal.KindTimeSeries, RoutingKey: q.key, Token: w.tok, RequestHash: w.hash, NamespaceVersion: w.opts.Version, AcceptedAt: accepted, Payload: payload,
		}}
		if q.own != nil {
			q.own.Note = string(refused)
			a.Reservations, q.own = []*wal.Reservation{q.own}, nil
		}
		w.as = append(w.as, a)
	}
}

// failed gives up what is reserved.
func (w *writing) failed(err error) Result {
	for i := range w.parts {
		if r := w.parts[i].own; r != nil {
			w.db.Stream.Release(r, err)
		}
	}
	return Result{Token: w.tok, Refused: w.refused, Err: err, Unknown: w.unknown}
}

// end is the result of what was appended.
func (w *writing) end() Result {
	res := Result{Token: w.tok, Refused: w.refused, Duplicate: len(w.as) == 0, Unsure: w.unsure}
	if w.made && w.first != 0 {
		res.Token.GenerationTime = w.first
	}
	taken := w.known
	for i := range w.as {
		for _, r := range w.as[i].Reservations {
			res.Unsure = res.Unsure || w.db.Stream.Unsure(w.as[i].Partition, r)
		}
		switch err := w.as[i].Err; {
		case err == nil:
			taken++
			w.cover(w.as[i].Partition, w.as[i].Offset)
		case res.Err == nil || errors.Is(err, wal.ErrUnknown):
			res.Err = err
		}
	}
	if res.Err != nil { // a part of the call may count: sending it again completes it
		res.Unknown = taken > 0 || errors.Is(res.Err, wal.ErrUnknown)
		return res
	}
	res.Position = w.at.String()
	return res
}

func (w *writing) cover(p wal.Partition, o wal.Offset) {
	if w.at.Offsets == nil {
		w.at.Offsets = make(map[wal.Partition]wal.Offset, len(w.parts))
	}
	w.at.Offsets[p] = max(o, w.at.Offsets[p])
}

// Delete deletes the events of a series that precede it in the log. It returns when that
// is durable. Errors as of Write.
func (db *DB) Delete(ctx context.Context, tok wal.Token, series []byte) (res Result) {
	opts := db.cfg.Options()
	made, err := db.Complete(&tok, &opts.FrontOptions)
	res.Token = tok
	p, hash, id := db.Stream.PartitionOf(series), hashOfDelete(series), wal.IDOf(series, tok.Nonce)
	if err == nil {
		err = db.QueueFullUnlessKnown(ctx, p, series, id, hash, &opts.FrontOptions)
	}
	if err != nil {
		res.Err = err
		return res
	}
	c, unknown, err := db.Claim(ctx, p, id, tok.GenerationTime, hash, &opts.FrontOptions, true)
	var o wal.Offset
	switch {
	case err != nil:
		res.Err, res.Unknown = err, unknown
		return res
	case c.First != nil:
		o, res.Duplicate, res.Unsure = c.First.Offset, true, db.Stream.Unsure(p, c.First)
		if made {
			res.Token.GenerationTime = c.First.Time
		}
	case c.Known != nil:
		o, res.Duplicate = c.Known.Offset, true
		if made {
			res.Token.GenerationTime = c.Known.Time
		}
	default:
		o, err = db.Stream.Append(ctx, p, &wal.Record{
			Kind: wal.KindTimeSeries, RoutingKey: series, Token: tok, RequestHash: hash, NamespaceVersion: opts.Version,
			AcceptedAt: db.Now().UnixMicro(), Payload: appendDelete(nil, series),
		}, c.Own)
		if err != nil {
			res.Err, res.Unknown = err, errors.Is(err, wal.ErrUnknown)
			return res
		}
		res.Unsure = db.Stream.Unsure(p, c.Own)
	}
	res.Position = db.Stream.Position(p, o)
	return res
}
