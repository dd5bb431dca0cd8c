package consumers

import (
	"errors"
	"fmt"
	"slices"

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
	Key  []byte    // routing key; empty when the record's could not be read
	Refs []wal.Ref // in the order of the log, of one partition
	ParkedHead
}

// ParkedHead is what is known of the first record of a queue.
type ParkedHead struct {
	Reason   string // why it cannot be applied
	Attempts int
	// At and LogTime (microseconds since 1970) are those of the record that was in
	// hand when this was last found out: the record itself, or a control record.
	At      wal.Offset
	LogTime int64
}

// Err is the error that readers and writers of the key get.
func (q *ParkedQueue) Err() *ParkedError {
	return &ParkedError{Key: q.Key, Ref: q.Refs[0], Reason: q.Reason}
}

// ParkedOp is how a parked queue changes.
type ParkedOp uint8

// The changes of a parked queue. A store keeps a row for the head of a queue and
// one for each ref, so that each change costs the same however long the queue is.
const (
	ParkedBegin ParkedOp = iota // the queue is new; Head is as given, Ref comes next
	ParkedAgain                 // the queue is there; Head is as given
	ParkedAdd                   // Ref is at its end
	ParkedBelow                 // the refs below Ref are gone; Ref is there
	ParkedGone                  // the queue is gone, with its refs
)

// ParkedChange is one change of the queue of Key. Example: a key is parked with
// one record behind it by Begin, Add, Add.
type ParkedChange struct {
	Op   ParkedOp
	Key  []byte
	Ref  wal.Ref
	Head ParkedHead
}

// Do changes queues, by key, as a store does. It keeps nothing of c.
func (c *ParkedChange) Do(queues map[string]ParkedQueue) {
	q := queues[string(c.Key)]
	switch c.Op {
	case ParkedBegin:
		q = ParkedQueue{Key: append([]byte{}, c.Key...), ParkedHead: c.Head}
	case ParkedAgain:
		q.ParkedHead = c.Head
	case ParkedAdd:
		q.Refs = append(q.Refs[:len(q.Refs):len(q.Refs)], c.Ref)
	case ParkedBelow:
		n, _ := slices.BinarySearchFunc(q.Refs, c.Ref, wal.Ref.Compare)
		q.Refs = q.Refs[n:]
	case ParkedGone:
		delete(queues, string(c.Key))
		return
	}
	queues[string(c.Key)] = q
}
