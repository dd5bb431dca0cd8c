package countertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// Check compares everything that a partition of a store answers with a model.
// What a sweep may have freed may be there or not; where it is, it is right.
func Check(ctx context.Context, s counter.Store, p wal.Partition, m *Model) (err error) {
	st, err := s.Saved(ctx, p)
	if err != nil {
		return err
	}
	if st != m.state {
		return fmt.Errorf("state %+v, want %+v", st, m.state)
	}
	snap, err := s.Snapshot(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	if err := CheckSnapshot(snap, m); err != nil {
		return err
	}
	if err := m.checkCounters(ctx, s, p); err != nil {
		return err
	}
	if err := m.checkTokens(ctx, s, p); err != nil {
		return err
	}
	return m.checkReservations(ctx, s, p)
}

// differs is err, or that an answer is another.
func differs(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return errors.New(what)
}

// CheckSnapshot compares a snapshot with a model.
func CheckSnapshot(snap counter.Snapshot, m *Model) error {
	st := snap.State()
	if st != m.state {
		return fmt.Errorf("state of the snapshot %+v, want %+v", st, m.state)
	}
	if err := m.checkList(snap, nil, nil, math.MaxInt); err != nil {
		return err
	}
	for name, want := range m.counters {
		row, ok, err := snap.Counter([]byte(name))
		if err != nil || !ok || !sameRow(&row, &want) {
			return differs(err, "counter %q: %+v %v, want %+v", name, row, ok, want)
		}
	}
	if row, ok, err := snap.Counter([]byte("there is none")); err != nil || ok {
		return differs(err, "a counter that was never saved: %+v %v", row, ok)
	}
	seen := make(map[windowKey]bool)
	for k := range m.windows {
		k.start = math.MinInt64
		if _, retired := m.retired[k.id]; retired || seen[k] {
			continue
		}
		seen[k] = true
		if err := m.checkWindows(snap, k, math.MaxInt64); err != nil {
			return err
		}
	}
	for id, want := range m.bases {
		if base, err := snap.Base(id); err != nil || (base != want && !m.baseMayGo(id)) {
			return differs(err, "base of %d: %+v, want %+v", id, base, want)
		}
	}
	if base, err := snap.Base(math.MaxUint64); err != nil || base != (counter.Base{}) {
		return differs(err, "base of an id that was never used: %+v", base)
	}
	return m.checkEvents(snap)
}

// checkList stops after limit rows.
func (m *Model) checkList(snap counter.Snapshot, prefix, after []byte, limit int) error {
	want := m.list(prefix, after)
	if len(want) > limit {
		want = want[:limit]
	}
	var got []named
	err := snap.List(prefix, after, func(name []byte, r *counter.Row) bool {
		got = append(got, named{string(name), *r})
		return len(got) < limit
	})
	if err != nil {
		return err
	}
	same := func(a, b named) bool { return a.name == b.name && sameRow(&a.row, &b.row) }
	if !slices.EqualFunc(got, want, same) {
		return fmt.Errorf("list of %q after %q, at most %d: %+v, want %+v", prefix, after, limit, got, want)
	}
	return nil
}

// checkWindows reads the windows of an id and size from k.start to to.
func (m *Model) checkWindows(snap counter.Snapshot, k windowKey, to int64) error {
	want := m.windowsOf(k.id, k.size, k.start, to)
	var got []window
	err := snap.Windows(k.id, k.size, k.start, to, func(start int64, b counter.Bucket) bool {
		got = append(got, window{start, b})
		return true
	})
	if err != nil || !slices.Equal(got, want) {
		return differs(err, "windows %+v to %d: %+v, want %+v", k, to, got, want)
	}
	return nil
}

func (m *Model) checkEvents(snap counter.Snapshot) error {
	offsets := slices.Sorted(maps.Keys(m.events))
	i := 0
	var bad error
	err := snap.EventsFrom(0, func(o wal.Offset, row []byte) bool {
		if i >= len(offsets) || o != offsets[i] || !bytes.Equal(row, m.events[o]) {
			bad = fmt.Errorf("row %d of the events is %d: %.32x, want %v", i, o, row, offsets)
		}
		i++
		return bad == nil
	})
	if err = errors.Join(err, bad); err != nil {
		return err
	}
	if i != len(offsets) {
		return fmt.Errorf("%d rows of events, want %v", i, offsets)
	}
	for _, o := range offsets {
		if row, ok, err := snap.Events(o); err != nil || !ok || !bytes.Equal(row, m.events[o]) {
			return differs(err, "events of %d: %.32x %v", o, row, ok)
		}
		if _, has := m.events[o+1]; !has {
			if row, ok, err := snap.Events(o + 1); err != nil || ok {
				return differs(err, "events of %d, where there are none: %.32x %v", o+1, row, ok)
			}
		}
	}
	return nil
}

// checkCounters reads all names at once, in no order, some of them twice, and some
// that are not there.
func (m *Model) checkCounters(ctx context.Context, s counter.Store, p wal.Partition) error {
	var names [][]byte
	for name := range m.counters {
		names = append(names, []byte(name), []byte(name+"\x00"), []byte("z"+name), []byte(name))
	}
	rows, found := make([]counter.Row, len(names)), make([]bool, len(names))
	for i := range rows { // what was in the slices must not show
		rows[i].Value, found[i] = 77, true
	}
	if err := s.Counters(ctx, p, names, rows, found); err != nil {
		return err
	}
	for i, name := range names {
		want, ok := m.counters[string(name)]
		if found[i] != ok || (ok && !sameRow(&rows[i], &want)) {
			return fmt.Errorf("counter %q of %d: %+v %v, want %+v %v", name, len(names), rows[i], found[i], want, ok)
		}
	}
	return nil
}

func (m *Model) checkTokens(ctx context.Context, s counter.Store, p wal.Partition) error {
	for n, want := range m.tokens {
		e, ok, err := s.Token(ctx, p, n)
		if err != nil || (ok && e != want) || (!ok && want.LogTime >= m.horizon) {
			return differs(err, "token %s: %+v %v, want %+v", n, e, ok, want)
		}
	}
	return nil
}

func (m *Model) checkReservations(ctx context.Context, s counter.Store, p wal.Partition) error {
	held := 0
	for id, want := range m.reservations {
		v, ok, err := s.Reservation(ctx, p, id)
		if err != nil || (ok && !sameReservation(&v, &want)) || (!ok && !m.forgettable(&want)) {
			return differs(err, "reservation %s: %+v %v, want %+v", id, v, ok, want)
		}
		if want.State == counter.Held {
			held++
		}
	}
	seen := make(map[wal.TokenID]bool)
	err := s.HeldReservations(ctx, p, func(v *counter.Reservation) error {
		want := m.reservations[v.ID]
		if want.State != counter.Held || !sameReservation(v, &want) || seen[v.ID] {
			return fmt.Errorf("held: %+v, want %+v, seen before: %v", *v, want, seen[v.ID])
		}
		seen[v.ID] = true
		return nil
	})
	if err == nil && len(seen) != held {
		err = fmt.Errorf("%d reservations are held, want %d", len(seen), held)
	}
	return err
}
