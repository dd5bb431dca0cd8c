package ledger

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// The tables of a store that has its events here too. They are named here, because a copy of
// such a store is what a store with its events elsewhere may begin with.
const (
	TableEvent = 'e'
	TableName  = 'n' // of series
	TableIndex = 'i' // of events by items
	TableStale = 'g' // slices whose index has rows of events that were deleted
)

// DropEvents removes the events that a copied ledger has.
func (l *Ledger) DropEvents(ctx context.Context) error {
	err := l.DB.DropTables(TableEvent, TableName, TableIndex, TableStale)
	if err != nil {
		return fmt.Errorf("drop the events of a copy: %w", err)
	}
	_, err = l.Sync(ctx)
	return err
}

// merger makes one event of what was added under its identity.
var merger = &pebble.Merger{
	Name: "headwater.timeseries.v1",
	Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		return &merge{buf: slices.Clone(value)}, nil
	},
}

// merge is the items so far. The items of the older operand hold.
type merge struct{ buf, next []byte }

func (m *merge) MergeNewer(value []byte) error { return m.union(m.buf, value) }
func (m *merge) MergeOlder(value []byte) error { return m.union(value, m.buf) }

func (m *merge) union(first, second []byte) (err error) {
	if m.next, err = timeseries.MergeItems(m.next[:0], first, second); err != nil {
		return fmt.Errorf("%w: %w", wal.ErrCorrupt, err)
	}
	m.buf, m.next = m.next, m.buf
	return nil
}

func (m *merge) Finish(bool) ([]byte, io.Closer, error) { return m.buf, nil, nil }
