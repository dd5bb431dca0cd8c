package consumers

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// Disposition is what became of a dead letter.
type Disposition string

// The dispositions. Refused is final at once; Parked waits for an operator and
// ends as Redriven or Dropped.
const (
	Refused  Disposition = "REFUSED"
	Parked   Disposition = "PARKED"
	Redriven Disposition = "REDRIVEN"
	Dropped  Disposition = "DROPPED"
)

// ReasonPoison is the reason of a letter about a record that cannot be applied.
const ReasonPoison = "poison"

// DeadLetter tells of one mutation that had no effect, or what became of one that
// was parked. Its identity is (Ref, Attempts, Disposition, Target).
type DeadLetter struct {
	Ref         wal.Ref
	Key         []byte // routing key
	Reason      string
	Disposition Disposition
	Detail      string
	Attempts    int
	LogTime     int64 // of the record at At, microseconds since 1970
	// At is the offset of the record that was in hand when this was decided: that
	// of Ref, or of a control record.
	At     wal.Offset
	Target string // of a delivery; empty elsewhere
	Record []byte // the record's bytes, where the log may lose them before the letter goes
	By     string // who redrove or dropped it
}

// DeadLetters is where an applier puts what it refuses or parks.
type DeadLetters interface {
	// Put returns once the letters are durable, all together. Those of a partition
	// are in the order of (At, Ref), also from one call to the next, but for those
	// that a replay puts again: they are known by that order and left out. Put keeps
	// nothing of letters. An applier calls it before it saves or tells what it
	// applied.
	Put(ctx context.Context, letters []DeadLetter) error
}

// ControlOp is what a control record asks for.
type ControlOp string

// The control operations.
const (
	// OpRedrive applies the parked records of a key again, in order, under their
	// own positions and tokens.
	OpRedrive ControlOp = "redrive"
	// OpDrop gives up the poisonous mutation at the head of a key's queue and
	// applies what waits behind it.
	OpDrop ControlOp = "drop"
	// OpPromote has the store named decide the records that follow, and the one that
	// did follow it.
	OpPromote ControlOp = "promote"
)

// Control is the payload of a KindControl record. It stands in the partition of
// its key, so a rebuild of the store does the same at the same place.
type Control struct {
	Op  ControlOp `json:"op"`
	Key []byte    `json:"key,omitempty"` // routing key whose queue is meant
	Ref wal.Ref   `json:"ref,omitzero"`  // for drop: the mutation given up
	By  string    `json:"by,omitempty"`
	// For promote: the name of the store, and the number of the step. Of the records
	// of one step the first counts in each partition; a step below one that was
	// applied does nothing.
	Store string `json:"store,omitempty"`
	Step  uint64 `json:"step,omitempty"`
}

// EncodeControl returns the payload of a KindControl record.
func EncodeControl(c *Control) ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode control record: %w", err)
	}
	return b, nil
}

// DecodeControl reads what EncodeControl wrote.
func DecodeControl(b []byte) (*Control, error) {
	var c Control
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("%w control record: %w", wal.ErrMalformed, err)
	}
	if c.Op != OpRedrive && c.Op != OpDrop && c.Op != OpPromote {
		return nil, fmt.Errorf("%w control record: operation %q", wal.ErrMalformed, c.Op)
	}
	return &c, nil
}
