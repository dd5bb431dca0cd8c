package durable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// reading is where a member reads new records.
type reading struct {
	r    wal.Reader
	at   wal.Offset  // of the first of rest, or of what r delivers next
	rest []wal.Entry // delivered and not looked at
}

func (r *reading) took() {
	r.at = r.rest[0].Offset + 1
	r.rest = r.rest[1:]
}

func (r *reading) close() error {
	if r.r == nil {
		return nil
	}
	err := r.r.Close()
	*r = reading{}
	if err != nil {
		return fmt.Errorf("close a reader: %w", err)
	}
	return nil
}

// readFor bounds one wait for the log, with the member locked.
const readFor = 5 * time.Second

// pull returns the records from Next on that are applied, limit at most, with what is known of them. They stay in
// m.reading until they are passed.
func (m *member) pull(ctx context.Context, applied wal.Offset, limit int) ([]wal.Entry, []Verdict, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readFor, errSlowLog)
	defer cancel()
	pt, r := m.pt, &m.reading
	if r.r != nil && r.at != m.Next {
		if err := m.stopReading(); err != nil {
			return nil, nil, err
		}
	}
	if len(r.rest) == 0 {
		err := m.deliver(ctx)
		if errors.Is(err, wal.ErrTrimmed) {
			if err = m.skipTrimmed(ctx); err == nil {
				return nil, nil, nil // and again
			}
		}
		if err != nil {
			return nil, nil, errors.Join(err, m.stopReading())
		}
	}
	n := 0
	for n < len(r.rest) && n < limit && r.rest[n].Offset <= applied {
		n++
	}
	if n == 0 { // the log has a gap up to there
		m.Next = r.rest[0].Offset
		r.at = m.Next
		m.touch()
		return nil, nil, nil
	}
	entries := r.rest[:n]
	vs, err := pt.l.cfg.Judge(ctx, pt.p, entries)
	return entries, vs, err
}

var errSlowLog = errors.New("the log did not answer in time")

// deliver has the reader deliver what comes at Next.
func (m *member) deliver(ctx context.Context) (err error) {
	r := &m.reading
	if r.r == nil {
		if r.r, err = m.pt.l.cfg.Log.Read(ctx, m.pt.p, m.Next); err != nil {
			r.r = nil
			return err
		}
		r.at = m.Next
	}
	m.pt.l.cfg.Readers.used(m)
	r.rest, err = r.r.Next(ctx)
	return err
}

// skipTrimmed goes on where the log begins.
func (m *member) skipTrimmed(ctx context.Context) error {
	b, err := m.pt.l.cfg.Log.Bounds(ctx, m.pt.p)
	if err != nil {
		return fmt.Errorf("bounds of partition %d: %w", m.pt.p, err)
	}
	if b.Start > m.Next {
		m.Missed += int64(b.Start - m.Next)
		m.Next = b.Start
		m.touch()
	}
	return m.stopReading()
}

// learn finds the keys of records that were open when the member was read.
func (m *member) learn(ctx context.Context) error {
	var want []*item
	for _, x := range m.open {
		if !x.known && !x.done {
			want = append(want, x)
		}
	}
	return m.read(ctx, want, func(x *item, e *wal.Entry, v *Verdict) bool {
		if v == nil {
			x.known = true
			m.Missed++
			m.finish(x)
			return true
		}
		key, err := wal.RoutingKeyOf(e.Data)
		if err != nil {
			return true // it is handed out, and whoever decodes it says why not
		}
		x.key, x.known = string(key), true
		if !x.again {
			x.takesTurn(e, v)
		}
		if x.waits(m.pt.now()) {
			m.later++
		} else {
			m.count(x)
		}
		return true
	})
}

// learnOne finds the key of one record.
func (m *member) learnOne(ctx context.Context, x *item) error {
	return wal.ReadOne(ctx, m.pt.l.cfg.Log, m.pt.p, x.offset, func(e *wal.Entry) error {
		key, err := wal.RoutingKeyOf(e.Data)
		x.key, x.known = string(key), true
		return err
	})
}

// readAny is read of records that are in no order: f is called in theirs.
func (m *member) readAny(ctx context.Context, want []*item, f func(x *item, e *wal.Entry, v *Verdict) bool) error {
	if slices.IsSortedFunc(want, func(a, b *item) int { return cmp.Compare(a.offset, b.offset) }) {
		return m.read(ctx, want, f)
	}
	for _, x := range want {
		more := true
		err := m.read(ctx, []*item{x}, func(x *item, e *wal.Entry, v *Verdict) bool {
			more = f(x, e, v)
			return more
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// farApart is between which records another read is begun, in records.
const farApart = 2000

// read reads open records, which are in order, and calls f with each until it returns false; with no entry where the log
// does not have it any more.
func (m *member) read(ctx context.Context, want []*item, f func(x *item, e *wal.Entry, v *Verdict) bool) (err error) {
	if len(want) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readFor, errSlowLog)
	defer cancel()
	b, err := m.pt.l.cfg.Log.Bounds(ctx, m.pt.p)
	if err != nil {
		return fmt.Errorf("bounds of partition %d: %w", m.pt.p, err)
	}
	for len(want) > 0 && want[0].offset < b.Start {
		if !f(want[0], nil, nil) {
			return nil
		}
		want = want[1:]
	}
	for len(want) > 0 {
		n := 1
		for n < len(want) && want[n].offset-want[n-1].offset < farApart {
			n++
		}
		more, err := m.readRun(ctx, want[:n], f)
		if err != nil || !more {
			return err
		}
		want = want[n:]
	}
	return nil
}

// readRun reads records that stand close to each other.
func (m *member) readRun(ctx context.Context, want []*item, f func(x *item, e *wal.Entry, v *Verdict) bool) (more bool, err error) {
	r, err := m.pt.l.cfg.Log.Read(ctx, m.pt.p, want[0].offset)
	if err != nil {
		return false, err
	}
	defer func() {
		if cerr := r.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close a reader: %w", cerr)
		}
	}()
	for len(want) > 0 {
		entries, err := r.Next(ctx)
		if err != nil {
			return false, err
		}
		var found []wal.Entry
		items := want
		for i := range entries {
			e := &entries[i]
			if len(want) > 0 && want[0].offset < e.Offset { // the log has a gap there
				return false, fmt.Errorf("%w: partition %d has no record %d", wal.ErrCorrupt, m.pt.p, want[0].offset)
			}
			if len(want) > 0 && want[0].offset == e.Offset {
				found, want = append(found, *e), want[1:]
			}
		}
		if len(found) == 0 {
			continue
		}
		vs, err := m.pt.l.cfg.Judge(ctx, m.pt.p, found)
		if err != nil {
			return false, err
		}
		for i := range found {
			if !f(items[i], &found[i], &vs[i]) {
				return false, nil
			}
		}
	}
	return true, nil
}
