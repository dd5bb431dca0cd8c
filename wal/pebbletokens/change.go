package pebbletokens

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// Change is what one Pebble batch does to the table of a partition: entries that
// it adds, buckets that it evicts, and the state that goes with them. It ends
// with Committed or Discard and can then be filled again, for the next batch. It
// belongs to one goroutine at a time; different changes of a partition may be at
// different steps at the same time, as long as their batches are applied in the
// order of AppendState.
type Change struct {
	t *Table
	p wal.Partition

	into    []additions // the buckets that it has entries for
	cur     *additions  // of into: the one of the last entry
	evicted []*bucket
	counted bool // its entries are in the counts of their buckets
}

type additions struct {
	b *bucket
	n int64
}

// NewChange returns an empty change of a partition. A store makes one for each
// batch that it may have open at a time, and uses it again and again.
func (t *Table) NewChange(p wal.Partition) *Change { return &Change{t: t, p: p} }

// Add puts an entry of size bytes into w, and the key is written already: the
// caller fills Value of what it returns and calls Finish, before it does
// anything else with w. logTime is in microseconds.
//
// The identity is in the filter when Add returns, so it is there before the entry is
// visible. A change that is then discarded leaves it there, which costs its
// look-ups a read.
func (c *Change) Add(w *pebble.Batch, n *wal.TokenID, logTime int64, size int) *pebble.DeferredBatchOp {
	b := c.bucket(logTime)
	op := w.SetDeferred(keyLen, size)
	appendKey(op.Key[:0], c.t.cfg.Table, c.p, b.id, n)
	b.filter.add(idHash(n))
	return op
}

// bucket returns the bucket of a log time, and counts one entry for it. Neighbours
// are mostly of one bucket, which is then found without a lock: it cannot go while
// the change is open.
func (c *Change) bucket(logTime int64) *bucket {
	exp := uint8(c.t.exp.Load())
	if c.cur == nil || c.cur.b.id.exp != exp || !c.cur.b.id.has(logTime) {
		c.enter(bucketOf(logTime, exp))
	}
	c.cur.n++
	return c.cur.b
}

func (c *Change) enter(id bucketID) {
	for i := range c.into {
		if c.into[i].b.id == id {
			c.cur = &c.into[i]
			return
		}
	}
	part := &c.t.parts[c.p]
	part.mu.Lock()
	b := part.openLocked(c.t, id)
	b.changes++
	part.mu.Unlock()
	c.into = append(c.into, additions{b: b})
	c.cur = &c.into[len(c.into)-1]
}

// Evict puts into w the deletion of every bucket that lies wholly before horizon,
// in microseconds of log time: one range deletion each. It returns how many
// buckets and about how many entries those are. A bucket that a change has
// entries for which is not ended stays until the next time. Where buckets is not
// 0, AppendState of the same change must go into w too.
func (c *Change) Evict(w *pebble.Batch, horizon int64) (buckets int, entries int64, err error) {
	part := &c.t.parts[c.p]
	part.mu.Lock()
	defer part.mu.Unlock()
	for _, b := range part.list() {
		if b.id.end() > horizon || b.changes > 0 || b.evicting {
			continue
		}
		lo, hi := bucketSpan(c.t.cfg.Table, c.p, b.id)
		if err := w.DeleteRange(lo, hi, nil); err != nil {
			return buckets, entries, err
		}
		b.evicting = true
		c.evicted = append(c.evicted, b)
		buckets++
		entries += b.count.Load()
	}
	return buckets, entries, nil
}

// AppendState appends the list of the partition's buckets as of this change, for
// the caller to save in the change's batch, and for Load. It is called once for
// each commit, also for one without tokens if that saves the state at all, and
// after the last Add and Evict. Batches of a partition are applied in the order
// of these calls. It fails when there are more than 65535 buckets, and then
// the change is to be discarded.
func (c *Change) AppendState(dst []byte) ([]byte, error) {
	part := &c.t.parts[c.p]
	part.mu.Lock()
	defer part.mu.Unlock()
	c.countLocked(1)
	head := len(dst)
	dst = append(dst, 0, 0)
	n := 0
	for _, b := range part.list() {
		if b.evicting && c.evicts(b) {
			continue
		}
		n++
		dst = binary.BigEndian.AppendUint64(dst, uint64(b.id.start))
		dst = append(dst, b.id.exp)
		dst = binary.BigEndian.AppendUint64(dst, uint64(b.count.Load()))
	}
	if n > math.MaxUint16 {
		return dst[:head], fmt.Errorf("save token buckets: partition %d has %d", c.p, n)
	}
	binary.BigEndian.PutUint16(dst[head:], uint16(n))
	return dst, nil
}

// countLocked adds the entries to the counts, or takes them back.
func (c *Change) countLocked(sign int64) {
	if c.counted == (sign > 0) {
		return
	}
	c.counted = sign > 0
	for _, a := range c.into {
		a.b.count.Add(sign * a.n)
	}
}

func (c *Change) evicts(b *bucket) bool {
	for _, e := range c.evicted {
		if e == b {
			return true
		}
	}
	return false
}

// Committed ends the change after its batch was applied. Buckets that it evicts
// are forgotten.
func (c *Change) Committed() {
	part := &c.t.parts[c.p]
	part.mu.Lock()
	defer part.mu.Unlock()
	c.countLocked(1)
	if len(c.evicted) > 0 {
		part.removeLocked(c.evicted)
	}
	c.endLocked()
}

// Discard ends the change when its batch was not applied, or when nobody knows:
// should it be there after all, its entries are found and those it evicted are
// not. On a change that is empty or has ended it does nothing.
func (c *Change) Discard() {
	if len(c.into) == 0 && len(c.evicted) == 0 {
		c.counted = false
		return
	}
	part := &c.t.parts[c.p]
	part.mu.Lock()
	defer part.mu.Unlock()
	c.countLocked(-1)
	for _, b := range c.evicted {
		b.evicting = false
	}
	c.endLocked()
}

func (c *Change) endLocked() {
	for i := range c.into {
		c.into[i].b.changes--
	}
	clear(c.into)
	clear(c.evicted)
	c.into, c.evicted, c.cur, c.counted = c.into[:0], c.evicted[:0], nil, false
}
