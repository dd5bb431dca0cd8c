package countertest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// Events is a counter.EventStore in memory that passes RunEvents, for tests of what stands on one. What
// it has survives its users, as another server does.
type Events struct {
	mu     sync.Mutex // guards what follows
	events map[wal.Partition]map[memPlace]memEvent
	away   bool
	tries  int
	// Saved, if not nil, is told the last record of each block before it is there. Its error is the
	// call's.
	Saved func(p wal.Partition, last wal.Offset) error
}

type memPlace struct {
	offset wal.Offset
	index  int
}

type memEvent struct {
	memPlace
	counter.Event
	name    string
	logTime int64
}

var _ counter.EventStore = (*Events)(nil)

// NewEvents returns a store without events.
func NewEvents() *Events { return &Events{events: make(map[wal.Partition]map[memPlace]memEvent)} }

// SetAway has every call fail with consumers.ErrStoreAway, or no more.
func (s *Events) SetAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

// Tries is how many blocks were tried.
func (s *Events) Tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries
}

// Last is the last record of a partition that has an event, wal.NoOffset where there is none.
func (s *Events) Last(p wal.Partition) wal.Offset {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := wal.NoOffset
	for at := range s.events[p] {
		last = max(last, at.offset)
	}
	return last
}

// SaveEvents implements counter.EventStore.
func (s *Events) SaveEvents(_ context.Context, p wal.Partition, b *counter.EventBlock) error {
	var all []memEvent
	last := wal.NoOffset
	err := b.Each(func(name string, row *counter.EventRow, index int, e *counter.Event) error {
		all, last = append(all, memEvent{memPlace{row.Offset, index}, *e, name, row.LogTime}), row.Offset
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.away {
		return consumers.ErrStoreAway
	}
	if s.Saved != nil {
		if err := s.Saved(p, last); err != nil {
			return err
		}
	}
	if s.events[p] == nil {
		s.events[p] = make(map[memPlace]memEvent)
	}
	for _, e := range all {
		if old, there := s.events[p][e.memPlace]; there && (old.Event != e.Event || old.name != e.name) {
			return fmt.Errorf("%w: event %+v was %+v", wal.ErrCorrupt, e, old)
		}
		s.events[p][e.memPlace] = e
	}
	return nil
}

// between are the events of after < record <= upTo, in the order of their decision.
func (s *Events) between(p wal.Partition, after, upTo wal.Offset) (all []memEvent, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return nil, consumers.ErrStoreAway
	}
	for at, e := range s.events[p] {
		if at.offset > after && at.offset <= upTo {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b memEvent) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.index, b.index))
	})
	return all, nil
}

// SumEvents implements counter.EventStore.
func (s *Events) SumEvents(_ context.Context, p wal.Partition, id uint64, after, upTo wal.Offset) (b counter.Base, err error) {
	all, err := s.between(p, after, upTo)
	for i := range all {
		if e := &all[i]; e.ID == id {
			if e.Kind == counter.EventClear {
				b = counter.Base{}
			}
			b.Merge(counter.Base{Cleared: e.Kind == counter.EventClear, Sum: e.Delta, Events: 1})
		}
	}
	return b, err
}

// BucketEvents implements counter.EventStore.
func (s *Events) BucketEvents(_ context.Context, p wal.Partition, r *counter.BucketRequest, f func(start int64, b counter.Bucket)) error {
	all, err := s.between(p, r.After, r.UpTo)
	sums := make(map[int64]counter.Bucket)
	for i := range all {
		if e := &all[i]; e.ID == r.ID && e.Kind != counter.EventClear && e.Time >= r.From && e.Time < r.To {
			start := e.Time - e.Time%r.Size
			b := sums[start]
			b.Add(e.Delta)
			sums[start] = b
		}
	}
	for start, b := range sums {
		f(start, b)
	}
	return err
}

// FoldEvents implements counter.EventStore.
func (s *Events) FoldEvents(_ context.Context, p wal.Partition, r *counter.FoldRequest) (counter.Folded, error) {
	f := counter.Folded{UpTo: wal.NoOffset, Bases: make(map[uint64]counter.Base)}
	all, err := s.between(p, r.After, r.UpTo)
	for i := range all {
		e := &all[i]
		if e.logTime >= r.Before {
			break
		}
		if i >= r.Limit && e.offset != f.UpTo {
			f.More = true
			break
		}
		b := f.Bases[e.ID]
		b.Merge(counter.Base{Cleared: e.Kind == counter.EventClear, Sum: e.Delta, Events: 1})
		f.Bases[e.ID], f.UpTo = b, e.offset
	}
	return f, err
}

// DropEvents implements counter.EventStore.
func (s *Events) DropEvents(_ context.Context, p wal.Partition, o wal.Offset) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return consumers.ErrStoreAway
	}
	for at := range s.events[p] {
		if at.offset <= o {
			delete(s.events[p], at)
		}
	}
	return nil
}
