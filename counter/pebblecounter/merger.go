package pebblecounter

import (
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
)

// mergerName is part of the data format: Pebble refuses a directory that was
// written with another.
const mergerName = "headwater.counter.v1"

// merger sums windows and bases when they are read or compacted, so that a write
// never has to read. Both sums are associative; that of bases goes by the order
// of the writes.
var merger = &pebble.Merger{
	Name: mergerName,
	Merge: func(key, value []byte) (pebble.ValueMerger, error) {
		if len(key) == 0 {
			return nil, errBadKey
		}
		switch key[0] {
		case tableWindow:
			b, err := rowcodec.DecodeWindow(value)
			if err != nil {
				return nil, err
			}
			m := windowMerges.Get().(*windowMerge)
			m.sum = b
			return m, nil
		case tableBase:
			b, err := decodeBase(value)
			if err != nil {
				return nil, err
			}
			m := baseMerges.Get().(*baseMerge)
			m.sum = b
			return m, nil
		}
		return nil, errBadKey
	},
}

// A merge is used by one goroutine and goes back to its pool when the result is
// closed.
var (
	windowMerges = sync.Pool{New: func() any { return new(windowMerge) }}
	baseMerges   = sync.Pool{New: func() any { return new(baseMerge) }}
)

type windowMerge struct {
	sum counter.Bucket
	buf []byte
}

func (m *windowMerge) MergeNewer(value []byte) error { return m.add(value) }
func (m *windowMerge) MergeOlder(value []byte) error { return m.add(value) }

func (m *windowMerge) add(value []byte) error {
	b, err := rowcodec.DecodeWindow(value)
	m.sum.Merge(b)
	return err
}

func (m *windowMerge) Finish(bool) ([]byte, io.Closer, error) {
	m.buf = rowcodec.AppendWindow(m.buf[:0], &m.sum)
	return m.buf, m, nil
}

func (m *windowMerge) Close() error {
	windowMerges.Put(m)
	return nil
}

type baseMerge struct {
	sum counter.Base
	buf []byte
}

func (m *baseMerge) MergeNewer(value []byte) error {
	b, err := decodeBase(value)
	m.sum.Merge(b)
	return err
}

func (m *baseMerge) MergeOlder(value []byte) error {
	b, err := decodeBase(value)
	b.Merge(m.sum)
	m.sum = b
	return err
}

func (m *baseMerge) Finish(bool) ([]byte, io.Closer, error) {
	m.buf = appendBase(m.buf[:0], &m.sum)
	return m.buf, m, nil
}

func (m *baseMerge) Close() error {
	baseMerges.Put(m)
	return nil
}
