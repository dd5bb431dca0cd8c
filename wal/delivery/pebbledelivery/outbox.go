package pebbledelivery

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// batch is a delivery.Batch. It keeps its changes until Commit or Abort.
type batch struct {
	pebblestore.Batch[state, delivery.TokenEntry]
	s *Store
	p wal.Partition
	c *changes
}

// Begin implements delivery.Store.
func (s *Store) Begin(p wal.Partition) delivery.Batch {
	return &batch{Batch: s.ledger.Begin(p), s: s, p: p}
}

func (b *batch) changes() *changes {
	if b.c == nil {
		b.c = newChanges(b.s.DB, b.p, b.W)
	}
	return b.c
}

// in does f where the batch can be added to, inside of the store.
func (b *batch) in(f func(c *changes) bool) bool {
	if !b.Ready() {
		return false
	}
	if err := b.s.Enter(context.Background(), b.p); err != nil {
		b.SetErr(err)
		return false
	}
	defer b.s.Leave()
	c := b.changes()
	ok := f(c)
	if c.err != nil {
		b.SetErr(b.s.DB.ReadError("read what waits", b.p, c.err))
	}
	return ok && c.err == nil
}

// Add implements delivery.OutboxBatch.
func (b *batch) Add(m *delivery.Pending) { b.in(func(c *changes) bool { c.add(m); return true }) }

// Cancel implements delivery.OutboxBatch.
func (b *batch) Cancel(o wal.Offset, now int64) bool {
	return b.in(func(c *changes) bool { return c.cancel(o, now) })
}

// Kill implements delivery.OutboxBatch.
func (b *batch) Kill(d *delivery.Death) (t *delivery.TargetStatus) {
	b.in(func(c *changes) bool { t = c.kill(d); return true })
	return t
}

// Redrive implements delivery.OutboxBatch.
func (b *batch) Redrive(o wal.Offset, target string, now int64, by string) (t *delivery.TargetStatus) {
	b.in(func(c *changes) bool { t = c.redrive(o, target, now, by); return true })
	return t
}

// Drop implements delivery.OutboxBatch.
func (b *batch) Drop(o wal.Offset, target string, now int64, by string) (t *delivery.TargetStatus) {
	b.in(func(c *changes) bool { t = c.drop(o, target, now, by); return true })
	return t
}

// Next implements delivery.OutboxBatch.
func (b *batch) Next() []delivery.Delivery {
	if b.c == nil {
		return nil
	}
	return b.c.next
}

// read does f inside of the store.
func (s *Store) read(ctx context.Context, what string, p wal.Partition, f func() error) error {
	if err := s.Enter(ctx, p); err != nil {
		return err
	}
	defer s.Leave()
	if err := f(); err != nil {
		return s.DB.ReadError(what, p, err)
	}
	return nil
}

// walk calls f with the rows of lo <= key < hi until it returns errEnough.
func (s *Store) walk(lo, hi []byte, f func(k, v []byte) error) error {
	err := s.DB.Range(lo, hi, func(it *pebble.Iterator) error {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		return f(it.Key(), v)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// Due implements delivery.Outbox.
func (s *Store) Due(
	ctx context.Context, p wal.Partition, target string, at int64, o wal.Offset, limit int,
) (ds []delivery.Delivery, err error) {
	prefix := targetKey(tableDue, p, target)
	lo := dueKey(p, target, at, o+1)
	err = s.read(ctx, "read what is due", p, func() error {
		return s.walk(lo, pebblestore.Successor(prefix), func(k, v []byte) error {
			if len(ds) >= limit {
				return errEnough
			}
			at, o, err := placeOf(k)
			if err != nil {
				return err
			}
			d, err := decodeDelivery(target, at, o, v)
			ds = append(ds, d)
			return err
		})
	})
	return ds, err
}

// Pending implements delivery.Outbox.
func (s *Store) Pending(ctx context.Context, p wal.Partition, o wal.Offset) (*delivery.Pending, bool, error) {
	return s.message(ctx, tableMessage, p, o)
}

// Buried implements delivery.Outbox.
func (s *Store) Buried(ctx context.Context, p wal.Partition, o wal.Offset) (*delivery.Pending, bool, error) {
	return s.message(ctx, tableBuried, p, o)
}

func (s *Store) message(
	ctx context.Context, table byte, p wal.Partition, o wal.Offset,
) (m *delivery.Pending, there bool, err error) {
	err = s.read(ctx, "read a message", p, func() error {
		there, err = s.DB.View(offsetKey(table, p, o), func(v []byte) error {
			m, err = decodeMessage(o, v, true)
			return err
		})
		return err
	})
	return m, there && err == nil, err
}

// readStatus is what is known of a message, nil where nothing is.
func readStatus(db *pebblestore.DB, p wal.Partition, o wal.Offset) (s *delivery.Status, err error) {
	there, err := db.View(offsetKey(tableStatus, p, o), func(v []byte) (err error) {
		s, err = decodeStatus(o, v)
		return err
	})
	if there || err != nil {
		return s, err
	}
	_, err = db.View(offsetKey(tableMessage, p, o), func(v []byte) error {
		m, err := decodeMessage(o, v, false)
		s = statusFrom(m)
		return err
	})
	return s, err
}

// Status implements delivery.Outbox.
func (s *Store) Status(ctx context.Context, p wal.Partition, o wal.Offset) (st delivery.Status, known bool, err error) {
	err = s.read(ctx, "read what came of a message", p, func() error {
		got, err := readStatus(s.DB, p, o)
		if got != nil {
			st, known = *got, true
		}
		return err
	})
	return st, known && err == nil, err
}

// Find implements delivery.Outbox.
func (s *Store) Find(ctx context.Context, p wal.Partition, n wal.Nonce) (found []delivery.Named, err error) {
	lo := noncePrefix(p, n)
	hi := append(noncePrefix(p, n), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // above every offset
	err = s.read(ctx, "find a message", p, func() error {
		return s.walk(lo, hi, func(k, v []byte) error {
			one := delivery.Named{Offset: wal.Offset(numberAt(k, len(k)-8))}
			if copy(one.ID[:], v) != len(one.ID) {
				return fmt.Errorf("%w: identity of %d bytes", wal.ErrCorrupt, len(v))
			}
			found = append(found, one)
			return nil
		})
	})
	return found, err
}

// Settle implements delivery.Outbox.
func (s *Store) Settle(
	ctx context.Context, p wal.Partition, outcomes []delivery.Outcome,
) (next []delivery.Delivery, err error) {
	_, err = s.ledger.Sweep(ctx, p, math.MinInt64, 1, func(sw *pebblestore.Sweep[state]) error {
		c := newChanges(s.DB, p, sw.W)
		for i := range outcomes {
			c.settle(&outcomes[i])
		}
		next = c.next
		return c.err
	})
	return next, err
}

// Delayed implements delivery.Outbox.
func (s *Store) Delayed(
	ctx context.Context, p wal.Partition, key []byte, due int64, o wal.Offset, before int64, limit int,
) (ms []delivery.Pending, err error) {
	lo, hi := delayedKey(p, due, o+1), delayedKey(p, before, 0)
	if key != nil {
		lo, hi = byKeyKey(p, key, due, o+1), byKeyKey(p, key, before, 0)
	}
	err = s.read(ctx, "list delayed messages", p, func() error {
		return s.walk(lo, hi, func(k, _ []byte) error {
			if len(ms) >= limit {
				return errEnough
			}
			_, o, err := placeOf(k)
			if err != nil {
				return err
			}
			_, err = s.DB.View(offsetKey(tableMessage, p, o), func(v []byte) error { // it may have ended since
				m, err := decodeMessage(o, v, false)
				ms = append(ms, *m)
				return err
			})
			return err
		})
	})
	return ms, err
}

// Dead implements delivery.Outbox.
func (s *Store) Dead(
	ctx context.Context, p wal.Partition, behind delivery.DeadPlace, limit int,
) (ds []delivery.DeadDelivery, err error) {
	lo := append(deadKey(p, behind.At, behind.Offset, behind.Target), 0)
	_, hi := pebblestore.Span(tableDead, p)
	err = s.read(ctx, "list dead deliveries", p, func() error {
		return s.walk(lo, hi, func(k, _ []byte) error {
			if len(ds) >= limit {
				return errEnough
			}
			at, err := deadPlaceOf(k)
			if err != nil {
				return err
			}
			d, err := s.dead(p, &at)
			if d != nil {
				ds = append(ds, *d)
			}
			return err
		})
	})
	return ds, err
}

// dead is the dead delivery at a place, nil where it is not any more.
func (s *Store) dead(p wal.Partition, at *delivery.DeadPlace) (d *delivery.DeadDelivery, err error) {
	st, err := readStatus(s.DB, p, at.Offset)
	if st == nil || err != nil {
		return nil, err
	}
	for i := range st.Targets {
		if t := &st.Targets[i]; t.Target == at.Target && t.State == delivery.Dead {
			d = &delivery.DeadDelivery{Offset: at.Offset, TargetStatus: *t}
		}
	}
	for _, table := range []byte{tableBuried, tableMessage} {
		if d == nil {
			return nil, nil
		}
		there, err := s.DB.View(offsetKey(table, p, at.Offset), func(v []byte) error {
			m, err := decodeMessage(at.Offset, v, false)
			d.Key = m.Key
			return err
		})
		if there || err != nil {
			return d, err
		}
	}
	return nil, nil
}

// Oldest implements delivery.Outbox.
func (s *Store) Oldest(ctx context.Context, p wal.Partition) (o wal.Offset, err error) {
	o = wal.NoOffset
	lo, hi := pebblestore.Span(tableMessage, p)
	err = s.read(ctx, "find the oldest message", p, func() error {
		return s.walk(lo, hi, func(k, _ []byte) error {
			o = wal.Offset(numberAt(k, len(k)-8))
			return errEnough
		})
	})
	return o, err
}

// sweepRows is how many messages one sweep forgets.
const sweepRows = 5000

// Sweep implements delivery.Store.
func (s *Store) Sweep(
	ctx context.Context, p wal.Partition, horizon, ended, dead int64,
) (tokens int64, more bool, err error) {
	tokens, err = s.ledger.Sweep(ctx, p, horizon, sweepRows, func(sw *pebblestore.Sweep[state]) error {
		var enough bool
		look := func(f func(k, v []byte) error) func(k, v []byte) error {
			return func(k, v []byte) error {
				ok, err := sw.Look()
				if err != nil {
					return err
				}
				if enough = !ok; enough {
					return errEnough
				}
				return f(k, v)
			}
		}
		lo, _ := pebblestore.Span(tableEnded, p)
		err := s.walk(lo, endedKey(p, max(ended, 0), 0), look(func(k, v []byte) error {
			var n wal.Nonce
			copy(n[:], v)
			o := wal.Offset(numberAt(k, len(k)-8))
			return errors.Join(sw.W.Delete(k, nil), sw.W.Delete(offsetKey(tableStatus, p, o), nil), sw.W.Delete(nonceKey(p, n, o), nil))
		}))
		if err == nil && !enough {
			lo, _ = pebblestore.Span(tableDead, p)
			err = s.walk(lo, deadKey(p, max(dead, 0), 0, ""), look(func(k, _ []byte) error { return s.forgetDead(sw.W, p, k, dead) }))
		}
		more = enough
		return err
	})
	return tokens, more, err
}

// forgetDead forgets a dead delivery, and its message where no later one is dead and none waits.
func (s *Store) forgetDead(w *pebble.Batch, p wal.Partition, k []byte, before int64) error {
	at, err := deadPlaceOf(k)
	if err != nil {
		return err
	}
	st, err := readStatus(s.DB, p, at.Offset)
	if err != nil {
		return err
	}
	if st != nil && !st.Ended() { // another delivery of it waits: later
		return nil
	}
	parked, err := s.isParked(p, &at)
	if parked || err != nil { // its key waits for it, for as long as it takes
		return err
	}
	err = w.Delete(k, nil)
	if st == nil || slices.ContainsFunc(st.Targets, func(t delivery.TargetStatus) bool { return t.State == delivery.Dead && t.At >= before }) {
		return err
	}
	return errors.Join(
		err, w.Delete(offsetKey(tableBuried, p, at.Offset), nil), w.Delete(offsetKey(tableStatus, p, at.Offset), nil),
		w.Delete(nonceKey(p, st.Nonce, at.Offset), nil),
	)
}

// isParked reports whether the key of a dead delivery, whose message has ended, waits for it.
func (s *Store) isParked(p wal.Partition, at *delivery.DeadPlace) (parked bool, err error) {
	_, err = s.DB.View(offsetKey(tableBuried, p, at.Offset), func(v []byte) error {
		m, err := decodeMessage(at.Offset, v, false)
		parked = err == nil && aimAt(m, at.Target).Parks && !m.Keyless
		return err
	})
	return parked, err
}
