package durable

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// Bounds of what is kept of one consumer.
const (
	// MaxConsumers are those of a namespace.
	MaxConsumers = 1000
	// MaxOpen bounds the records of a partition that were read and are not done: those in flight, those that wait for
	// one of their key, and those that wait for their time. No further one is read until there are fewer.
	MaxOpen = 10_000
	// MaxLater bounds those beside them that were written for later and are not due.
	MaxLater = 20_000
	// MaxDead bounds those of a partition that were given up and can be handed out again; the others have their letters.
	MaxDead = 1000
	// The settings of a consumer unless it says otherwise, and their bounds.
	DefaultInFlight = 1000
	MaxInFlight     = 10_000
	DefaultAckWait  = 30 * time.Second
	MinAckWait      = 100 * time.Millisecond
	MaxAckWait      = 12 * time.Hour
)

// Errors of this package.
var (
	// ErrTooMany: the namespace has MaxConsumers.
	ErrTooMany = errors.New("the namespace has as many consumers as it may have")
	// ErrNotHere: this process does not hold the partition.
	ErrNotHere = errors.New("the partition is not held here")
)

// Owner hands out the records of partitions: a Local, or another process that has one.
type Owner interface {
	// Fetch hands out records that can be had now. A consumer that does not exist is made. Limit 0 hands out none and
	// tells what is in flight.
	Fetch(ctx context.Context, p wal.Partition, f *Fetch) (Fetched, error)
	// Ack returns the indexes of those that came too late. The others are durable.
	Ack(ctx context.Context, p wal.Partition, consumer string, acks []Ack) (expired []int, err error)
	// Wait returns when there may be something to fetch.
	Wait(ctx context.Context, p wal.Partition, consumer string) error
	// Apply makes or changes a consumer, durably.
	Apply(ctx context.Context, p wal.Partition, consumer string, c *Change) error
	// Delete forgets a consumer, durably. One that does not exist is no error.
	Delete(ctx context.Context, p wal.Partition, consumer string) error
	// List tells of the consumers of a partition, in no order.
	List(ctx context.Context, p wal.Partition) ([]Info, error)
	// Dead are the records that a consumer has given up; "": any consumer.
	Dead(ctx context.Context, p wal.Partition, consumer string) ([]Dead, error)
	// Revive has a record that was given up handed out again, or, with drop, forgotten, durably. by is told in its letter. It
	// reports whether the record was given up still.
	Revive(ctx context.Context, p wal.Partition, consumer string, o wal.Offset, drop bool, by string) (was bool, err error)
}

// Dead is a record that a consumer has given up.
type Dead struct {
	Consumer string
	Offset   wal.Offset
	Attempts int
}

// Fetch asks for records.
type Fetch struct {
	Consumer string
	Limit    int
	Bytes    int           // of all of them, unless the first has more
	Strict   bool          // the first keeps to Bytes too
	AckWait  time.Duration // 0: as the consumer has it
	Refused  bool          // those without effect too
}

// Fetched is what was handed out.
type Fetched struct {
	Messages    []Message
	Missed      int64 // records that were gone, since the last Fetched that told
	Life        int64 // of the consumer; an Ack names it
	InFlight    int   // with Messages
	MaxInFlight int
}

// Message is a record that was handed out. Times are microseconds since 1970.
type Message struct {
	Offset  wal.Offset
	LogTime int64
	Record  []byte // encoded; see wal.DecodeRecord
	Attempt int    // from 1
	Lease   int64  // names the handing-out
	Until   int64  // it is the caller's
	Verdict Verdict
}

// Outcome is what a record did.
type Outcome uint8

// The outcomes.
const (
	Applied Outcome = iota // also a message, which does nothing
	Refused
	Parked
	Dropped
)

// Verdict is what is known of a record before it is handed out.
type Verdict struct {
	// Skip: it is nothing for consumers, or no longer.
	Skip    bool
	Outcome Outcome
	Reason  string
	Partly  []int // the calls that had no effect, of a record with others
	// Due: it is handed out when the log's clock is there, microseconds since 1970; 0: at once.
	Due int64
	// Also are records before it to hand out, in their order: those that a control record has redriven.
	Also []wal.Offset
}

// AckKind is what a caller says of a record.
type AckKind uint8

// The kinds of Ack.
const (
	Done AckKind = iota
	Nak
	Term
	Progress
)

// Ack is what a caller says of a record that it was handed.
type Ack struct {
	Offset wal.Offset
	Life   int64
	Lease  int64
	Until  int64 // as the record was handed out
	Kind   AckKind
	Delay  time.Duration // of Nak and Progress
}

// Change makes or changes a consumer. What is nil stays.
type Change struct {
	From        *wal.Offset // where it begins, also anew
	MaxInFlight *int
	AckWait     *time.Duration
	MaxAttempts *int
}

// Settings are those of a consumer.
type Settings struct {
	MaxInFlight int           `json:"max_in_flight"`
	AckWait     time.Duration `json:"ack_wait"`
	MaxAttempts int           `json:"max_attempts"` // 0: without an end
}

// Info is how a consumer stands in a partition.
type Info struct {
	Name string
	Settings
	Lag          int64 // records that are not done
	InFlight     int64
	Redelivering int64
	Missed       int64
	GivenUp      int64
	Oldest       int64 // log time of the oldest that is not done, where it is known; 0: there is none
}

// Sum puts the parts of each consumer together, by name: its settings are those of the first part.
func Sum(parts []Info) (all []Info) {
	at := make(map[string]int)
	for i := range parts {
		p := &parts[i]
		k, ok := at[p.Name]
		if !ok {
			at[p.Name] = len(all)
			all = append(all, *p)
			continue
		}
		a := &all[k]
		a.Lag, a.InFlight, a.Redelivering = a.Lag+p.Lag, a.InFlight+p.InFlight, a.Redelivering+p.Redelivering
		a.Missed, a.GivenUp = a.Missed+p.Missed, a.GivenUp+p.GivenUp
		if p.Oldest != 0 && (a.Oldest == 0 || p.Oldest < a.Oldest) {
			a.Oldest = p.Oldest
		}
	}
	slices.SortFunc(all, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// GivenUp is a record that is not handed out any more, and is not done.
type GivenUp struct {
	Consumer string
	Offset   wal.Offset
	Key      []byte
	Attempts int
	Why      string
	Place    wal.Offset // rises from one of a consumer to the next, and is not below Offset
	Now      Fate
	By       string // who has revived or dropped it
}

// Fate is what is told of a record that was given up.
type Fate uint8

// The fates.
const (
	Buried Fate = iota
	Revived
	Forgotten
)
