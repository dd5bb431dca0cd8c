package consumers

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// LetterKeep says which letters stay in the topic.
type LetterKeep struct {
	// Since: what was written later stays, microseconds since 1970, unless it is more
	// than Bytes.
	Since int64
	Bytes int64
	// Decided: what was decided of a partition there or later stays in any case.
	Decided map[wal.Partition]wal.Offset
}

// Trim frees the oldest letters that need not stay; see Trimmed. What leaves is
// counted in the topic itself before it goes: after a crash in between the next
// call frees it.
func (d *DeadLetterLog) Trim(ctx context.Context, keep LetterKeep) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if err := d.settle(ctx); err != nil {
		return err
	}
	b, err := d.log.Bounds(ctx, 0)
	if err != nil {
		return fmt.Errorf("bounds of dead letters: %w", err)
	}
	if err := d.readOn(ctx, b.End); err != nil {
		return err
	}
	if now := d.known(); now.start > b.Start { // counted, and then there was a crash
		return d.trimLog(ctx, now.start)
	}
	to, err := d.trimTo(ctx, &b, &keep)
	if err != nil || to.offset <= b.Start {
		return err
	}
	now := d.known()
	if to.total.first == now.left.first && to.total.bytes-now.left.bytes < tallyEveryBytes && to.offset-b.Start < tallyEveryEntries {
		return nil // not worth a tally, which is an entry itself
	}
	now.left, now.start = to.total, to.offset
	if err := d.write(ctx, appendTally(nil, &now)); err != nil {
		return err
	}
	return d.trimLog(ctx, to.offset)
}

func (d *DeadLetterLog) trimLog(ctx context.Context, to wal.Offset) error {
	if err := d.log.Trim(ctx, 0, to); err != nil {
		return fmt.Errorf("trim dead letters to %d: %w", to, err)
	}
	return nil
}

// trimTo returns the tally of the place below which everything may go.
func (d *DeadLetterLog) trimTo(ctx context.Context, b *wal.Bounds, keep *LetterKeep) (tally, error) {
	old, err := d.log.OffsetAt(ctx, 0, keep.Since)
	if err != nil {
		return tally{}, fmt.Errorf("offset of dead letters: %w", err)
	}
	now := d.known()
	total := now.total.bytes
	if old <= b.Start && total-now.left.bytes <= keep.Bytes {
		return tally{offset: b.Start}, nil
	}
	goes := func(t *tally) bool {
		return (t.offset <= old || total-t.total.bytes > keep.Bytes) && t.below(keep.Decided)
	}
	to, err := d.seek(ctx, b, goes)
	if err != nil {
		return tally{}, err
	}
	if to.offset == b.Start {
		to.total = now.left
	}
	t := to.clone() // and from there on, entry by entry
	err = d.read(ctx, t.offset, b.End, func(e *letterEntry) error {
		if e.offset >= old && total-t.total.bytes <= keep.Bytes {
			return errEnough
		}
		next := t.clone()
		if err := next.fold(e, nil); err != nil {
			return err
		}
		if !next.below(keep.Decided) {
			return errEnough
		}
		t = next
		return nil
	})
	return t, err
}
