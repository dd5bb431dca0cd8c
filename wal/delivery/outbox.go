package delivery

import (
	"context"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// Pending is a message on its way to its targets.
type Pending struct {
	Offset  wal.Offset
	LogTime int64  // when the log appended it, microseconds since 1970
	Due     int64  // not before it is delivered; LogTime where it has no delay
	Key     []byte // the record's routing key
	Keyless bool   // the caller gave no key: it is in order with nothing
	Token   wal.Token
	Payload []byte
	Headers []Header
	Aims    []Aim
	Hops    int // through how many log namespaces it had come
}

// Delayed reports whether the message waits for its time. Such a one can be listed and cancelled.
func (m *Pending) Delayed() bool { return m.Due > m.LogTime }

// Aim is one target of a message.
type Aim struct {
	Target  string
	Ordered bool // after the messages of its key that are due before it
	// Parks: where it is given up, those of its key behind it wait until it is redriven or dropped. Of an Ordered one.
	Parks bool
}

// Delivery is a message that a target is to get, at the earliest at At.
type Delivery struct {
	Target   string
	Offset   wal.Offset
	At       int64 // microseconds since 1970: its time, or that of the next attempt
	Due      int64
	Attempts int
	Ordered  bool
	Key      []byte // where Ordered
	// Marked: an attempt may have begun. A cancel comes too late.
	Marked  bool
	Delayed bool
	Parked  bool // it is dead, and its key waits for it
}

// TargetState is how far a delivery is.
type TargetState uint8

// The states of a delivery. All but Waiting are ends. The numbers are part of the data format.
const (
	Waiting TargetState = iota
	Delivered
	Dead
	Cancelled
	Dropped // it was Dead, and is not to be redriven
)

// TargetStatus is what is known of one delivery.
type TargetStatus struct {
	Target   string
	State    TargetState
	Attempts int  // that have failed, or come to an end
	Begun    bool // an attempt may have begun: a cancel comes too late
	// Error is that of the last attempt that failed, At when the state was reached, microseconds since 1970.
	Error string
	At    int64
	// By is the job that redrove it last.
	By string
}

// Status is what is known of a message, until a time after its end.
type Status struct {
	Offset  wal.Offset
	LogTime int64
	Due     int64
	Nonce   wal.Nonce // of the message's token
	Targets []TargetStatus
}

// Named is a message that has a nonce; ID tells those of several keys apart.
type Named struct {
	Offset wal.Offset
	ID     wal.TokenID
}

// Ended reports whether nothing more is to be done.
func (s *Status) Ended() bool { return !s.Has(Waiting) }

// Has reports whether a delivery is in a state.
func (s *Status) Has(state TargetState) bool {
	return slices.ContainsFunc(s.Targets, func(t TargetStatus) bool { return t.State == state })
}

// What Outcome.What says.
const (
	// Begins: an attempt is about to begin. A cancel that is applied later comes too late.
	Begins = iota
	// Fails: an attempt has failed, and the next one is at Outcome.At.
	Fails
	// Succeeds: the target has the message.
	Succeeds
)

// Outcome is what came of an attempt.
type Outcome struct {
	Delivery
	What  int
	Next  int64  // of one that failed: when it is tried again
	Error string // why
	Now   int64  // microseconds since 1970
	// Gone is set by Settle: nothing waits there, as the message was cancelled or has ended.
	Gone bool
}

// DeadPlace is where a dead delivery stands among those of a partition.
type DeadPlace struct {
	At     int64
	Offset wal.Offset
	Target string
}

// DeadDelivery is one that was given up, and can be redriven.
type DeadDelivery struct {
	Offset wal.Offset
	Key    []byte
	TargetStatus
}

// Place is that of the delivery.
func (d *DeadDelivery) Place() DeadPlace { return DeadPlace{d.At, d.Offset, d.Target} }

// Death is a delivery that is given up.
type Death struct {
	Offset wal.Offset
	Target string
	At     int64 // of its row: Delivery.At
	Reason string
	Now    int64 // log time of the record that says so
}

// OutboxBatch is the part of a batch that changes what waits.
type OutboxBatch interface {
	// Add puts a message that is to be delivered.
	Add(m *Pending)
	// Cancel takes a message away of which no attempt has begun, by the log time of the record that says so, and
	// reports whether it did. What was added before must be committed.
	Cancel(o wal.Offset, now int64) bool
	// Kill gives a delivery up, and returns what is known of it; nil: it did not wait. What was added before must be
	// committed.
	Kill(d *Death) *TargetStatus
	// Redrive has a dead delivery wait again, at once and in its place among those of its key, for a job. nil: it
	// is not dead. What was added before must be committed.
	Redrive(o wal.Offset, target string, now int64, by string) *TargetStatus
	// Drop gives a dead delivery up for good. nil: it is not dead. What was added before must be committed.
	Drop(o wal.Offset, target string, now int64, by string) *TargetStatus
	// Next are the deliveries that may begin once the batch is committed, or have another time than before.
	Next() []Delivery
}

// Outbox is the part of a store that keeps the messages that wait, and for a time what came of
// them. Reads may come at any time from anyone.
type Outbox interface {
	// Due returns up to limit deliveries of a target behind (at, o), by time and then offset, those
	// too whose time has not come. Of an ordered target only the first of each key is among them.
	Due(ctx context.Context, p wal.Partition, target string, at int64, o wal.Offset, limit int) ([]Delivery, error)
	// Pending returns a message that has not ended.
	Pending(ctx context.Context, p wal.Partition, o wal.Offset) (*Pending, bool, error)
	// Status returns what is known of a message.
	Status(ctx context.Context, p wal.Partition, o wal.Offset) (Status, bool, error)
	// Find returns the messages with a nonce of which something is known: one for each key that it was used with.
	Find(ctx context.Context, p wal.Partition, n wal.Nonce) ([]Named, error)
	// Settle writes down what came of attempts. next are deliveries that may begin now or have another time than
	// before. It is called in the goroutine of the partition's applier, between batches. It is durable when Sync
	// has returned.
	Settle(ctx context.Context, p wal.Partition, outcomes []Outcome) (next []Delivery, err error)
	// Delayed returns up to limit messages whose time is due behind (due, o) and below before, by time and
	// then offset. key, where it is not nil, is the routing key of them all.
	Delayed(ctx context.Context, p wal.Partition, key []byte, due int64, o wal.Offset, before int64, limit int) ([]Pending, error)
	// Buried returns a message of which a delivery is dead and none waits.
	Buried(ctx context.Context, p wal.Partition, o wal.Offset) (*Pending, bool, error)
	// Dead returns up to limit dead deliveries behind a place, by the time of their death.
	Dead(ctx context.Context, p wal.Partition, behind DeadPlace, limit int) ([]DeadDelivery, error)
	// Oldest is the lowest offset of a message that has not ended, wal.NoOffset where there is none.
	Oldest(ctx context.Context, p wal.Partition) (wal.Offset, error)
}
