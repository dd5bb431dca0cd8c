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

// DeadLetter is an entry of a namespace's dead-letter topic. The latest entry of
// a Ref holds; a replay of the namespace's log writes equal entries again.
type DeadLetter struct {
	Ref         wal.Ref     `json:"ref"`
	Key         []byte      `json:"key"` // routing key
	Reason      string      `json:"reason"`
	Disposition Disposition `json:"disposition"`
	Detail      string      `json:"detail,omitempty"`
	Attempts    int         `json:"attempts"`
	LogTime     int64       `json:"log_time"` // of the record, microseconds since 1970
	Record      []byte      `json:"record,omitempty"`
	By          string      `json:"by,omitempty"` // who redrove or dropped it
}

// DeadLetters is where an applier puts what it refuses or parks.
type DeadLetters interface {
	// Put returns once the letters are durable. An applier calls it before it
	// saves the parking, so that nothing is parked without a letter.
	Put(ctx context.Context, letters []DeadLetter) error
}

// EncodeDeadLetter returns the payload of a KindDeadLetter record: JSON, since
// dead letters are rare and are read by people.
func EncodeDeadLetter(d *DeadLetter) ([]byte, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode dead letter %s: %w", d.Ref, err)
	}
	return b, nil
}

// DecodeDeadLetter reads what EncodeDeadLetter wrote.
func DecodeDeadLetter(b []byte) (*DeadLetter, error) {
	var d DeadLetter
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("%w dead letter: %w", wal.ErrMalformed, err)
	}
	return &d, nil
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
)

// Control is the payload of a KindControl record. It stands in the partition of
// its key, so a rebuild of the store does the same at the same place.
type Control struct {
	Op  ControlOp `json:"op"`
	Key []byte    `json:"key"` // routing key whose queue is meant
	Ref wal.Ref   `json:"ref"` // for drop: the mutation given up
	By  string    `json:"by,omitempty"`
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
	if c.Op != OpRedrive && c.Op != OpDrop {
		return nil, fmt.Errorf("%w control record: operation %q", wal.ErrMalformed, c.Op)
	}
	return &c, nil
}
