package consumers

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// Machine is what is an abstraction's own of one partition: from a record, the
// changes and the decisions. Example: the machine of key-value items writes a put
// into its batch, and decides whether the condition of a put holds.
//
// A Loop calls the methods in the goroutine of the partition. A machine reads no
// clock but Run.LogTime, and does no I/O but to its store.
type Machine interface {
	// Load returns what the store has saved. lost says that the record in hand
	// when Apply failed had changed something, so that memory may hold a part of
	// it. kept is true where nothing was lost and memory is ahead of the store:
	// then st is as of memory, and queues are not looked at.
	Load(ctx context.Context, lost bool) (st State, queues []ParkedQueue, kept bool, err error)

	// Begin comes before anything is done about a record, of whatever kind.
	Begin(ctx context.Context, r *Run) error

	// Record decides each call of the record in hand. An error that wraps ErrPoison
	// says that the record can never be applied: it is parked whole, and must have
	// changed nothing. Any other error may pass, and the record is tried again.
	Record(ctx context.Context, r *Run) error

	// Again applies one call of a parked record, index of it, or all calls
	// (wal.WholeRecord). ErrPoison says that it still cannot be applied.
	Again(ctx context.Context, r *Run, index int) error

	// Token returns what a token was used for, saved or not. It is asked by
	// Run.Judge.
	Token(ctx context.Context, id wal.TokenID) (h wal.Hash, logTime int64, known bool, err error)

	// SaveParked puts a change of the parked records into the open batch.
	SaveParked(c *ParkedChange)
	// SaveException puts the exceptions of the record at o into the open batch. It
	// copies row.
	SaveException(o wal.Offset, row []byte)
	// TrimExceptions removes those of the records below before.
	TrimExceptions(before wal.Offset)

	// Moved says that the record in hand is done, and st is as of it.
	Moved(st *State)
	// Commit lets readers see everything up to st. The machine calls Part.Saved when
	// the store has it, now or later.
	Commit(ctx context.Context, st *State) error
	// Save returns when the store has everything up to st.
	Save(ctx context.Context, st *State) error
}

// ErrPoison marks a call that can never be applied by this build, as opposed to
// one that something else stands in the way of.
var ErrPoison = errors.New("cannot be applied")

// PoisonUnlessNewer marks a payload that cannot be decoded; one of a newer build
// stops the partition instead.
func PoisonUnlessNewer(err error) error {
	if errors.Is(err, wal.ErrUnknownVersion) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrPoison, err)
}

// ErrCannotFollow means that a store that follows could not do what was decided.
// Its partition stops: it has to be built again.
var ErrCannotFollow = errors.New("cannot do what was decided")

// errPanic makes the runner resume from what is saved.
var errPanic = errors.New("panic while applying")

// Verdict is what is known of a token.
type Verdict uint8

// The verdicts of Run.Judge.
const (
	Fresh     Verdict = iota // the call is to be decided
	Duplicate                // it was decided before; nothing changes
	Conflict                 // another request has the token; nothing changes
	TooOld                   // it came after its token's window; nothing changes
)
