package wal

import (
	"sort"
	"sync"
	"time"
)

// Lag is how far the stores are behind the log in one partition.
type Lag struct {
	Bounds // as last known; see Log.LastBounds
	// BoundsAt is when the log was asked for them; see LogEnd.
	BoundsAt int64
	Applied  Offset
	// Records in the log that are not applied.
	Records int64
	// Time since the first of them was appended; 0 when there is none. Where this
	// process has not been able to read that record, it is the time since it has
	// known of it.
	Time time.Duration
}

// Lag tells how far the partition is behind, from what is known without asking
// the log. now is the log's clock, Broker.Now. Something must call it every few
// seconds: what nobody looks for is known of from the next call on.
func (s *Stream) Lag(p Partition, now time.Time) Lag { return s.LagOf(s.cfg.Progress, p, now) }

// LagOf is Lag of one store, whose progress is g.
func (s *Stream) LagOf(g *Progress, p Partition, now time.Time) Lag {
	// Applied first: what is appended while this runs makes the lag larger, not negative.
	l := Lag{Applied: g.Applied(p)}
	l.Bounds, l.BoundsAt = s.cfg.Log.LastBounds(p)
	l.End = max(l.End, s.cfg.Progress.Acked(p)+1, l.Applied+1)
	if l.Records = int64(l.End - 1 - l.Applied); l.Records > 0 {
		l.Time = max(0, now.Sub(time.UnixMicro(g.parts[p].pending.since(l.Applied, now.UnixMicro()))))
	} else {
		g.parts[p].pending.forget()
	}
	return l
}

// pending is when the oldest record of a partition that is not applied was
// appended, as far as this process knows. Safe for concurrent use.
type pending struct {
	mu sync.Mutex // guards what follows
	// inHand are the records that the runner has read and not applied yet.
	inHand []Entry
	// next is the first of them once they are given up: it is read again.
	next, nextTime int64
	// noticed is when a record above noticedAt was first known to be there.
	noticedAt Offset
	noticed   int64 // 0: none
}

// since is the append time of the record after applied, which is known to be in
// the log: microseconds since 1970.
func (w *pending) since(applied Offset, now int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t, ok := w.oldest(applied); ok {
		return t
	}
	if w.noticed == 0 || w.noticedAt != applied {
		w.noticedAt, w.noticed = applied, now
	}
	return w.noticed
}

// oldest is the append time of the record after applied, where it has been read.
func (w *pending) oldest(applied Offset) (int64, bool) {
	i := sort.Search(len(w.inHand), func(i int) bool { return w.inHand[i].Offset > applied })
	switch {
	case i < len(w.inHand):
		return w.inHand[i].LogTime, true
	case w.nextTime > 0 && w.next > int64(applied):
		return w.nextTime, true
	}
	return 0, false
}

func (w *pending) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noticed = 0
}

func (w *pending) hold(entries []Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inHand = entries
}

func (w *pending) release(applied Offset) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next, w.nextTime = 0, 0
	if i := sort.Search(len(w.inHand), func(i int) bool { return w.inHand[i].Offset > applied }); i < len(w.inHand) {
		w.next, w.nextTime = int64(w.inHand[i].Offset), w.inHand[i].LogTime
	}
	w.inHand = nil
}

// Hold notes the entries that the runner has read and is about to apply. It keeps
// them until Release, which must be called while they are valid.
func (g *Progress) Hold(p Partition, entries []Entry) { g.parts[p].pending.hold(entries) }

// Release ends Hold: the entries are applied, or given up to be read again.
func (g *Progress) Release(p Partition) { g.parts[p].pending.release(g.Applied(p)) }
