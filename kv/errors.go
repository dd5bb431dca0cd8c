package kv

import (
	"errors"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

var (
	// ErrClosed: the store or DB was used after Close.
	ErrClosed = consumers.ErrClosed
	// ErrNoChunk: an upload has no such chunk.
	ErrNoChunk = errors.New("kv: no such chunk")
	// ErrNotFound: there is no such item.
	ErrNotFound = errors.New("kv: no such item")
	// ErrDuplicateKey: a key stands twice in one call.
	ErrDuplicateKey = errors.New("kv: a key stands twice in one call")
	// ErrAcrossPartitions: a group's records lie in several partitions.
	ErrAcrossPartitions = errors.New("kv: the group spans partitions")
	// ErrUploadUnknown: the upload never began, has expired, or was aborted or
	// committed before.
	ErrUploadUnknown = errors.New("kv: no such upload")
	// ErrUploadBroken: chunks are missing, or size or checksum are not as committed.
	ErrUploadBroken = errors.New("kv: the upload is not whole")
)

// ConditionError says that a condition did not hold, and that nothing was
// changed.
type ConditionError struct {
	Current wal.Version // what is there; zero when nothing is
}

func (e *ConditionError) Error() string {
	if e.Current == (wal.Version{}) {
		return "kv: the condition does not hold: the item is absent"
	}
	return "kv: the condition does not hold: the item is at version " + e.Current.String()
}

// DriftError says that a token's generation time is too far from the log's
// clock.
type DriftError = wal.DriftError

// ParkedError says that a key is parked; ErrHeld, that the queue behind it is
// full. See consumers.Parking.
type ParkedError = consumers.ParkedError

// ErrHeld is consumers.ErrHeld.
var ErrHeld = consumers.ErrHeld
