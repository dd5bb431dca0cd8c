package counter

import (
	"math"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Rollup is what is known of one partition in memory: the counters that were
// touched lately, and everything that was decided since the last flush. It is a
// pure type: calls and a time in, changes out; no I/O, no goroutine, no clock.
//
// Whoever uses it loads every counter that a call names before it applies
// the call, and looks into the store for tokens and reservations that it does
// not know. Methods that say so may be called by readers while one goroutine
// uses the rest; see Applier for the locking.
type Rollup struct {
	windows []int64 // sizes in microseconds, smallest first
	state   State

	hot      table
	hotBytes int64
	hand     []*hot // counters by age, for eviction

	dirty   []*hot
	pending decisions // since the last cut
	flying  decisions // cut, and not yet in the store
	events  rowLog
	// exceptions of the records since the last cut, and below which offset older
	// ones are to be removed.
	exceptions rowLog
	trim       wal.Offset
	buckets    map[windowKey]Bucket
	retired    []retiredID
	parked     []consumers.ParkedChange

	leases leases
	row    EventRow // of the record in hand
	// shared: rows may have been written by another process, and be above the record in hand; see SharedStore.
	shared bool
	// coveredTo is up to which record all rows, and those that are missing, have everything.
	coveredTo wal.Offset
	// expiring: a counter got a time to live since the sweep began its round.
	expiring bool
}

// decisions are what tokens did and what became of reservations.
type decisions struct {
	tokens       map[wal.TokenID]TokenEntry
	reservations map[wal.TokenID]Reservation
}

func newDecisions() decisions {
	return decisions{tokens: make(map[wal.TokenID]TokenEntry), reservations: make(map[wal.TokenID]Reservation)}
}

// hot is a counter in memory. A row with ID 0 is that of a counter that does not
// exist.
type hot struct {
	name  string
	row   Row
	dirty bool
	gone  bool // the row is to be dropped
	used  bool // since the eviction hand last passed
	// covers is up to which record the row, as it was loaded, has everything: of another process's row that is more
	// than what this one has applied.
	covers wal.Offset
	// open is where row.Open lies, so that an add finds it beside the value.
	open [maxWindows]OpenBucket
}

// maxWindows is how many windows a namespace may keep.
const maxWindows = 4

type retiredID struct {
	id   uint64
	name string
	at   wal.Offset
}

type windowKey struct {
	id    uint64
	start int64
	index uint8 // of the window
	// at is the record that added it, where the store is shared; else 0.
	at wal.Offset
}

// rowLog is rows since the last cut, one after the other.
type rowLog struct {
	buf  []byte
	rows []span
}

type span struct {
	offset     wal.Offset
	start, end int
}

// NewRollup starts a partition at what its store has saved.
func NewRollup(windows []time.Duration, s State) *Rollup {
	r := &Rollup{
		state: s, hot: newTable(), pending: newDecisions(), flying: newDecisions(), coveredTo: wal.NoOffset,
		buckets: make(map[windowKey]Bucket), leases: newLeases(),
	}
	for _, w := range windows {
		r.windows = append(r.windows, w.Microseconds())
	}
	return r
}

// State is how far the partition is applied. Readers may call it.
func (r *Rollup) State() State { return r.state }

// find returns a counter that is in memory, or nil. Readers may call it.
func (r *Rollup) find(name []byte) *hot { return r.hot.get(name) }

// hotOverhead is what a counter takes in memory beyond its name: itself, its
// place in the table and in the hand.
const hotOverhead = 400

// load takes a counter from the store into memory; found false is one that the
// store does not have.
func (r *Rollup) load(name []byte, row Row, found bool) *hot {
	if h := r.find(name); h != nil {
		return h
	}
	h := &hot{name: string(name), used: true}
	if found {
		h.row = row
		h.row.Open = h.open[:len(r.windows)]
		copy(h.row.Open, row.Open)
	} else {
		h.row.LastOffset, h.row.LastEvent = wal.NoOffset, wal.NoOffset
	}
	h.covers = h.row.LastOffset
	if r.shared { // which of them are held is known here, and not as of which record the row says so
		h.row.Held = r.leases.sums[h.name]
	}
	r.hot.put(h)
	r.hand = append(r.hand, h)
	r.hotBytes += r.bytesOf(h)
	return h
}

func (r *Rollup) bytesOf(h *hot) int64 { return int64(hotOverhead + len(h.name)) }

// token returns what a token did, as far as it is not in the store yet. Readers
// may call it.
func (r *Rollup) token(n wal.TokenID) (TokenEntry, bool) {
	if e, ok := r.pending.tokens[n]; ok {
		return e, true
	}
	e, ok := r.flying.tokens[n]
	return e, ok
}

// reservation returns a reservation that is held, or that ended and is not in
// the store yet. Readers may call it.
func (r *Rollup) reservation(id wal.TokenID) (Reservation, bool) {
	if v, ok := r.leases.held[id]; ok {
		return *v, true
	}
	if v, ok := r.pending.reservations[id]; ok {
		return v, true
	}
	v, ok := r.flying.reservations[id]
	return v, ok
}

// begin starts the event row of the record at o. A redriven record has the row of
// the control record that asked for it, so that rows are in the order of
// their decisions.
func (r *Rollup) begin(o wal.Offset, logTime, acceptedAt int64, nonce wal.Nonce) {
	r.row = EventRow{Offset: o, LogTime: logTime, AcceptedAt: acceptedAt, Nonce: nonce}
}

// move notes that the record in hand is done and the partition stands at st.
func (r *Rollup) move(st *consumers.State) {
	r.state.State = *st
	if n := len(r.events.rows); n > 0 && r.events.rows[n-1].offset == r.row.Offset {
		r.events.rows[n-1].end = len(r.events.buf)
	}
}

// except keeps the exceptions of the record at o for the next cut.
func (r *Rollup) except(o wal.Offset, row []byte) {
	start := len(r.exceptions.buf)
	r.exceptions.buf = append(r.exceptions.buf, row...)
	r.exceptions.rows = append(r.exceptions.rows, span{offset: o, start: start, end: len(r.exceptions.buf)})
}

// covered reports whether the row of a counter has what the record in hand does to its value.
func (r *Rollup) covered(h *hot) bool { return r.row.Offset <= max(h.covers, r.coveredTo) }

// alive reports whether a counter exists at log time t.
func (row *Row) alive(t int64) bool {
	return row.ID != 0 && (row.ExpiresAt == 0 || row.ExpiresAt > t)
}

// at is when and under which rules something is decided.
type at struct {
	offset     wal.Offset // of the record, which the answer names
	index      int        // of the call in the record
	logTime    int64
	acceptedAt int64
	settings   *Settings
}

// life names the life of a counter that begins here, after the position of the add
// that begins it: a record has fewer calls than 1<<14. Never 0.
func (at *at) life() uint64 { return uint64(at.offset+1)<<14 | uint64(at.index) }

// judgeAdd decides a delta: what of it is to be added, and why not all.
func (r *Rollup) judgeAdd(h *hot, a *Add, b *Bounds, at *at) (out Outcome, delta int64, v Violation) {
	value := h.row.value(at.logTime)
	delta = a.Delta
	sum := value + delta
	if over := (delta > 0 && sum < value) || (delta < 0 && sum > value); over || b.any() || at.settings.Bounds.any() {
		if delta, v = bounded(value, delta, b, &at.settings.Bounds); v != NoViolation && delta == 0 && a.Delta != 0 {
			return Rejected, 0, v
		}
		if over && v == NoViolation {
			return Overflow, 0, NoViolation
		}
	}
	return Applied, delta, v
}

// added adds what was decided of an add.
func (r *Rollup) added(h *hot, a *Add, delta int64, at *at) {
	if r.covered(h) {
		return
	}
	r.touch(h, at, a.TTL)
	h.row.Value += delta
	eventTime := a.EventTime
	if eventTime == 0 {
		eventTime = at.acceptedAt
	}
	r.event(h, EventAdd, delta, eventTime)
	r.window(h, delta, eventTime)
}

// decide settles what a call that answers a count does: the outcome and the
// answer but for the value after it. v is the reservation that it names, nil where
// there is none.
func (r *Rollup) decide(h *hot, v *Reservation, c *Call, at *at, e *TokenEntry) {
	switch c.Op {
	case OpAddAndGet:
		e.Outcome, e.AppliedDelta, e.Violation = r.judgeAdd(h, &c.Add, &c.Bounds, at)
	case OpReserve:
		r.judgeReserve(h, c.Amount, c.Lease.Microseconds(), at, e)
	case OpSettle:
		r.judgeSettle(h, v, c.Amount, c.All, at, e)
	case OpCancel:
		r.judgeCancel(h, v, e)
	case OpClear, OpAdd:
	}
}

// effect does what was decided of a call, by its entry.
func (r *Rollup) effect(h *hot, v *Reservation, c *Call, at *at, e *TokenEntry) {
	switch c.Op {
	case OpAddAndGet:
		r.added(h, &c.Add, e.AppliedDelta, at)
	case OpReserve:
		r.held(h, &Reservation{ID: e.ID, Counter: []byte(h.name), Amount: c.Amount, ExpiresAt: e.ExpiresAt, State: Held}, at)
	case OpSettle:
		r.settled(h, c.Reservation, -e.AppliedDelta, at)
	case OpCancel:
		if v == nil || v.State == Held {
			r.end(h, c.Reservation, Cancelled, at.logTime)
			r.mark(h)
		}
	case OpClear:
		r.clear(h, at)
	case OpAdd:
	}
}

func (b *Bounds) any() bool { return b != nil && (b.HasFloor || b.HasCeiling) }

// bounded judges an add by the call's bounds and the namespace's, the tighter one
// first; one that rejects goes before one that saturates. The delta is 0 when
// the add is rejected, or saturated away.
func bounded(value, delta int64, call, standing *Bounds) (int64, Violation) {
	v := NoViolation
	for _, b := range []*Bounds{call, standing} {
		if b == nil {
			continue
		}
		// A sum beyond int64 is beyond every bound on that side. The room may be
		// larger than int64: then no delta of int64 fills it.
		switch {
		case delta > 0 && b.HasCeiling:
			room := b.Ceiling - value
			if b.Ceiling <= value {
				room = 0
			} else if room < 0 {
				room = math.MaxInt64
			}
			if delta > room {
				v = AtCeiling
				if delta = room; !b.Saturate {
					return 0, v
				}
			}
		case delta < 0 && b.HasFloor:
			room := b.Floor - value // negative: how far down it may go
			if b.Floor >= value {
				room = 0
			} else if room > 0 {
				room = math.MinInt64
			}
			if delta < room {
				v = AtFloor
				if delta = room; !b.Saturate {
					return 0, v
				}
			}
		}
	}
	return delta, v
}

// touch makes the counter exist and notes that the record in hand changes it.
// ttl is of the add that may create it.
func (r *Rollup) touch(h *hot, at *at, ttl int64) {
	row := &h.row
	if !row.alive(at.logTime) {
		if row.ID != 0 {
			r.retired = append(r.retired, retiredID{row.ID, h.name, r.row.Offset})
		}
		*row = Row{ID: at.life(), Held: row.Held, LastEvent: wal.NoOffset, Open: h.open[:len(r.windows)]}
		clear(row.Open)
		if ttl > 0 {
			row.ExpiresAt, row.Fixed = later(at.logTime, ttl), true
			r.state.Expiring, r.expiring = true, true
		}
	}
	if idle := at.settings.TTL.Microseconds(); idle > 0 && !row.Fixed {
		row.ExpiresAt = max(row.ExpiresAt, later(at.logTime, idle))
		r.state.Expiring, r.expiring = true, true
	} else if !row.Fixed {
		row.ExpiresAt = 0 // the namespace's rule was lifted
	}
	r.mark(h)
}

// later is t+d, held at the end of int64.
func later(t, d int64) int64 {
	if s := t + d; s >= t {
		return s
	}
	return math.MaxInt64
}

func (r *Rollup) mark(h *hot) {
	h.row.LastOffset = max(h.row.LastOffset, r.row.Offset)
	h.used, h.gone = true, false
	if !h.dirty {
		h.dirty = true
		r.dirty = append(r.dirty, h)
	}
}

// event writes a decided delta into the row of the record in hand.
func (r *Rollup) event(h *hot, kind EventKind, delta, eventTime int64) {
	n := len(r.events.rows)
	if n == 0 || r.events.rows[n-1].offset != r.row.Offset {
		start := len(r.events.buf)
		r.events.buf = appendEventHead(r.events.buf, &r.row)
		r.events.rows = append(r.events.rows, span{offset: r.row.Offset, start: start})
	}
	e := Event{ID: h.row.ID, Kind: kind, Prev: h.row.LastEvent, Delta: delta, Time: eventTime}
	r.events.buf = appendEvent(r.events.buf, &r.row, &e)
	h.row.LastEvent = r.row.Offset
}

// window adds a delta to the kept windows. The bucket that the last adds fell
// into is part of the row; an older or a finished one is a change of its own.
func (r *Rollup) window(h *hot, delta, t int64) {
	for i, size := range r.windows {
		o := &h.row.Open[i]
		if o.Adds != 0 && t >= o.Start && t-o.Start < size {
			o.Add(delta)
			continue
		}
		start := floor(t, size)
		switch {
		case o.Adds == 0:
			o.Start = start
			o.Add(delta)
		case start > o.Start:
			r.bucket(windowKey{id: h.row.ID, start: o.Start, index: uint8(i)}, o.Bucket)
			*o = OpenBucket{Start: start}
			o.Add(delta)
		default:
			var b Bucket
			b.Add(delta)
			r.bucket(windowKey{id: h.row.ID, start: start, index: uint8(i)}, b)
		}
	}
}

func (r *Rollup) bucket(k windowKey, b Bucket) {
	if r.shared {
		k.at = r.row.Offset
	}
	sum := r.buckets[k]
	sum.Merge(b)
	r.buckets[k] = sum
}

// floor is the largest multiple of size at or below t.
func floor(t, size int64) int64 {
	m := t % size
	if m < 0 {
		m += size
	}
	return t - m
}

// clear sets a counter to 0.
func (r *Rollup) clear(h *hot, at *at) {
	if r.covered(h) || !h.row.alive(at.logTime) {
		return
	}
	r.touch(h, at, 0)
	h.row.Value = 0
	r.event(h, EventClear, 0, at.acceptedAt)
}

// saveToken remembers what a token did.
func (r *Rollup) saveToken(e *TokenEntry) {
	r.pending.tokens[e.ID] = *e
}
