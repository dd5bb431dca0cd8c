package pebblelog

import (
	"bytes"

	"github.com/headwater-db/headwater/wal"
)

const (
	// tailBytes bounds what a partition keeps for a reader that follows it. A reader
	// that is further behind reads the store.
	tailBytes = 256 << 10
	// tailRecordBytes is where a record is no longer worth a copy.
	tailRecordBytes = 64 << 10
)

// tail is the records of a partition that were synced since its reader last came
// to the end, in memory: an applier that keeps up with the log opens an iterator
// for every few records otherwise, which was a twentieth of the CPU of a single
// put. All is guarded by partition.mu but followed.
//
// It holds copies, so a record that is read from it needs no check of its bytes;
// it is checked whenever it is read from the store.
type tail struct {
	entries []wal.Entry // of consecutive offsets, all below the durable end
	bytes   int
}

// keep makes copies of a record of the group for the tail. A record that is too
// large ends what the group keeps.
func (m *endMark) keep(e wal.Entry) {
	if !m.followed {
		return
	}
	if len(e.Data) > tailRecordBytes || m.bytes+len(e.Data) > tailBytes {
		m.followed, m.kept, m.bytes = false, nil, 0
		return
	}
	e.Data = bytes.Clone(e.Data)
	m.kept = append(m.kept, e)
	m.bytes += len(e.Data) + entryOverhead
}

// add appends what a group kept, which is synced. The caller holds partition.mu.
func (t *tail) add(m *endMark) {
	if n := len(t.entries); n > 0 && (len(m.kept) == 0 || t.entries[n-1].Offset+1 != m.kept[0].Offset || t.bytes+m.bytes > tailBytes) {
		*t = tail{} // what came since would leave a gap, or its reader is slow
	}
	t.entries = append(t.entries, m.kept...)
	t.bytes += m.bytes
}

// takeTail takes the records from offset at to the durable end out of the tail,
// and is nil when they are not all there. They belong to the caller.
func (ps *partition) takeTail(at wal.Offset) []wal.Entry {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	n := len(ps.tail.entries)
	if n == 0 {
		return nil
	}
	i := int64(at) - int64(ps.tail.entries[0].Offset)
	if i < 0 {
		return nil // the reader finds the older ones in the store first
	}
	entries := ps.tail.entries
	ps.tail = tail{}
	if i >= int64(n) {
		return nil
	}
	return entries[i:]
}

// unfollow lets go of the tail. Another reader that follows asks for one again
// when it next waits.
func (ps *partition) unfollow() {
	ps.followed.Store(false)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.tail = tail{}
}
