package ledger

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// mergerName is part of the data format: Pebble refuses a directory that was
// written with another.
const mergerName = "headwater.kv.v1"

// SummaryLen is the length of the row of kind KindSummary: the newest record tombstone, and the
// newest range tombstone that there ever was.
const SummaryLen = 2 * wal.VersionSize

// merger decides between the writes of one key when it is read or compacted, so
// that a write never has to read. Of cells the largest version wins, of equal
// ones the later call; of summaries each half by itself. Both are associative.
var merger = &pebble.Merger{
	Name: mergerName,
	Merge: func(key, value []byte) (pebble.ValueMerger, error) {
		_, kind, _, err := SplitRecordKey(key)
		if err != nil {
			return nil, fmt.Errorf("%w: merge of a %w", wal.ErrCorrupt, err)
		}
		m := mergers.Get().(*merge)
		m.buf = append(m.buf[:0], value...)
		m.summary = kind == KindSummary
		return m, m.check(value)
	},
}

var mergers = sync.Pool{New: func() any { return new(merge) }}

// merge is the winner so far. It is used by one goroutine and goes back to the
// pool when the result is closed.
type merge struct {
	buf     []byte
	summary bool
}

func (m *merge) check(value []byte) error {
	if len(value) < wal.VersionSize || (m.summary && len(value) != SummaryLen) {
		return fmt.Errorf("%w: merge operand of %d bytes", wal.ErrCorrupt, len(value))
	}
	return nil
}

func (m *merge) MergeNewer(value []byte) error { return m.add(value, true) }
func (m *merge) MergeOlder(value []byte) error { return m.add(value, false) }

func (m *merge) add(value []byte, newer bool) error {
	if err := m.check(value); err != nil {
		return err
	}
	if m.summary {
		for i := 0; i < SummaryLen; i += wal.VersionSize {
			if bytes.Compare(value[i:i+wal.VersionSize], m.buf[i:i+wal.VersionSize]) > 0 {
				copy(m.buf[i:], value[i:i+wal.VersionSize])
			}
		}
		return nil
	}
	c := bytes.Compare(value[:wal.VersionSize], m.buf[:wal.VersionSize])
	if c > 0 || (c == 0 && newer) {
		m.buf = append(m.buf[:0], value...)
	}
	return nil
}

func (m *merge) Finish(bool) ([]byte, io.Closer, error) { return m.buf, m, nil }

// Close gives the merge back. A large buffer is not kept: the pool would hold on
// to as many as there are readers.
func (m *merge) Close() error {
	if cap(m.buf) > 64<<10 {
		m.buf = nil
	}
	mergers.Put(m)
	return nil
}
