package counter

import (
	"time"

	"github.com/headwater-db/headwater/wal"
)

// Limits of what a call and an applier take.
const (
	MaxNameBytes = 1024
	// MaxAdds bounds the adds of one call, and the names of one read.
	MaxAdds = 10_000
	// MinLease and MaxLease bound how long a reservation is held.
	MinLease = time.Millisecond
	MaxLease = 30 * 24 * time.Hour
)

// Op is what a call does. The numbers are part of the data format.
type Op uint8

// The operations.
const (
	OpAdd       Op = 1 // adds nobody waits for: AddCount, AddCounts
	OpAddAndGet Op = 2
	OpClear     Op = 3
	OpReserve   Op = 4
	OpSettle    Op = 5
	OpCancel    Op = 6
)

// Add is one delta for one counter.
type Add struct {
	Counter []byte
	Delta   int64
	// EventTime is when what is counted happened, microseconds since 1970; 0 is
	// the record's AcceptedAt.
	EventTime int64
	// TTL, microseconds: if this add creates the counter it lives so long. 0 is
	// the namespace's rule.
	TTL int64
	// Token of its own; zero: the call's. Hash is what the token is used for.
	Token wal.Token
	Hash  wal.Hash
}

// Bounds keep a value within limits. An add is judged only in the direction in
// which it moves the value.
type Bounds struct {
	HasFloor, HasCeiling bool
	Floor, Ceiling       int64
	Saturate             bool // else an add that would pass a bound is rejected whole
}

// Call is the content of one record: one call, or its part in one partition.
type Call struct {
	Op Op
	// Adds of OpAdd, encoded; see AddReader.
	Adds []byte
	// Add of OpAddAndGet. For the other operations, Add.Counter is the counter.
	Add    Add
	Bounds Bounds // of OpAddAndGet

	Amount int64         // of OpReserve and OpSettle
	Lease  time.Duration // of OpReserve
	// Reservation is of OpSettle and OpCancel: the identity of the write that
	// reserved.
	Reservation wal.TokenID
	// All: OpSettle takes the whole reserved amount.
	All bool
}

// Violation says which bound an add met.
type Violation uint8

// The violations. The numbers are part of the data format.
const (
	NoViolation Violation = 0
	AtFloor     Violation = 1
	AtCeiling   Violation = 2
)

// Outcome is what the applier decided of a call. The numbers are part of the
// data format.
type Outcome uint8

// The outcomes.
const (
	Applied          Outcome = 1
	Rejected         Outcome = 2 // by a bound: see TokenEntry.Violation
	Overflow         Outcome = 3 // the value would leave int64
	Insufficient     Outcome = 4 // less is available than was to be reserved
	NoReservation    Outcome = 5 // never reserved, or forgotten
	ReservationEnded Outcome = 6 // settled or cancelled before, or its lease ended; see TokenEntry.Ended
	TooMuch          Outcome = 7 // more was to be settled than is reserved
	TooMany          Outcome = 8 // the partition holds MaxReservations
)

// TokenEntry is what a store remembers of a token: the decision, and the answer
// that every copy of the call gets.
type TokenEntry struct {
	ID         wal.TokenID
	Hash       wal.Hash
	Offset     wal.Offset
	LogTime    int64 // of the record; the entry is forgotten one window after it
	AcceptedAt int64 // of the record
	Time       int64 // generation time of the token
	Outcome    Outcome

	// The answer of a call that waits for one; zeros for OpAdd and OpClear.
	Value, Held  int64
	AppliedDelta int64
	Violation    Violation
	ExpiresAt    int64            // of a reservation, microseconds since 1970
	Ended        ReservationState // with ReservationEnded: how
}

// Request implements wal.Decided.
func (e TokenEntry) Request() (wal.Hash, int64) { return e.Hash, e.LogTime }

// ReservationState is where a reservation stands. The numbers are part of the
// data format.
type ReservationState uint8

// The states of a reservation.
const (
	Held      ReservationState = 1
	Settled   ReservationState = 2
	Cancelled ReservationState = 3
	Expired   ReservationState = 4
)

// Reservation is a part of a counter that is held.
type Reservation struct {
	ID        wal.TokenID
	Counter   []byte
	Amount    int64
	ExpiresAt int64 // log time, microseconds since 1970
	State     ReservationState
	EndedAt   int64 // log time that it left Held at; it is forgotten one token window after
}
