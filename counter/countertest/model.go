package countertest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// Model is one partition of a store, as plain maps. Its methods are those of
// counter.Batch, and take effect at once.
type Model struct {
	state        counter.State
	counters     map[string]counter.Row
	windows      map[windowKey]counter.Bucket
	bases        map[uint64]counter.Base
	retired      map[uint64]wal.Offset
	events       map[wal.Offset][]byte
	tokens       map[wal.TokenID]counter.TokenEntry
	reservations map[wal.TokenID]counter.Reservation
	// horizon is the highest that was swept with: what it frees may be there or
	// not.
	horizon int64
}

type windowKey struct {
	id    uint64
	size  time.Duration
	start int64
}

// NewModel returns an empty partition.
func NewModel() *Model {
	return &Model{
		state:        counter.State{State: consumers.State{Applied: wal.NoOffset}, Folded: wal.NoOffset},
		counters:     make(map[string]counter.Row),
		windows:      make(map[windowKey]counter.Bucket),
		bases:        make(map[uint64]counter.Base),
		retired:      make(map[uint64]wal.Offset),
		events:       make(map[wal.Offset][]byte),
		tokens:       make(map[wal.TokenID]counter.TokenEntry),
		reservations: make(map[wal.TokenID]counter.Reservation),
		horizon:      -1 << 63,
	}
}

// Clone returns a copy that goes its own way.
func (m *Model) Clone() *Model {
	c := *m
	c.counters, c.windows, c.bases = maps.Clone(m.counters), maps.Clone(m.windows), maps.Clone(m.bases)
	c.retired, c.events, c.tokens = maps.Clone(m.retired), maps.Clone(m.events), maps.Clone(m.tokens)
	c.reservations = maps.Clone(m.reservations)
	return &c
}

// State returns what the last commit saved.
func (m *Model) State() counter.State { return m.state }

// SetState is the end of a commit.
func (m *Model) SetState(st counter.State) { m.state = st }

// Swept says that the store was swept with a horizon.
func (m *Model) Swept(horizon int64) { m.horizon = max(m.horizon, horizon) }

// SaveCounter is counter.Batch.SaveCounter.
func (m *Model) SaveCounter(name []byte, r *counter.Row) {
	row := *r
	row.Open = slices.Clone(r.Open)
	for i := range row.Open {
		if row.Open[i].Adds == 0 {
			row.Open[i] = counter.OpenBucket{}
		}
	}
	m.counters[string(name)] = row
}

// DropCounter is counter.Batch.DropCounter.
func (m *Model) DropCounter(name []byte) { delete(m.counters, string(name)) }

// Retire is counter.Batch.Retire.
func (m *Model) Retire(id uint64, o wal.Offset) { m.retired[id] = o }

// AddWindow is counter.Batch.AddWindow.
func (m *Model) AddWindow(id uint64, size time.Duration, start int64, b counter.Bucket) {
	k := windowKey{id, size, start}
	sum := m.windows[k]
	sum.Merge(b)
	m.windows[k] = sum
}

// AddBase is counter.Batch.AddBase.
func (m *Model) AddBase(id uint64, b counter.Base) {
	sum := m.bases[id]
	sum.Merge(b)
	m.bases[id] = sum
}

// SaveEvents is counter.Batch.SaveEvents.
func (m *Model) SaveEvents(o wal.Offset, row []byte) { m.events[o] = bytes.Clone(row) }

// DropEvents is counter.Batch.DropEvents.
func (m *Model) DropEvents(o wal.Offset) {
	maps.DeleteFunc(m.events, func(at wal.Offset, _ []byte) bool { return at <= o })
}

// SaveToken is counter.Batch.SaveToken.
func (m *Model) SaveToken(e *counter.TokenEntry) {
	if old, ok := m.tokens[e.ID]; !ok || e.Offset >= old.Offset {
		m.tokens[e.ID] = *e
	}
}

// SaveReservation is counter.Batch.SaveReservation.
func (m *Model) SaveReservation(r *counter.Reservation) {
	v := *r
	v.Counter = bytes.Clone(r.Counter)
	m.reservations[r.ID] = v
}

// named is a row and its name.
type named struct {
	name string
	row  counter.Row
}

// list is counter.Snapshot.List. after is nil for none.
func (m *Model) list(prefix, after []byte) (rows []named) {
	for _, name := range slices.Sorted(maps.Keys(m.counters)) {
		if strings.HasPrefix(name, string(prefix)) && (after == nil || name > string(after)) {
			rows = append(rows, named{name, m.counters[name]})
		}
	}
	return rows
}

// window is a bucket and where it begins.
type window struct {
	start int64
	sum   counter.Bucket
}

// windowsOf is counter.Snapshot.Windows.
func (m *Model) windowsOf(id uint64, size time.Duration, from, to int64) (found []window) {
	for k, b := range m.windows {
		if k.id == id && k.size == size && k.start >= from && k.start < to {
			found = append(found, window{k.start, b})
		}
	}
	slices.SortFunc(found, func(a, b window) int {
		if a.start < b.start {
			return -1
		}
		return 1
	})
	return found
}

// forgettable reports whether a sweep may have freed a reservation.
func (m *Model) forgettable(r *counter.Reservation) bool {
	return r.State != counter.Held && r.EndedAt < m.horizon
}

// baseMayGo reports whether a sweep may have freed the base of an id.
func (m *Model) baseMayGo(id uint64) bool {
	at, retired := m.retired[id]
	return retired && m.state.Folded >= at
}

func sameRow(a, b *counter.Row) bool {
	return a.ID == b.ID && a.Value == b.Value && a.Held == b.Held && a.ExpiresAt == b.ExpiresAt && a.Fixed == b.Fixed &&
		a.LastOffset == b.LastOffset && a.LastEvent == b.LastEvent && slices.Equal(a.Open, b.Open)
}

func sameReservation(a, b *counter.Reservation) bool {
	return a.ID == b.ID && bytes.Equal(a.Counter, b.Counter) && a.Amount == b.Amount && a.ExpiresAt == b.ExpiresAt && a.State == b.State && a.EndedAt == b.EndedAt
}
