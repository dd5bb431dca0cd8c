package cassandracounter

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

const (
	// atOnce is how many rows are sent before what is published of them is noted, and statements how many of one partition
	// of a table are one batch.
	atOnce     = 16 << 10
	statements = 200
	inFlight   = 16
)

// Publish sends what has changed in a partition since it was published last, and returns up to where it is published. keep is
// how long a reservation is needed after it has ended. One call for a partition at a time, by the process that applies it.
func (s *Store) Publish(ctx context.Context, p wal.Partition, keep time.Duration) (to wal.Offset, err error) {
	u, err := s.Local.Unpublished(ctx, p)
	if err != nil {
		return wal.NoOffset, err
	}
	defer func() { err = errors.Join(err, u.Close()) }()
	st, r := u.State(), s.of(p)
	if st.Applied == wal.NoOffset || st.Applied == s.Local.Published(p) && s.clean(ctx, u) {
		return s.Local.Published(p), nil
	}
	for _, kind := range []func(w *sender) error{
		func(w *sender) error {
			return u.Windows(ctx, func(part *counter.WindowPart, m counter.Mark) error {
				return w.add(int64(part.ID), r.saveWindow(part), m)
			})
		},
		func(w *sender) error {
			return u.Counters(ctx, func(name []byte, row *counter.Row, m counter.Mark) error {
				name = append([]byte(nil), name...)
				return w.add(int64(bucketOf(name)), r.saveRow(name, row, st.Applied), m)
			})
		},
		func(w *sender) error {
			return u.Reservations(ctx, func(v *counter.Reservation, m counter.Mark) error {
				return w.add(int64(bucketOf(v.ID[:])), r.saveReservation(v, st.Applied, keep), m)
			})
		},
		func(w *sender) error {
			return u.Retired(ctx, func(id uint64, m counter.Mark) error {
				return w.add(int64(id), r.dropWindows(id, at(st.Applied)), m)
			})
		},
	} { // one after the other: a row says that its windows are there
		w := &sender{s: s, p: p, ctx: ctx, groups: make(map[int64][]cassandrastore.Statement)}
		if err := w.end(kind(w)); err != nil {
			return wal.NoOffset, err
		}
	}
	if err := r.published(ctx, &st); err != nil {
		return wal.NoOffset, err
	}
	return st.Applied, s.Local.Publish(ctx, p, nil, st.Applied)
}

var errDirty = errors.New("something is to be published")

// clean reports whether there is nothing to publish: rows may change while the position stays.
func (s *Store) clean(ctx context.Context, u counter.Unpublished) bool {
	return u.Counters(ctx, func([]byte, *counter.Row, counter.Mark) error { return errDirty }) == nil &&
		u.Reservations(ctx, func(*counter.Reservation, counter.Mark) error { return errDirty }) == nil
}

// sender sends statements in batches, each of one partition of a table, and notes what is published.
type sender struct {
	s      *Store
	p      wal.Partition
	ctx    context.Context
	groups map[int64][]cassandrastore.Statement
	marks  []counter.Mark
}

func (w *sender) add(group int64, q cassandrastore.Statement, m counter.Mark) error {
	w.groups[group] = append(w.groups[group], q)
	w.marks = append(w.marks, counter.Mark{Key: append([]byte(nil), m.Key...), Value: append([]byte(nil), m.Value...)})
	if len(w.marks) < atOnce {
		return nil
	}
	return w.flush()
}

// end sends what is left, unless err says that something failed.
func (w *sender) end(err error) error {
	if err != nil || len(w.marks) == 0 {
		return err
	}
	return w.flush()
}

func (w *sender) flush() error {
	w.s.yield(w.ctx)
	g, ctx := errgroup.WithContext(w.ctx)
	g.SetLimit(inFlight)
	for _, all := range w.groups {
		for len(all) > 0 {
			n := min(len(all), statements)
			batch := all[:n]
			all = all[n:]
			g.Go(func() error { return w.s.rows.Exec(ctx, "publish counters", batch...) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	clear(w.groups)
	err := w.s.Local.Publish(w.ctx, w.p, w.marks, wal.NoOffset)
	w.marks = w.marks[:0]
	return err
}
