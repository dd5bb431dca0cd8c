package pebbletokens

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// Rebuild starts a goroutine that reads the entries of the loaded buckets back
// into filters: until it is through, look-ups in those buckets read Pebble. It is
// called once, after the last Load. Close waits for it.
func (t *Table) Rebuild() {
	t.once.Do(func() {
		found := make([][]*bucket, len(t.parts))
		for p := range t.parts {
			found[p] = t.parts[p].list()
		}
		go t.rebuild(found)
	})
}

func (t *Table) rebuild(found [][]*bucket) {
	defer close(t.rebuilt)
	for p, list := range found {
		// Newest first: those are asked for most, and have first call on the budget.
		for i := len(list) - 1; i >= 0; i-- {
			err := t.rebuildFilter(t.ctx, wal.Partition(p), list[i])
			if t.ctx.Err() != nil {
				return
			}
			if err != nil {
				t.cfg.OnError(fmt.Errorf("rebuild token filter: partition %d: %w", p, asCorrupt(err)))
				return
			}
		}
	}
}

func (t *Table) rebuildFilter(ctx context.Context, p wal.Partition, b *bucket) error {
	lo, hi := bucketSpan(t.cfg.Table, p, b.id)
	// An iterator keeps memtables and files alive, so it is not held for long.
	const perIterator = 1 << 16
	for {
		it, err := t.cfg.DB.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
		if err != nil {
			return err
		}
		n := 0
		for ok := it.First(); ok && n < perIterator && ctx.Err() == nil; ok = it.Next() {
			k := it.Key()
			if len(k) != keyLen {
				err := fmt.Errorf("%w: key of a token of %d bytes", wal.ErrCorrupt, len(k))
				return errors.Join(err, it.Close())
			}
			b.filter.add(idHash((*wal.TokenID)(k[tableLen+bucketLen:])))
			lo = append(append(lo[:0], k...), 0)
			n++
		}
		if err := it.Close(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if n < perIterator {
			b.filter.rebuilt()
			return nil
		}
	}
}

// Rebuilt is closed when nothing is read back any more: it is all in memory, or
// it failed (then OnError was told first), or the table was closed.
func (t *Table) Rebuilt() <-chan struct{} { return t.rebuilt }

// Close stops the reading back and waits for it. It comes before the close of
// Pebble and after Rebuild, if there is one; look-ups and changes stay right until
// Pebble is closed. A second Close does nothing.
func (t *Table) Close() {
	t.stop()
	t.once.Do(func() { close(t.rebuilt) })
	<-t.rebuilt
}
