package durable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// part is the consumers of one partition, as long as this process holds it by one claim.
type part struct {
	l      *Local
	p      wal.Partition
	epoch  wal.Offset
	states wal.Log // nil: the topic is not there, and so no consumer is
	by     string
	seen   wal.Offset

	mu      sync.Mutex // guards members
	members map[string]*member

	saving chan struct{} // holds one: who appends to states
	// written is how many records of the topic are behind its last whole copy. Guarded by saving.
	written int
}

func (pt *part) now() int64 { return pt.l.cfg.Now().UnixMicro() }

// openPart reads what the topic says of a partition.
func (l *Local) openPart(ctx context.Context, p wal.Partition, epoch wal.Offset, states wal.Log) (*part, error) {
	pt := &part{l: l, p: p, epoch: epoch, states: states, members: make(map[string]*member), saving: make(chan struct{}, 1), seen: wal.NoOffset}
	if states == nil {
		return pt, nil
	}
	end, err := states.Barrier(ctx, p) // what another process was told is durable
	if err != nil {
		return nil, fmt.Errorf("the end of what is known of consumers: %w", err)
	}
	pt.by, pt.seen = strconv.FormatInt(pt.now(), 36)+"-"+strconv.FormatInt(int64(epoch), 36), end
	if err := pt.readStates(ctx, end); err != nil {
		return nil, err
	}
	return pt, nil
}

func (pt *part) readStates(ctx context.Context, end wal.Offset) (err error) {
	b, err := pt.states.Bounds(ctx, pt.p)
	if err != nil {
		return fmt.Errorf("bounds of what is known of consumers: %w", err)
	}
	if b.Start > end {
		return nil
	}
	r, err := pt.states.Read(ctx, pt.p, b.Start)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	last := make(map[string]map[string]told) // by consumer and writer
	var rec wal.Record
	for next := b.Start; next <= end; {
		entries, err := r.Next(ctx)
		if err != nil {
			return fmt.Errorf("read what is known of consumers: %w", err)
		}
		for i := range entries {
			e := &entries[i]
			if next = e.Offset + 1; e.Offset > end {
				break
			}
			if err := wal.DecodeRecord(e.Data, &rec); err != nil {
				return &wal.CorruptError{Topic: pt.states.Info().Name, Partition: pt.p, Offset: e.Offset, Detail: err.Error()}
			}
			if rec.Kind != wal.KindConsumer {
				continue
			}
			s, open, err := decodeState(rec.Payload)
			if err != nil {
				return &wal.CorruptError{Topic: pt.states.Info().Name, Partition: pt.p, Offset: e.Offset, Detail: err.Error()}
			}
			if last[s.Name] == nil {
				last[s.Name] = make(map[string]told)
			}
			last[s.Name][s.By] = told{e.Offset, s, open}
			pt.written++
		}
	}
	for name, writers := range last {
		all := make([]told, 0, len(writers))
		for _, t := range writers {
			all = append(all, t)
		}
		slices.SortFunc(all, func(a, b told) int { return cmp.Compare(a.at, b.at) })
		if s, open := fold(all); !s.Gone {
			pt.members[name] = newMember(pt, &s, open)
		}
	}
	return nil
}

// member is a consumer that exists, or nil.
func (pt *part) member(name string) *member {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	m := pt.members[name]
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.Gone {
		return nil
	}
	return m
}

// make returns a consumer, which is made where it does not exist.
func (pt *part) make(ctx context.Context, name string) (m *member, made bool, err error) {
	if m := pt.member(name); m != nil {
		return m, false, nil
	}
	b, err := pt.l.cfg.Log.Bounds(ctx, pt.p)
	if err != nil {
		return nil, false, fmt.Errorf("bounds of partition %d: %w", pt.p, err)
	}
	pt.mu.Lock()
	defer pt.mu.Unlock()
	life, alive := pt.now(), 0
	for _, o := range pt.members {
		o.mu.Lock()
		if !o.Gone {
			alive++
		}
		if o.name == name {
			m, life = o, max(life, o.Life+1)
		}
		gone := o.Gone
		o.mu.Unlock()
		if o == m && !gone { // made meanwhile
			return m, false, nil
		}
	}
	if alive >= MaxConsumers {
		return nil, false, ErrTooMany
	}
	m = newMember(pt, &state{
		Name: name, Life: life, Next: b.Start,
		Settings: Settings{MaxInFlight: DefaultInFlight, AckWait: DefaultAckWait},
	}, nil)
	m.version = 1
	pt.members[name] = m
	return m, true, nil
}

// all are the consumers, those that were deleted too.
func (pt *part) all() []*member {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	out := make([]*member, 0, len(pt.members))
	for _, m := range pt.members {
		out = append(out, m)
	}
	return out
}

// forget leaves out a consumer that was deleted.
func (pt *part) forget(m *member) {
	pt.mu.Lock()
	defer pt.mu.Unlock()
	if pt.members[m.name] == m {
		delete(pt.members, m.name)
	}
}

const (
	// writtenMost is after how many records the topic is written anew, with one for each consumer.
	writtenMost = 4096
	// saveFor bounds one append of states.
	saveFor = 10 * time.Second
)

// save returns when what is known of m now is durable. Who comes first saves for all.
func (pt *part) save(ctx context.Context, m *member) error {
	m.mu.Lock()
	version := m.version
	m.mu.Unlock()
	select {
	case pt.saving <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("consumer %s was not saved: %w", m.name, ctx.Err())
	}
	defer func() { <-pt.saving }()
	m.mu.Lock()
	saved := m.saved >= version
	m.mu.Unlock()
	if saved {
		return nil
	}
	return pt.saveAll(context.WithoutCancel(ctx))
}

// saveAll appends the states of those that have changed, or of all where the topic is to be written anew. The caller
// has saving.
func (pt *part) saveAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, saveFor)
	defer cancel()
	members := pt.all()
	anew := pt.written > writtenMost+len(members)
	var entries []wal.NewEntry
	var whose []*member
	var versions []uint64
	for _, m := range members {
		data, version, err := m.snapshot(ctx, anew)
		if err != nil {
			return err
		}
		if data != nil {
			entries = append(entries, wal.NewEntry{Partition: pt.p, Data: data})
			whose, versions = append(whose, m), append(versions, version)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	var first error
	results := pt.states.Append(ctx, wal.Sync, entries)
	for i, r := range results {
		if r.Err != nil {
			first = cmp.Or(first, r.Err)
			continue
		}
		m := whose[i]
		m.mu.Lock()
		m.saved = max(m.saved, versions[i])
		gone := m.Gone && m.saved == m.version
		m.mu.Unlock()
		if gone {
			pt.forget(m)
		}
	}
	if first != nil {
		return fmt.Errorf("append the states of consumers: %w", first)
	}
	if pt.written += len(entries); anew {
		pt.written = len(entries)
		if err := pt.states.Trim(ctx, pt.p, results[0].Offset); err != nil {
			return fmt.Errorf("trim the states of consumers: %w", err)
		}
	}
	return nil
}

// snapshot is the state of m to be written; nil: it is written. Letters come first.
func (m *member) snapshot(ctx context.Context, whole bool) (data []byte, version uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.version == m.saved && (!whole || m.Gone) {
		return nil, 0, nil
	}
	if len(m.given) > 0 {
		if err := m.pt.l.cfg.GaveUp(ctx, m.pt.p, m.given); err != nil {
			return nil, 0, err
		}
		m.given = nil
	}
	m.Open = m.Open[:0]
	last := wal.NoOffset
	for _, x := range m.open {
		if !x.done {
			m.Open = appendOpen(m.Open, last, &x.opened)
			last = x.offset
		}
	}
	m.Dead, last = m.Dead[:0], wal.NoOffset
	for _, o := range slices.Sorted(maps.Keys(m.dead)) {
		m.Dead = appendOpen(m.Dead, last, &opened{offset: o, attempts: m.dead[o]})
		last = o
	}
	m.By, m.Seen = m.pt.by, m.pt.seen
	data, err = m.encode()
	return data, m.version, err
}

// keep saves what was not worth waiting for, has readers that nobody uses closed, and wakes those that wait for a lease.
func (pt *part) keep(ctx context.Context, idle time.Duration) error {
	if pt.states == nil {
		return nil
	}
	unsaved := false
	for _, m := range pt.all() {
		m.mu.Lock()
		before := m.inFlight
		m.expire(pt.now())
		if m.inFlight != before {
			m.wake()
		}
		unsaved = unsaved || m.version != m.saved
		var err error
		if time.Since(m.used) > idle {
			err = m.stopReading()
		}
		m.mu.Unlock()
		if err != nil {
			return err
		}
	}
	if !unsaved {
		return nil
	}
	select {
	case pt.saving <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	defer func() { <-pt.saving }()
	return pt.saveAll(ctx)
}

// close ends the readers; who waits looks again.
func (pt *part) close() (err error) {
	for _, m := range pt.all() {
		m.mu.Lock()
		err = errors.Join(err, m.stopReading())
		m.wake()
		m.mu.Unlock()
	}
	return err
}
