package counter

import (
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

var (
	// ErrClosed: the store or DB was used after Close.
	ErrClosed = consumers.ErrClosed
	// ErrOverflow: the value would leave int64. Nothing was changed.
	ErrOverflow = errors.New("counter: the value would leave int64")
	// ErrNoReservation: there is no such reservation, or it ended longer than a
	// token window ago.
	ErrNoReservation = errors.New("counter: no such reservation")
	// ErrTooManyReservations: the partition holds MaxReservations.
	ErrTooManyReservations = errors.New("counter: too many reservations are held")
	// ErrNotAccurate: the namespace acknowledges adds before they are durable, so
	// no read of it can be accurate.
	ErrNotAccurate = errors.New("counter: a best_effort namespace has no accurate reads")
	// ErrGranularity: the granularity is not a multiple of a kept window.
	ErrGranularity = errors.New("counter: the granularity is not a multiple of the smallest kept window")
	// ErrNoEvents: a series of other spans than those of the windows was asked for, and no store of role
	// EVENTS answers yet.
	ErrNoEvents = errors.New("counter: no store of role EVENTS answers yet")
	// ErrEventsFolded: a series of other spans than those of the windows is made of events, and some of
	// the counter's are folded into a sum, without their times.
	ErrEventsFolded = errors.New("counter: old events of the counter are folded, and only its windows are left of them")
	// ErrTooManyPoints: the series has more than MaxPoints windows.
	ErrTooManyPoints = errors.New("counter: the series has too many points")
	// ErrReloading: the partition is being read back after a fault; retry.
	ErrReloading = errors.New("counter: the partition is being read back")
)

// InsufficientError says that less is available than was to be reserved.
type InsufficientError struct {
	Value, Held, Wanted int64
}

func (e *InsufficientError) Error() string {
	return fmt.Sprintf("counter: %d was to be reserved, and of %d, %d is held", e.Wanted, e.Value, e.Held)
}

// EndedError says that a reservation is no longer held, and how it ended.
type EndedError struct {
	State ReservationState
}

func (e *EndedError) Error() string {
	switch e.State {
	case Settled:
		return "counter: the reservation is settled"
	case Cancelled:
		return "counter: the reservation is cancelled"
	default:
		return "counter: the reservation's lease has ended"
	}
}

// TooMuchError says that more was to be settled than is reserved.
type TooMuchError struct {
	Reserved, Wanted int64
}

func (e *TooMuchError) Error() string {
	return fmt.Sprintf("counter: %d was to be settled of a reservation of %d", e.Wanted, e.Reserved)
}

// MissingEventsError says that an event row that a counter's chain names is not
// there. The store is damaged; rebuild it from the log.
type MissingEventsError struct {
	Offset wal.Offset
}

func (e *MissingEventsError) Error() string {
	return fmt.Sprintf("counter: the events of record %d are missing", e.Offset)
}

// Is makes errors.Is(err, wal.ErrCorrupt) hold.
func (e *MissingEventsError) Is(target error) bool { return target == wal.ErrCorrupt }

// DriftError says that a token's generation time is too far from the log's
// clock.
type DriftError = wal.DriftError

// ParkedError says that a counter is parked.
type ParkedError = consumers.ParkedError
