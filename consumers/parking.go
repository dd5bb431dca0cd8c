package consumers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/headwater-db/headwater/wal"
)

// ErrHeld means that too many records wait behind a poisonous key: its
// partition is held until the key is redriven or dropped.
var ErrHeld = errors.New("the queue of a parked key is full")

// ParkedError says that a key is parked: a record of it cannot be applied, and
// what came after waits behind it.
type ParkedError struct {
	Key    []byte
	Ref    wal.Ref // the record at the head of the queue
	Reason string
	// Appended: the write is in the log and takes effect when the key is redriven.
	Appended bool
}

func (e *ParkedError) Error() string {
	return fmt.Sprintf("key %.64q is parked behind record %s: %s", e.Key, e.Ref, e.Reason)
}

// ParkedQueue is the records of a key that wait behind a poisonous one, the
// first.
type ParkedQueue struct {
	Key      []byte    // routing key; empty when the record's could not be read
	Refs     []wal.Ref // in the order of the log
	Reason   string    // why the first cannot be applied
	Attempts int
}

// Err is the error that readers and writers of the key get.
func (q *ParkedQueue) Err() *ParkedError {
	return &ParkedError{Key: q.Key, Ref: q.Refs[0], Reason: q.Reason}
}

// ParkingConfig is what a Parking is made of. All but MaxParked is required.
type ParkingConfig struct {
	Partition wal.Partition
	Letters   DeadLetters
	// MaxParked is how many records may wait behind one poisonous key before its
	// partition is held. Default 100,000.
	MaxParked int
	// Save is called in the applier's goroutine whenever a queue changes, to put
	// it in the open batch; one without Refs is gone.
	Save func(*ParkedQueue)
	// Again applies a parked mutation once more, from the log, under its own
	// position, tokens and log time. poison: it still cannot be applied. err:
	// something else is in the way, and may pass.
	Again func(ctx context.Context, r wal.Ref) (poison, err error)
}

// Parking is the keys of one partition that are set aside because a record of
// theirs cannot be applied, each with what waits behind that record. An applier
// asks Queue before it applies a mutation: what is parked comes first.
//
// Find, Len and Lowest may be called at any time; all else belongs to the
// goroutine of the partition's applier. Memory is ahead of the store until the
// applier's batch is committed: after a batch that is not, Load.
type Parking struct {
	cfg ParkingConfig

	n      atomic.Int64            // len(queues): what is read most often is that nothing is parked
	mu     sync.Mutex              // guards queues, but for reads by their one writer
	queues map[string]*ParkedQueue // a queue does not change; it is replaced
}

// NewParking returns a Parking with nothing in it.
func NewParking(cfg ParkingConfig) *Parking {
	if cfg.MaxParked == 0 {
		cfg.MaxParked = 100_000
	}
	return &Parking{cfg: cfg, queues: make(map[string]*ParkedQueue)}
}

// Load replaces what is in memory with what the store has. It keeps queues.
func (k *Parking) Load(queues []ParkedQueue) {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.queues)
	for i := range queues {
		k.queues[string(queues[i].Key)] = &queues[i]
	}
	k.n.Store(int64(len(k.queues)))
}

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

// Lowest returns the lowest offset that only the log still holds for a parked
// key, NoOffset when nothing is parked. Retention stops there.
func (k *Parking) Lowest() wal.Offset {
	lowest := wal.NoOffset
	if k.n.Load() == 0 {
		return lowest
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, q := range k.queues {
		for _, r := range q.Refs {
			if lowest == wal.NoOffset || r.Offset < lowest {
				lowest = r.Offset
			}
		}
	}
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
	if last := q.Refs[len(q.Refs)-1]; last.Offset > r.Offset || last.Offset == r.Offset && last.Index >= r.Index {
		return nil // a record of which a part is queued comes by again
	}
	if len(q.Refs) >= k.cfg.MaxParked {
		return fmt.Errorf("%w: %d records wait behind %q", ErrHeld, len(q.Refs), q.Key)
	}
	k.set(&ParkedQueue{Key: q.Key, Refs: append(q.Refs[:len(q.Refs):len(q.Refs)], r), Reason: q.Reason, Attempts: q.Attempts})
	return nil
}

// set replaces a queue in memory and in the batch; an empty one is gone.
func (k *Parking) set(q *ParkedQueue) {
	k.cfg.Save(q)
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(q.Refs) == 0 {
		delete(k.queues, string(q.Key))
	} else {
		k.queues[string(q.Key)] = q
	}
	k.n.Store(int64(len(k.queues)))
}

// Park sets a key aside with the mutation that cannot be applied at its head:
// number index of e, or WholeRecord. The dead letter is durable before the
// parking is saved. Of a key that is parked already the mutation is enqueued.
func (k *Parking) Park(ctx context.Context, e *wal.Entry, index int, key []byte, logTime int64, cause error) error {
	ref := wal.Ref{Partition: k.cfg.Partition, Offset: e.Offset, Index: index}
	if q := k.Queue(key); q != nil {
		return k.Enqueue(q, ref)
	}
	letter := DeadLetter{
		Ref: ref, Key: bytes.Clone(key), Reason: "poison", Disposition: Parked, Detail: cause.Error(),
		Attempts: 1, LogTime: logTime, Record: bytes.Clone(e.Data),
	}
	if err := k.put(ctx, letter); err != nil {
		return err
	}
	k.set(&ParkedQueue{Key: letter.Key, Refs: []wal.Ref{ref}, Reason: cause.Error(), Attempts: 1})
	return nil
}

// Refuse writes the letters of mutations that were decided against and that
// nobody may be waiting for. Ref, Key, Reason, Detail and LogTime are the
// caller's; the rest is filled in.
func (k *Parking) Refuse(ctx context.Context, letters ...DeadLetter) error {
	for i := range letters {
		letters[i].Ref.Partition = k.cfg.Partition
		letters[i].Disposition, letters[i].Attempts = Refused, 1
	}
	return k.put(ctx, letters...)
}

func (k *Parking) put(ctx context.Context, letters ...DeadLetter) error {
	if err := k.cfg.Letters.Put(ctx, letters); err != nil {
		return fmt.Errorf("write dead letter %s: %w", letters[0].Ref, err)
	}
	return nil
}

// Control does what a control record asks for: it redrives what is parked under
// a key, or drops the head of its queue and redrives the rest. The letters of
// what becomes of them are durable before the queue is saved.
func (k *Parking) Control(ctx context.Context, e *wal.Entry, rec *wal.Record, logTime int64) error {
	c, err := DecodeControl(rec.Payload)
	if err != nil {
		// Nothing to park: a control record that says nothing asks for nothing.
		return k.Refuse(ctx, DeadLetter{
			Ref: wal.Ref{Offset: e.Offset}, Key: bytes.Clone(rec.RoutingKey), Reason: "bad_control",
			Detail: err.Error(), LogTime: logTime, Record: bytes.Clone(e.Data),
		})
	}
	q := k.Queue(c.Key)
	if q == nil {
		return nil // done before, or never parked by this build
	}
	refs := q.Refs
	if c.Op == OpDrop {
		if refs[0] != c.Ref {
			return nil
		}
		if err := k.letter(ctx, q, refs[0], Dropped, "", c.By, logTime); err != nil {
			return err
		}
		refs = refs[1:]
	}
	return k.redrive(ctx, q, refs, c, logTime)
}

// redrive applies refs in order until one cannot be applied, which becomes the
// head of the queue again.
func (k *Parking) redrive(ctx context.Context, q *ParkedQueue, refs []wal.Ref, c *Control, logTime int64) error {
	for i, r := range refs {
		poison, err := k.cfg.Again(ctx, r)
		if err != nil {
			return fmt.Errorf("redrive %s: %w", r, err)
		}
		if poison != nil {
			next := &ParkedQueue{Key: q.Key, Refs: append([]wal.Ref(nil), refs[i:]...), Reason: poison.Error(), Attempts: q.Attempts + 1}
			if err := k.letter(ctx, next, r, Parked, poison.Error(), c.By, logTime); err != nil {
				return err
			}
			k.set(next)
			return nil
		}
		if i == 0 && c.Op == OpRedrive {
			if err := k.letter(ctx, q, r, Redriven, "", c.By, logTime); err != nil {
				return err
			}
		}
	}
	k.set(&ParkedQueue{Key: q.Key})
	return nil
}

func (k *Parking) letter(ctx context.Context, q *ParkedQueue, r wal.Ref, d Disposition, detail, by string, logTime int64) error {
	l := DeadLetter{Ref: r, Key: q.Key, Reason: "poison", Disposition: d, Detail: detail, Attempts: q.Attempts, LogTime: logTime, By: by}
	if d == Redriven {
		l.Attempts++
	}
	return k.put(ctx, l)
}
