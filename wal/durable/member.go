package durable

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// member is one consumer in one partition.
type member struct {
	pt   *part
	name string

	mu sync.Mutex // guards what follows
	state
	open     []*item // by offset; those that are done are left out now and then
	at       map[wal.Offset]*item
	keys     map[string]int // open records of a key
	inFlight int
	later    int                  // open records that are not due yet, as of when they were looked at
	lease    int64                // of the last handing-out; it begins anywhere, so that those of two processes differ
	firstEnd int64                // no lease ends before
	ended    map[wal.Offset]int64 // by what lease records were done, of some that were last
	told     int64                // of Missed
	given    []GivenUp            // whose letters are to be written
	dead     map[wal.Offset]int   // given up, with their attempts
	version  uint64               // rises with each change that is to be kept
	saved    uint64
	changed  chan struct{} // closed when there may be more to fetch
	reading  reading
	used     time.Time
}

// item is an open record.
type item struct {
	opened
	key    string
	known  bool // its key is
	leased bool
	lease  int64 // of its last handing-out; 0: before this process
	wait   time.Duration
	until  int64 // leased: up to then; else it is not handed out before. Microseconds since 1970.
	// due is when it takes its turn: when it was appended, or, of one that was written for later, when that is. Until then
	// it holds no other. Microseconds since 1970.
	due     int64
	delayed bool // due is another time than that of its append
	counted bool // it is in member.keys
	done    bool
}

// waits reports whether it is not due yet.
func (x *item) waits(now int64) bool { return x.delayed && x.due > now && !x.counted }

func newMember(pt *part, s *state, open []opened) *member {
	m := &member{
		pt: pt, name: s.Name, state: *s, at: make(map[wal.Offset]*item), keys: make(map[string]int),
		ended: make(map[wal.Offset]int64), changed: make(chan struct{}), lease: 1 + rand.Int64N(1<<60), told: s.Missed, used: time.Now(),
	}
	for _, o := range open {
		x := &item{opened: o}
		m.open, m.at[o.offset] = append(m.open, x), x
	}
	dead, err := decodeOpen(s.Dead, s.Next)
	if err != nil { // it was read before
		dead = nil
	}
	m.dead = make(map[wal.Offset]int, len(dead))
	for _, o := range dead {
		m.dead[o.offset] = o.attempts
	}
	return m
}

// touch notes a change that is to be kept. The member is locked.
func (m *member) touch() { m.version++ }

// wake has those that wait look again. The member is locked.
func (m *member) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// add opens a record. The member is locked.
func (m *member) add(x *item) {
	i, _ := slices.BinarySearchFunc(m.open, x.offset, func(y *item, o wal.Offset) int { return int(y.offset - o) })
	m.open = slices.Insert(m.open, i, x)
	m.at[x.offset] = x
	if x.waits(m.pt.now()) {
		m.later++
	} else {
		m.count(x)
	}
	m.touch()
}

// count has a record hold those of its key behind it. The member is locked.
func (m *member) count(x *item) {
	if !x.counted {
		x.counted = true
		m.keys[x.key]++
	}
}

// finish ends a record. The member is locked.
func (m *member) finish(x *item) {
	x.done = true
	delete(m.at, x.offset)
	if x.leased {
		m.inFlight--
	}
	if x.counted {
		if m.keys[x.key]--; m.keys[x.key] <= 0 {
			delete(m.keys, x.key)
		}
	}
	if len(m.ended) >= MaxOpen {
		clear(m.ended)
	}
	m.ended[x.offset] = x.lease
	if len(m.open) > 2*len(m.at)+64 {
		m.open = slices.DeleteFunc(m.open, func(x *item) bool { return x.done })
	}
	m.touch()
}

// giveUp ends a record that was not processed. The member is locked.
func (m *member) giveUp(x *item, why string) {
	m.Letter = max(m.Letter+1, m.pt.l.cfg.Progress.Applied(m.pt.p), x.offset)
	m.given = append(m.given, GivenUp{Consumer: m.name, Offset: x.offset, Key: []byte(x.key), Attempts: x.attempts, Why: why, Place: m.Letter})
	m.GivenUp++
	m.finish(x)
	if m.dead[x.offset] = x.attempts; len(m.dead) > MaxDead {
		delete(m.dead, slices.Min(slices.Collect(maps.Keys(m.dead))))
	}
}

// revive opens a record that was given up, or forgets it. The member is locked.
func (m *member) revive(ctx context.Context, o wal.Offset, drop bool, by string) (was bool, err error) {
	attempts, was := m.dead[o]
	if !was {
		return false, nil
	}
	x := &item{opened: opened{offset: o, again: true}}
	if err := m.learnOne(ctx, x); err != nil && !(drop && errors.Is(err, wal.ErrTrimmed)) {
		return false, err
	}
	delete(m.dead, o)
	m.Letter = max(m.Letter+1, m.pt.l.cfg.Progress.Applied(m.pt.p), o)
	g := GivenUp{Consumer: m.name, Offset: o, Key: []byte(x.key), Attempts: attempts, Place: m.Letter, Now: Revived, By: by}
	if drop {
		g.Now = Forgotten
	} else {
		delete(m.ended, o)
		m.add(x)
	}
	m.given = append(m.given, g)
	m.touch()
	m.wake()
	return true, nil
}

// release has a record handed out again, from a time on. The member is locked.
func (m *member) release(x *item, from int64) {
	x.leased, x.until = false, from
	m.inFlight--
	if x.attempts > 0 && m.behind(x) { // it may never have been looked at
		x.attempts--
	}
	if most := m.Settings.MaxAttempts; most > 0 && x.attempts >= most {
		m.giveUp(x, fmt.Sprintf("it was handed out %d times", x.attempts))
	}
	m.touch()
}

// behind reports whether a record of the key is open that takes its turn before x. The member is locked.
func (m *member) behind(x *item) bool {
	if m.keys[x.key] < 2 {
		return false
	}
	return slices.ContainsFunc(m.open, func(y *item) bool {
		return y != x && y.key == x.key && !y.done && y.counted && (y.due < x.due || y.due == x.due && y.offset < x.offset)
	})
}

// expire takes records back whose time is over. The member is locked.
func (m *member) expire(now int64) {
	if m.inFlight == 0 || now < m.firstEnd {
		return
	}
	m.firstEnd = math.MaxInt64
	for _, x := range slices.Clone(m.open) {
		switch {
		case x.done || !x.leased:
		case x.until <= now:
			m.release(x, 0)
		default:
			m.firstEnd = min(m.firstEnd, x.until)
		}
	}
}

// ack takes what a caller says. The member is locked.
func (m *member) ack(acks []Ack) (expired []int) {
	now := m.pt.now()
	for i := range acks {
		a := &acks[i]
		x := m.at[a.Offset]
		switch {
		case a.Life == m.Life && x == nil && m.ended[a.Offset] == a.Lease && a.Lease != 0: // it was told already
			continue
		case a.Life != m.Life || x == nil || a.Until <= now && !(x.leased && x.lease == a.Lease),
			x.leased && (x.lease != a.Lease || x.until <= now), !x.leased && x.lease != 0:
			expired = append(expired, i)
			continue
		}
		if !x.leased { // handed out by another process, or by this one before it was started again
			x.leased, x.lease, x.wait = true, a.Lease, m.Settings.AckWait
			m.count(x)
			x.until, m.firstEnd = a.Until, min(m.firstEnd, a.Until)
			m.inFlight++
		}
		switch a.Kind {
		case Done:
			m.finish(x)
		case Term:
			m.giveUp(x, "the consumer has refused it")
		case Nak:
			m.release(x, now+a.Delay.Microseconds())
		case Progress:
			if a.Delay == 0 {
				a.Delay = x.wait
			}
			x.until = now + a.Delay.Microseconds()
			m.firstEnd = min(m.firstEnd, x.until)
		}
	}
	m.wake()
	return expired
}

// fetch hands out what can be had. The member is locked.
func (m *member) fetch(ctx context.Context, f *Fetch) (out Fetched, err error) {
	now := m.pt.now()
	m.used = time.Now()
	m.expire(now)
	room := min(f.Limit, m.Settings.MaxInFlight-m.inFlight)
	defer func() {
		out.Life, out.InFlight, out.MaxInFlight = m.Life, m.inFlight, m.Settings.MaxInFlight
		if f.Limit > 0 {
			out.Missed, m.told = m.Missed-m.told, m.Missed
		}
	}()
	if room <= 0 {
		return out, nil
	}
	if err := m.learn(ctx); err != nil {
		return out, err
	}
	h := &handing{m: m, f: f, now: now, room: room, taken: make(map[string]int), out: &out}
	full, err := h.again(ctx)
	if err == nil && !full {
		err = h.fresh(ctx)
	}
	if len(out.Messages) > 0 { // they are the caller's, and what stands in the way is met again by the next fetch
		err = nil
	}
	return out, err
}

// handing is one fetch.
type handing struct {
	m     *member
	f     *Fetch
	now   int64
	room  int
	bytes int
	taken map[string]int // open records of a key that this fetch hands out
	out   *Fetched
}

// full reports whether a record of a size does not fit.
func (h *handing) full(size int) bool {
	return len(h.out.Messages) >= h.room || (h.f.Strict || len(h.out.Messages) > 0) && h.bytes+size > h.f.Bytes
}

// give hands a record out.
func (h *handing) give(x *item, e *wal.Entry, v *Verdict) {
	m := h.m
	m.lease++
	m.count(x)
	x.attempts++
	x.leased, x.lease, x.wait = true, m.lease, h.f.AckWait
	if x.wait == 0 {
		x.wait = m.Settings.AckWait
	}
	x.until = h.now + x.wait.Microseconds()
	m.firstEnd = min(m.firstEnd, x.until)
	m.inFlight++
	h.taken[x.key]++
	h.bytes += len(e.Data)
	h.out.Messages = append(h.out.Messages, Message{
		Offset: e.Offset, LogTime: e.LogTime, Record: bytes.Clone(e.Data), Attempt: x.attempts, Lease: x.lease, Until: x.until, Verdict: *v,
	})
	m.touch()
}

// again hands out what is open already; full says that there was more.
func (h *handing) again(ctx context.Context) (full bool, err error) {
	m, held := h.m, make(map[string]bool)
	if len(m.at) == m.inFlight {
		return false, nil
	}
	m.due(h.now)
	var want []*item
	for _, x := range m.turns() {
		switch {
		case x.done || x.waits(h.now):
		case x.leased || x.until > h.now || held[x.key]:
			held[x.key] = true
		case len(want) == h.room:
			full = true
		default:
			want = append(want, x)
		}
		if full {
			break
		}
	}
	err = m.readAny(ctx, want, func(x *item, e *wal.Entry, v *Verdict) bool {
		switch {
		case v != nil && h.full(len(e.Data)):
			full = true
			return false
		case v == nil: // it is gone
			m.Missed++
			m.finish(x)
		case v.Skip, v.Outcome != Applied && !x.again && !h.f.Refused:
			m.finish(x)
		default:
			if x.again && v.Outcome != Applied { // what was redriven has had its effect
				v = &Verdict{}
			}
			h.give(x, e, v)
		}
		return true
	})
	return full, err
}

// fresh hands out what was not read before.
func (h *handing) fresh(ctx context.Context) error {
	m, pt := h.m, h.m.pt
	applied := pt.l.cfg.Progress.Applied(pt.p)
	for m.Next <= applied && len(h.out.Messages) < h.room && m.roomToOpen() > 0 {
		entries, vs, err := m.pull(ctx, applied, min(h.room-len(h.out.Messages), m.roomToOpen()))
		if err != nil {
			return err
		}
		for i := range entries {
			e, v := &entries[i], &vs[i]
			if err := m.redriven(ctx, v.Also); err != nil {
				return err
			}
			if v.Skip || v.Outcome != Applied && !h.f.Refused {
				m.passed(e)
				continue
			}
			key, err := wal.RoutingKeyOf(e.Data)
			if err != nil {
				return &wal.CorruptError{Topic: pt.l.cfg.Log.Info().Name, Partition: pt.p, Offset: e.Offset, Detail: err.Error()}
			}
			x := &item{opened: opened{offset: e.Offset}, key: string(key), known: true}
			x.takesTurn(e, v)
			waits := m.keys[x.key] > h.taken[x.key] || x.waits(h.now)
			if !waits && h.full(len(e.Data)) {
				return nil
			}
			m.add(x)
			m.passed(e)
			if !waits {
				h.give(x, e, v)
			}
		}
	}
	return nil
}

// takesTurn notes when it is due.
func (x *item) takesTurn(e *wal.Entry, v *Verdict) {
	x.due, x.delayed = e.LogTime, v.Due > e.LogTime
	if x.delayed {
		x.due = v.Due
	}
}

// roomToOpen is how many more records may be opened.
func (m *member) roomToOpen() int { return min(MaxOpen-(len(m.at)-m.later), MaxLater-m.later) }

// due has records that have become due hold those of their key behind them.
func (m *member) due(now int64) {
	if m.later == 0 {
		return
	}
	m.later = 0
	for _, x := range m.open {
		switch {
		case x.done || !x.known:
		case x.waits(now):
			m.later++
		default:
			m.count(x)
		}
	}
}

// turns are the open records in the order in which those of a key are handed out: by when they were due, then by offset.
func (m *member) turns() []*item {
	if !slices.ContainsFunc(m.open, func(x *item) bool { return x.delayed && !x.done }) {
		return m.open
	}
	all := slices.Clone(m.open)
	slices.SortStableFunc(all, func(a, b *item) int { return cmp.Compare(a.due, b.due) })
	return all
}

// passed says that a record was looked at. The member is locked.
func (m *member) passed(e *wal.Entry) {
	m.Next = e.Offset + 1
	m.reading.took()
	m.touch()
}

// redriven opens records that had no effect when they were passed.
func (m *member) redriven(ctx context.Context, offsets []wal.Offset) error {
	for _, o := range offsets {
		if o >= m.Next || m.at[o] != nil {
			continue
		}
		x := &item{opened: opened{offset: o, again: true}}
		switch err := m.learnOne(ctx, x); {
		case errors.Is(err, wal.ErrTrimmed):
			m.Missed++
			continue
		case err != nil:
			return err
		}
		m.add(x)
	}
	return nil
}

// soon reports whether there is something to fetch now, and if not, when there will be, without more records: microseconds
// since 1970, 0: never.
func (m *member) soon() (now bool, at int64) {
	t := m.pt.now()
	m.expire(t)
	if m.inFlight >= m.Settings.MaxInFlight {
		return false, m.firstUntil(t)
	}
	if m.Next <= m.pt.l.cfg.Progress.Applied(m.pt.p) && m.roomToOpen() > 0 {
		return true, 0
	}
	if len(m.at) == m.inFlight {
		return false, m.firstUntil(t)
	}
	held := make(map[string]bool)
	for _, x := range m.turns() {
		switch {
		case x.done || x.waits(t):
		case !x.known:
			return true, 0
		case x.leased || x.until > t || held[x.key]:
			held[x.key] = true
		default:
			return true, 0
		}
	}
	return false, m.firstUntil(t)
}

// firstUntil is when the first lease or delay ends.
func (m *member) firstUntil(now int64) (first int64) {
	for _, x := range m.open {
		at := x.until
		if x.waits(now) {
			at = x.due
		}
		if !x.done && at > now && (first == 0 || at < first) {
			first = at
		}
	}
	return first
}
