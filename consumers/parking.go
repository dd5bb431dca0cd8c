package consumers

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/headwater-db/headwater/wal"
)

// ParkingConfig is what a Parking is made of. All but MaxParked is required.
type ParkingConfig struct {
	Partition wal.Partition
	Letters   DeadLetters
	// MaxParked is how many records may wait behind one poisonous key before its
	// partition is held. Default 100,000.
	MaxParked int
	// Save is called in the applier's goroutine for each change of a queue, to put
	// it in the open batch. Save may keep the change; what its fields
	// point to does not change.
	Save func(*ParkedChange)
	// Log has the records that are parked.
	Log wal.Log
	// Again applies a parked mutation once more, from the log, under its own
	// position, tokens and log time. poison: it still cannot be applied. err:
	// something else is in the way, and may pass.
	Again func(ctx context.Context, r wal.Ref) (poison, err error)
}

// Parking is the keys of one partition that are set aside because a record of
// theirs cannot be applied, each with what waits behind that record, and the dead
// letters that are not written yet. An applier asks Queue before it applies a
// mutation: what is parked comes first. It calls Flush before it commits a batch
// or tells anybody how far it is: no parking is saved before its letter.
//
// Find, Heads, Len, Lowest and LowestAt may be called at any time; all else
// belongs to the goroutine of the partition's applier. Memory is ahead of the
// store until the applier's batch is committed: after a batch that is not, Load.
type Parking struct {
	cfg     ParkingConfig
	letters []DeadLetter // not written yet
	redrive redrive

	n       atomic.Int64            // len(queues): what is read most often is that nothing is parked
	version atomic.Uint64           // see Version
	mu      sync.Mutex              // guards queues, but for reads by their one writer
	queues  map[string]*ParkedQueue // the elements of Refs do not change, only its ends
}

// NewParking returns a Parking with nothing in it.
func NewParking(cfg ParkingConfig) *Parking {
	if cfg.MaxParked == 0 {
		cfg.MaxParked = 100_000
	}
	k := &Parking{cfg: cfg, queues: make(map[string]*ParkedQueue)}
	k.version.Store(rand.Uint64() >> 1)
	return k
}

// Load replaces what is in memory with what the store has, and forgets the
// letters that are not written: what they tell of is applied again. It keeps
// queues.
func (k *Parking) Load(queues []ParkedQueue) {
	k.letters = nil
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.queues)
	for i := range queues {
		k.queues[string(queues[i].Key)] = &queues[i]
	}
	k.resized()
}

// resized notes that other keys are parked than before. The caller holds mu.
func (k *Parking) resized() {
	k.n.Store(int64(len(k.queues)))
	k.version.Add(1)
}

// Version changes whenever other keys are parked, and is never that of another Parking, as far as 63
// random bits tell. Any goroutine.
func (k *Parking) Version() uint64 { return k.version.Load() }

// Len is how many keys are parked.
func (k *Parking) Len() int { return int(k.n.Load()) }

// Find returns the queue of a key, and whether it is parked. The caller changes
// nothing in it.
func (k *Parking) Find(key []byte) (q ParkedQueue, ok bool) {
	if k.n.Load() == 0 {
		return ParkedQueue{}, false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if cur := k.queues[string(key)]; cur != nil {
		return *cur, true
	}
	return ParkedQueue{}, false
}

// Heads calls f with each queue, in no order. f changes nothing in it and does
// not come back here.
func (k *Parking) Heads(f func(*ParkedQueue)) {
	if k.n.Load() == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, q := range k.queues {
		f(q)
	}
}

// Lowest returns the lowest offset that only the log still holds for a parked
// key, NoOffset when nothing is parked. Retention stops there.
func (k *Parking) Lowest() wal.Offset {
	return k.lowest(func(q *ParkedQueue) wal.Offset { return q.Refs[0].Offset })
}

// LowestAt returns the lowest ParkedHead.At, NoOffset when nothing is parked. The
// letters of what is parked were decided there or later.
func (k *Parking) LowestAt() wal.Offset {
	return k.lowest(func(q *ParkedQueue) wal.Offset { return q.At })
}

func (k *Parking) lowest(of func(*ParkedQueue) wal.Offset) wal.Offset {
	lowest := wal.NoOffset
	k.Heads(func(q *ParkedQueue) {
		if o := of(q); lowest == wal.NoOffset || o < lowest {
			lowest = o
		}
	})
	return lowest
}

// Queue returns the queue that a mutation of key must wait in, or nil.
func (k *Parking) Queue(key []byte) *ParkedQueue {
	if len(k.queues) == 0 {
		return nil
	}
	return k.queues[string(key)]
}

// Enqueue puts a mutation at the end of a queue that Queue returned. ErrHeld when
// the queue is full: the partition stops in front of the record.
func (k *Parking) Enqueue(q *ParkedQueue, r wal.Ref) error {
	if q.Refs[len(q.Refs)-1].Compare(r) >= 0 {
		return nil // a record of which a part is queued comes by again
	}
	if len(q.Refs) >= k.cfg.MaxParked {
		return fmt.Errorf("%w: %d records wait behind %q", ErrHeld, len(q.Refs), q.Key)
	}
	k.cfg.Save(&ParkedChange{Op: ParkedAdd, Key: q.Key, Ref: r})
	k.mu.Lock()
	q.Refs = append(q.Refs, r)
	k.mu.Unlock()
	return nil
}

// Park sets a key aside with the mutation that cannot be applied at its head:
// number index of e, or WholeRecord. Of a key that is parked already the mutation
// is enqueued.
func (k *Parking) Park(e *wal.Entry, index int, key []byte, logTime int64, cause error) error {
	ref := wal.Ref{Partition: k.cfg.Partition, Offset: e.Offset, Index: index}
	if q := k.Queue(key); q != nil {
		return k.Enqueue(q, ref)
	}
	q := &ParkedQueue{
		Key: bytes.Clone(key), Refs: []wal.Ref{ref},
		ParkedHead: ParkedHead{Reason: cause.Error(), Attempts: 1, At: e.Offset, LogTime: logTime},
	}
	k.parkedLetter(q, e)
	k.begin(q)
	return nil
}

// parkedLetter keeps the letter of a key that is parked at its first record, e.
func (k *Parking) parkedLetter(q *ParkedQueue, e *wal.Entry) {
	k.keep(&DeadLetter{
		Ref: q.Refs[0], Key: q.Key, Reason: ReasonPoison, Disposition: Parked, Detail: q.Reason,
		Attempts: q.Attempts, LogTime: q.LogTime, At: q.At, Record: bytes.Clone(e.Data),
	})
}

// begin parks a key that is not parked.
func (k *Parking) begin(q *ParkedQueue) {
	k.cfg.Save(&ParkedChange{Op: ParkedBegin, Key: q.Key, Head: q.ParkedHead})
	for _, r := range q.Refs {
		k.cfg.Save(&ParkedChange{Op: ParkedAdd, Key: q.Key, Ref: r})
	}
	k.mu.Lock()
	k.queues[string(q.Key)] = q
	k.resized()
	k.mu.Unlock()
}

// advance takes the first n refs out of a queue; all of them end it.
func (k *Parking) advance(q *ParkedQueue, n int) {
	k.mu.Lock()
	refs := q.Refs[n:]
	if len(refs) == 0 {
		delete(k.queues, string(q.Key))
		k.resized()
	} else {
		q.Refs = refs
	}
	k.mu.Unlock()
	if len(refs) == 0 {
		k.cfg.Save(&ParkedChange{Op: ParkedGone, Key: q.Key})
	} else if n > 0 {
		k.cfg.Save(&ParkedChange{Op: ParkedBelow, Key: q.Key, Ref: refs[0]})
	}
}

// again makes the first of a queue one that could not be applied once more.
func (k *Parking) again(q *ParkedQueue, h ParkedHead) {
	k.mu.Lock()
	q.ParkedHead = h
	k.mu.Unlock()
	k.cfg.Save(&ParkedChange{Op: ParkedAgain, Key: q.Key, Head: h})
}
