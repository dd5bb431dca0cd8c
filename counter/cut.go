package counter

import (
	"time"

	"github.com/headwater-db/headwater/wal"
)

// changed reports whether there is anything that a flush would write.
func (r *Rollup) changed(saved wal.Offset) bool { return r.state.Applied > saved || len(r.dirty) > 0 }

// full reports whether so much has changed that it should be flushed now. The
// numbers bound what a flush writes at once, and what waits in memory for it.
func (r *Rollup) full(counters, eventBytes int) bool {
	return len(r.dirty) >= counters || len(r.events.buf) >= eventBytes || len(r.buckets) >= 1<<17 ||
		len(r.pending.tokens) >= 1<<17 || len(r.pending.reservations) >= 1<<16 ||
		len(r.exceptions.buf) >= 4<<20 || len(r.parked) >= 1<<16
}

// fill writes what has changed since the last cut into a batch, but for the events.
// It changes nothing that readers look at; see cut.
func (r *Rollup) fill(b Batch) {
	shares, _ := b.(SharedBatch)
	for _, h := range r.dirty {
		if h.gone {
			b.DropCounter([]byte(h.name))
		} else {
			b.SaveCounter([]byte(h.name), &h.row)
		}
	}
	for k, v := range r.buckets {
		size := time.Duration(r.windows[k.index]) * time.Microsecond
		b.AddWindow(k.id, size, k.start, v)
		if shares != nil {
			shares.ShareWindow(k.id, size, k.start, k.at, v)
		}
	}
	for _, x := range r.retired {
		b.Retire(x.id, x.at)
	}
	for n := range r.pending.tokens {
		e := r.pending.tokens[n]
		b.SaveToken(&e)
	}
	for id := range r.pending.reservations {
		v := r.pending.reservations[id]
		b.SaveReservation(&v)
	}
	for i := range r.parked {
		b.SaveParked(&r.parked[i])
	}
	for _, s := range r.exceptions.rows {
		b.SaveException(s.offset, r.exceptions.buf[s.start:s.end])
	}
	if r.trim > 0 {
		b.TrimExceptions(r.trim)
	}
}

// fillEvents writes the events since the last cut into a batch.
func (r *Rollup) fillEvents(b Batch) {
	for _, s := range r.events.rows {
		b.SaveEvents(s.offset, r.events.buf[s.start:s.end])
	}
}

// takeEvents are the events since the last cut, with the names of their counters: each is of a
// life that a counter which has changed has, or had.
func (r *Rollup) takeEvents() *EventBlock {
	b := &EventBlock{rows: r.events, names: make(map[uint64]string, len(r.dirty)+len(r.retired))}
	for _, h := range r.dirty {
		b.names[h.row.ID] = h.name
	}
	for _, x := range r.retired {
		b.names[x.id] = x.name
	}
	r.events = rowLog{}
	return b
}

// cut begins anew after fill: what was filled in is on its way to the store, and
// readers still find it here until landed.
func (r *Rollup) cut() State {
	for i, h := range r.dirty {
		h.dirty = false
		r.dirty[i] = nil
	}
	r.dirty = r.dirty[:0]
	if len(r.buckets) > 0 {
		r.buckets = make(map[windowKey]Bucket)
	}
	r.events.buf, r.events.rows = r.events.buf[:0], r.events.rows[:0]
	r.retired = r.retired[:0]
	r.exceptions.buf, r.exceptions.rows, r.trim = r.exceptions.buf[:0], r.exceptions.rows[:0], 0
	clear(r.parked)
	r.parked = r.parked[:0]
	r.flying, r.pending = r.pending, newDecisions()
	return r.state
}

// landed notes that the last cut is in the store.
func (r *Rollup) landed() { r.flying = decisions{} }

// evict forgets up to n counters that are as the store has them and were not
// touched lately, while the rest takes more than limit bytes. Nothing may be on
// its way to the store.
func (r *Rollup) evict(limit int64, n int) {
	for ; n > 0 && r.hotBytes > limit && len(r.hand) > 0; n-- {
		h := r.hand[0]
		r.hand[0] = nil
		r.hand = r.hand[1:]
		if h.used || h.dirty {
			h.used = false
			r.hand = append(r.hand, h)
			continue
		}
		r.hot.remove(h)
		r.hotBytes -= r.bytesOf(h)
	}
}

// drop marks a counter that has expired at log time t, and holds nothing, as
// gone, so that the next flush frees its row.
func (r *Rollup) drop(h *hot, t int64) bool {
	if h.row.alive(t) || h.row.Held != 0 || h.row.ID == 0 && !r.shared {
		return false
	}
	if h.row.ID != 0 {
		r.retired = append(r.retired, retiredID{h.row.ID, h.name, r.state.Applied})
	}
	h.row = Row{LastEvent: wal.NoOffset, Open: h.row.Open, LastOffset: h.row.LastOffset}
	r.row.Offset = r.state.Applied
	r.mark(h)
	h.gone = true
	return true
}

// look returns what a reader sees of a counter at time t: what has expired by
// then is gone, whether a record has said so or not.
func (r *Rollup) look(row *Row, name []byte, t int64) (value, held int64) {
	t = max(t, r.state.LogTime)
	value, held = row.value(t), row.Held
	if held != 0 {
		held -= r.leases.overdue(string(name), t)
	}
	return value, held
}
