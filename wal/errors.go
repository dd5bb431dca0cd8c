package wal

import (
	"errors"
	"fmt"
)

// The outcome of an append that was not acknowledged.
var (
	// ErrNotAppended: the record is not in the log and will not come to be.
	ErrNotAppended = errors.New("not appended")
	// ErrUnknown: the record may be in the log, or may come to be. Sending it
	// again with the same token is safe, because the applier absorbs it.
	ErrUnknown = errors.New("outcome unknown")
)

// What is wrong with a log. Each may be wrapped; use errors.Is.
var (
	// ErrClosed: used after Close.
	ErrClosed = errors.New("log is closed")
	// ErrFailed: a write or sync failed, and the log has stopped for good. What
	// was acknowledged before is safe; a restart reads it back.
	ErrFailed = errors.New("log has failed and takes no more writes")
	// ErrDiskFull: the free-space floor is reached. Reads go on; writes are taken
	// again when space returns.
	ErrDiskFull = errors.New("disk is at its free-space floor")
	// ErrUnavailable: the brokers cannot be reached, or not enough replicas are
	// in sync. It passes.
	ErrUnavailable = errors.New("log is unavailable")
	// ErrOverloaded: the queue in front of the log is full.
	ErrOverloaded = errors.New("append queue is full")
	// ErrTooLarge: the record is above MaxRecordBytes.
	ErrTooLarge = errors.New("record is too large")
	// ErrTrimmed: the offset is below the start of the partition.
	ErrTrimmed = errors.New("offset has been trimmed")
	// ErrBeyondEnd: the offset is above the durable end of the partition.
	ErrBeyondEnd = errors.New("offset is beyond the end of the log")
	// ErrCorrupt: bytes are not what was written.
	ErrCorrupt = errors.New("log is corrupt")
	// ErrIncarnation: the topic was deleted and made again.
	ErrIncarnation = errors.New("topic is another incarnation")
	// ErrTopicNotFound: no such topic.
	ErrTopicNotFound = errors.New("topic not found")
	// ErrPartitionCount: the topic has another number of partitions than it was
	// created with. Keys would move, so nothing is read or written.
	ErrPartitionCount = errors.New("partition count changed")
	// ErrTopicSettings: a setting of the topic could lose acknowledged records.
	ErrTopicSettings = errors.New("topic settings are unsafe")
	// ErrNoPartition: the topic has no such partition.
	ErrNoPartition = errors.New("no such partition")
)

// What is wrong with bytes handed to a decoder.
var (
	// ErrUnknownVersion: the envelope's version byte is none that this build
	// knows. The partition stops; a newer build can read it.
	ErrUnknownVersion = errors.New("unknown record version")
	// ErrMalformed: the bytes are not a record, position, or version.
	ErrMalformed = errors.New("malformed")
)

// CorruptError names the place that is damaged. errors.Is(err, ErrCorrupt).
type CorruptError struct {
	Topic     string
	Partition Partition
	Offset    Offset
	Detail    string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("log is corrupt: topic %s partition %d offset %d: %s", e.Topic, e.Partition, e.Offset, e.Detail)
}

// Is makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// TrimmedError says where the partition starts now. errors.Is(err, ErrTrimmed).
type TrimmedError struct {
	Topic     string
	Partition Partition
	Wanted    Offset
	Start     Offset
}

func (e *TrimmedError) Error() string {
	return fmt.Sprintf("offset has been trimmed: topic %s partition %d: wanted %d, the log starts at %d", e.Topic, e.Partition, e.Wanted, e.Start)
}

// Is makes errors.Is(err, ErrTrimmed) hold.
func (e *TrimmedError) Is(target error) bool { return target == ErrTrimmed }
