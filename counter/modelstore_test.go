package counter

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// mapStore is a Store of one partition in plain maps: the model of what a store
// does. Its snapshots are not isolated; they are for when nothing is committed.
type mapStore struct {
	mu   sync.Mutex
	st   State
	data mapData
}

type mapWindow struct {
	id    uint64
	size  time.Duration
	start int64
}

type mapData struct {
	rows         map[string]Row
	windows      map[mapWindow]Bucket
	events       map[wal.Offset][]byte
	exceptions   map[wal.Offset][]byte
	bases        map[uint64]Base
	retired      map[uint64]wal.Offset
	tokens       map[wal.TokenID]TokenEntry
	reservations map[wal.TokenID]Reservation
	parked       map[string]consumers.ParkedQueue
}

func newMapStore() *mapStore {
	return &mapStore{st: State{State: consumers.State{Applied: wal.NoOffset}, Folded: wal.NoOffset}, data: mapData{
		rows: map[string]Row{}, windows: map[mapWindow]Bucket{}, events: map[wal.Offset][]byte{}, exceptions: map[wal.Offset][]byte{}, bases: map[uint64]Base{},
		retired: map[uint64]wal.Offset{}, tokens: map[wal.TokenID]TokenEntry{}, reservations: map[wal.TokenID]Reservation{}, parked: map[string]consumers.ParkedQueue{},
	}}
}

func (s *mapStore) Saved(context.Context, wal.Partition) (State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.st, nil
}

func (s *mapStore) State(ctx context.Context, p wal.Partition) (consumers.State, error) {
	st, err := s.Saved(ctx, p)
	return st.State, err
}

func (s *mapStore) Counters(_ context.Context, _ wal.Partition, names [][]byte, rows []Row, found []bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, n := range names {
		rows[i], found[i] = s.data.rows[string(n)]
		rows[i].Open = slices.Clone(rows[i].Open)
	}
	return nil
}

func (s *mapStore) Token(_ context.Context, _ wal.Partition, id wal.TokenID) (TokenEntry, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.data.tokens[id]
	return e, ok, nil
}

func (s *mapStore) Reservation(_ context.Context, _ wal.Partition, id wal.TokenID) (Reservation, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.data.reservations[id]
	return v, ok, nil
}

func (s *mapStore) HeldReservations(_ context.Context, _ wal.Partition, f func(*Reservation) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.data.reservations {
		if v.State == Held {
			if err := f(&v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *mapStore) Parked(context.Context, wal.Partition) ([]consumers.ParkedQueue, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.data.parked)), nil
}

func (s *mapStore) Exceptions(_ context.Context, _ wal.Partition, from, to wal.Offset, f func(wal.Offset, []byte) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range slices.Sorted(maps.Keys(s.data.exceptions)) {
		if from <= o && o < to {
			if err := f(o, s.data.exceptions[o]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *mapStore) Begin(wal.Partition) Batch { return &mapBatch{s: s} }

func (s *mapStore) Snapshot(context.Context, wal.Partition) (Snapshot, error) {
	return mapSnapshot{s}, nil
}

func (s *mapStore) Sweep(_ context.Context, r *SweepRequest) (res SweepResult, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.data
	maps.DeleteFunc(d.tokens, func(_ wal.TokenID, e TokenEntry) bool { return e.LogTime < r.Horizon })
	maps.DeleteFunc(d.reservations, func(_ wal.TokenID, v Reservation) bool { return v.State != Held && v.EndedAt < r.Horizon })
	maps.DeleteFunc(d.windows, func(w mapWindow, _ Bucket) bool { _, gone := d.retired[w.id]; return gone })
	for id, at := range d.retired {
		if at <= s.st.Folded {
			delete(d.bases, id)
			delete(d.retired, id)
			res.Retired++
		}
	}
	return res, nil
}

func (s *mapStore) LiveTokens(wal.Partition) int64 { return int64(len(s.data.tokens)) }

func (s *mapStore) SetTokenWindow(time.Duration) {}

func (s *mapStore) Sync(context.Context) (map[wal.Partition]wal.Offset, error) {
	return map[wal.Partition]wal.Offset{0: s.st.Applied}, nil
}

func (s *mapStore) Usage(context.Context) (Usage, error) { return Usage{}, nil }

func (s *mapStore) Close() error { return nil }

// mapBatch keeps changes to do them at once.
type mapBatch struct {
	s  *mapStore
	do []func(*mapData)
}

func (b *mapBatch) later(f func(*mapData)) { b.do = append(b.do, f) }

func (b *mapBatch) SaveCounter(name []byte, r *Row) {
	key, row := string(name), *r
	row.Open = slices.Clone(r.Open)
	b.later(func(d *mapData) { d.rows[key] = row })
}

func (b *mapBatch) DropCounter(name []byte) {
	key := string(name)
	b.later(func(d *mapData) { delete(d.rows, key) })
}

func (b *mapBatch) Retire(id uint64, o wal.Offset) { b.later(func(d *mapData) { d.retired[id] = o }) }

func (b *mapBatch) AddWindow(id uint64, size time.Duration, start int64, v Bucket) {
	b.later(func(d *mapData) {
		w := d.windows[mapWindow{id, size, start}]
		w.Merge(v)
		d.windows[mapWindow{id, size, start}] = w
	})
}

func (b *mapBatch) SaveEvents(o wal.Offset, row []byte) {
	row = bytes.Clone(row)
	b.later(func(d *mapData) { d.events[o] = row })
}

func (b *mapBatch) SaveException(o wal.Offset, row []byte) {
	row = bytes.Clone(row)
	b.later(func(d *mapData) { d.exceptions[o] = row })
}

func (b *mapBatch) TrimExceptions(before wal.Offset) {
	b.later(func(d *mapData) {
		maps.DeleteFunc(d.exceptions, func(at wal.Offset, _ []byte) bool { return at < before })
	})
}

func (b *mapBatch) Empty() bool { return len(b.do) == 0 }

func (b *mapBatch) DropEvents(o wal.Offset) {
	b.later(func(d *mapData) { maps.DeleteFunc(d.events, func(at wal.Offset, _ []byte) bool { return at <= o }) })
}

func (b *mapBatch) AddBase(id uint64, v Base) {
	b.later(func(d *mapData) {
		base := d.bases[id]
		base.Merge(v)
		d.bases[id] = base
	})
}

func (b *mapBatch) SaveToken(e *TokenEntry) {
	v := *e
	b.later(func(d *mapData) { d.tokens[v.ID] = v })
}

func (b *mapBatch) SaveReservation(r *Reservation) {
	v := *r
	v.Counter = bytes.Clone(r.Counter)
	b.later(func(d *mapData) { d.reservations[v.ID] = v })
}

func (b *mapBatch) SaveParked(c *consumers.ParkedChange) {
	v := *c
	b.later(func(d *mapData) { v.Do(d.parked) })
}

func (b *mapBatch) Commit(_ context.Context, st State) error {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	for _, f := range b.do {
		f(&b.s.data)
	}
	b.s.st = st
	return nil
}

func (b *mapBatch) Abort() {}

type mapSnapshot struct{ s *mapStore }

func (v mapSnapshot) State() State { return v.s.st }

func (v mapSnapshot) Counter(name []byte) (Row, bool, error) {
	r, ok := v.s.data.rows[string(name)]
	return r, ok, nil
}

func (v mapSnapshot) List(prefix, after []byte, f func(name []byte, r *Row) bool) error {
	from := string(after) // the callback may change it
	for _, name := range slices.Sorted(maps.Keys(v.s.data.rows)) {
		r := v.s.data.rows[name]
		if bytes.HasPrefix([]byte(name), prefix) && name > from && !f([]byte(name), &r) {
			return nil
		}
	}
	return nil
}

func (v mapSnapshot) Windows(id uint64, size time.Duration, from, to int64, f func(start int64, b Bucket) bool) error {
	for w, b := range v.s.data.windows {
		if w.id == id && w.size == size && w.start >= from && w.start < to && !f(w.start, b) {
			return nil
		}
	}
	return nil
}

func (v mapSnapshot) Base(id uint64) (Base, error) { return v.s.data.bases[id], nil }

func (v mapSnapshot) Events(o wal.Offset) ([]byte, bool, error) {
	row, ok := v.s.data.events[o]
	return row, ok, nil
}

func (v mapSnapshot) EventsFrom(o wal.Offset, f func(o wal.Offset, row []byte) bool) error {
	for _, at := range slices.Sorted(maps.Keys(v.s.data.events)) {
		if at >= o && !f(at, v.s.data.events[at]) {
			return nil
		}
	}
	return nil
}

func (v mapSnapshot) Close() error { return nil }
