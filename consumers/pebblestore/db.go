package pebblestore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

// DB is the Pebble of a store that is open. Safe for concurrent use, inside of the
// calls of the store.
type DB struct {
	*pebble.DB
	Tokens *pebbletokens.Table // closed with the store

	name       string
	partitions int
	fail       *pebblefail.Failure
}

// Err returns why the store has failed, nil while it has not.
func (d *DB) Err() error { return d.fail.Err() }

// Fail ends the store. The first reason holds.
func (d *DB) Fail(err error) { d.fail.Fail(err) }

func (d *DB) failIfCorrupt(err error) {
	if errors.Is(err, wal.ErrCorrupt) {
		d.fail.Fail(err)
	}
}

// ReadError names what could not be read. Corruption ends the store.
func (d *DB) ReadError(what string, p wal.Partition, err error) error {
	err = fmt.Errorf("%s: partition %d: %w", what, p, pebblefail.Corrupt(err))
	d.failIfCorrupt(err)
	return err
}

// Change applies what f puts into a batch, all of it or nothing. It is durable after the next Sync.
func (d *DB) Change(f func(w *pebble.Batch) error) error {
	w := d.NewBatch()
	err := f(w)
	if err == nil {
		err = d.Apply(w)
	}
	return errors.Join(err, w.Close())
}

// DropTables removes all rows of tables, of every partition.
func (d *DB) DropTables(tables ...byte) error {
	return d.Change(func(w *pebble.Batch) (err error) {
		for p := range wal.Partition(d.partitions) {
			for _, table := range tables {
				lo, hi := Span(table, p)
				err = errors.Join(err, w.DeleteRange(lo, hi, nil))
			}
		}
		return err
	})
}

// Value returns a copy of a key's value, nil when there is none.
func (d *DB) Value(key []byte) (b []byte, err error) {
	_, err = d.View(key, func(v []byte) error {
		b = append(make([]byte, 0, len(v)), v...)
		return nil
	})
	return b, err
}

// View calls f with a key's value, which is valid during the call; found is false
// when there is none. An error of f is returned.
func (d *DB) View(key []byte, f func(v []byte) error) (found bool, err error) {
	v, c, err := d.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, pebblefail.Corrupt(err)
	}
	err = f(v)
	return true, errors.Join(err, pebblefail.Corrupt(c.Close()))
}

// Apply commits w, all of it or nothing; it is durable after the next Sync. After
// an error w must not be touched any more: Pebble may still be reading it, and
// what it holds may yet be there.
func (d *DB) Apply(w *pebble.Batch) error {
	return d.fail.Guard(func() error { return d.DB.Apply(w, pebble.NoSync) })
}

// Sync makes what was applied before durable, with one synced write behind it.
// It may be called from many goroutines, which then share the device's sync.
func (d *DB) Sync() error {
	return d.fail.Guard(func() error { return d.LogData(nil, pebble.Sync) })
}

// Each calls do at each key of a partition's in a table, in order. do keeps
// nothing of the iterator; its error ends the walk and is returned.
func (d *DB) Each(table byte, p wal.Partition, do func(*pebble.Iterator) error) error {
	lo, hi := Span(table, p)
	return d.Range(lo, hi, do)
}

// each is Each of the keys of lo <= key < hi.
// Range calls do with each row of lo <= key < hi, until it returns an error, which is returned as it is.
func (d *DB) Range(lo, hi []byte, do func(*pebble.Iterator) error) (err error) {
	it, err := d.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if err := do(it); err != nil {
			return err
		}
	}
	return it.Error()
}

// usage counts the parked queues, and looks up the rest.
func (d *DB) usage() (u consumers.Usage, err error) {
	for p := range wal.Partition(d.partitions) {
		u.Tokens += d.Tokens.Live(p)
		if err := d.Each(TableParked, p, func(*pebble.Iterator) error { u.Parked++; return nil }); err != nil {
			return u, d.ReadError("count parked queues", p, err)
		}
	}
	// Metrics takes Pebble's own lock, which a failed store may never give back.
	err = d.fail.Guard(func() error {
		u.DiskBytes = int64(d.Metrics().DiskSpaceUsage())
		return nil
	})
	if err != nil {
		return u, fmt.Errorf("read usage: %w", err)
	}
	return u, nil
}

// Close syncs and closes Pebble; it is for Close of the store. before closes what
// is still open in Pebble, and is not called where that cannot go on.
func (d *DB) Close(before func() error) error {
	d.Tokens.Close()
	err := d.Sync()
	closeErr := d.fail.Close(func() error { return errors.Join(before(), d.DB.Close()) })
	if err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", d.name, err)
	}
	return nil
}
