package pebblelog

import (
	"fmt"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// inFlightGroups is how many groups may be written and not yet synced. One is
// being synced while the next is written; more would only make groups smaller.
const inFlightGroups = 2

type inFlight struct {
	g     *group
	batch *pebble.Batch
	began time.Duration
}

// commitLoop takes groups, gives their records offsets and times, and hands them
// to Pebble. It is the only goroutine that moves partition.next.
func (b *Broker) commitLoop() {
	defer close(b.inFlight)
	for {
		g, ok := b.takeGroup()
		if !ok {
			return
		}
		batch := b.encode(g)
		close(g.copied)
		if b.fault.Err() != nil {
			return // its callers see the failure; nothing of it was written
		}
		b.checkSpaceAfter(int64(batch.Len()))
		f := inFlight{g: g, batch: batch, began: b.clock.elapsed()}
		if err := b.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
			b.fault.Fail(fmt.Errorf("commit: %w", err))
			return
		}
		b.inFlight <- f
	}
}

// takeGroup returns the next group, or false when there is none and none will
// come.
func (b *Broker) takeGroup() (*group, bool) {
	for {
		// The callers that the last sync woke come along: without it a group of one,
		// and then one of the others, are written for the same sync. One that is no
		// smaller than the last is not worth waiting for a turn of the scheduler,
		// which is long where something else has all the CPU.
		if n := b.queue.firstParts(); n > 0 && 2*n <= b.lastParts {
			runtime.Gosched()
		}
		g, stopped := b.queue.take()
		if g != nil {
			b.lastParts = len(g.parts)
			return g, true
		}
		if stopped {
			return nil, false
		}
		select {
		case <-b.queue.more:
		case <-b.stopping:
		case <-b.fault.Failed():
		}
	}
}

// encode writes the group's records into one batch, straight into its memory.
func (b *Broker) encode(g *group) *pebble.Batch {
	batch := b.db.NewBatchWithSize(int(g.bytes))
	now := b.clock.micros()
	for _, p := range g.parts {
		if p.withdrawn {
			continue // taken is set, so this can't change any more
		}
		if p.t.deleted.Load() {
			p.settle(fmt.Errorf("%w: %w", wal.ErrNotAppended, p.t.errDeleted()))
			continue
		}
		for i := range p.entries {
			if p.results != nil && p.results[i].Err != nil {
				continue
			}
			e := &p.entries[i]
			ps := p.t.parts[e.Partition]
			o := ps.next
			ps.next++
			op := batch.SetDeferred(recordKeySize, frameHeader+len(e.Data))
			putRecordKey(op.Key, p.t.id, e.Partition, o)
			putFrame(op.Value, ps.seed, op.Key[offsetInKey:], now, e.Data)
			if err := op.Finish(); err != nil {
				panic(fmt.Sprintf("pebblelog: add to batch: %v", err)) // only an indexed batch can fail
			}
			if p.results != nil {
				p.results[i].Offset, p.results[i].LogTime = o, now
			}
			if ps.mark >= len(g.ends) || g.ends[ps.mark].ps != ps {
				ps.mark = len(g.ends)
				g.ends = append(g.ends, endMark{ps: ps, followed: ps.followed.Load()})
			}
			m := &g.ends[ps.mark]
			m.end = ps.next
			m.keep(wal.Entry{Partition: e.Partition, Offset: o, LogTime: now, Data: e.Data})
		}
	}
	return batch
}

// finishLoop waits for the syncs in order, moves the durable ends, and tells the
// callers.
func (b *Broker) finishLoop() {
	for f := range b.inFlight {
		err := f.batch.SyncWait()
		if err != nil {
			b.fault.Fail(fmt.Errorf("sync: %w", err))
		}
		// After a failed sync nothing is acknowledged, not even what a later sync
		// says is on disk: the kernel may have dropped the pages in between.
		if b.fault.Err() == nil {
			b.metrics.fsync.Observe((b.clock.elapsed() - f.began).Seconds())
			for i := range f.g.ends {
				f.g.ends[i].ps.advance(&f.g.ends[i])
			}
			b.ends.dirty.Store(true)
			b.queue.finish(f.g, nil)
		}
		if err == nil {
			if cerr := f.batch.Close(); cerr != nil {
				b.fault.Fail(fmt.Errorf("close batch: %w", cerr))
			}
		}
	}
}

// flush returns once every group that was in the queue at the call is finished
// or the log has failed.
func (b *Broker) flush() error {
	q := &b.queue
	q.mu.Lock()
	if q.stopped != nil {
		err := q.stopped
		q.mu.Unlock()
		return err
	}
	// An empty group of its own, behind all others.
	g := newGroup()
	q.groups = append(q.groups, g)
	q.mu.Unlock()
	q.wake()
	<-g.done
	return g.err
}
