package wal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Durability is what an acknowledgement of an append means.
type Durability uint8

// The durabilities of an append.
const (
	// Sync: fsynced (embedded) or on all in-sync replicas (Kafka, acks=all).
	Sync Durability = iota
	// Buffered: queued for the log. What is queued is lost when the process
	// dies; the offset is not known, so Result.Offset is NoOffset. It never waits
	// for room: refused is ErrNotAppended wrapping ErrOverloaded, when the queue is
	// full and when what was buffered Broker.BufferedLoss ago is not durable yet.
	Buffered
)

// Guarantee is what an acknowledgement of a Sync append is worth.
type Guarantee string

// The guarantees, the strongest first where several topics have different ones.
const (
	// Synced: fsynced on the machine that holds the log.
	Synced Guarantee = "SYNC"
	// Quorum: on all in-sync replicas of the topic, at least two.
	Quorum Guarantee = "QUORUM"
	// Unreplicated: on all in-sync replicas of the topic, which may be one broker
	// that has not fsynced.
	Unreplicated Guarantee = "UNREPLICATED"
)

// NewEntry is a record on its way into a log.
type NewEntry struct {
	Partition Partition
	// Data is the encoded record. The log reads it until Append returns (or, for
	// Buffered, copies it) and does not keep it.
	Data []byte
	// Settled, of a Buffered append, is called once with the outcome of an entry
	// that Append took (its Result.Err is nil), perhaps before Append returns. It
	// runs in a goroutine of the log: it must not block or use the log. Nil is
	// allowed.
	Settled func(Result)
}

// Entry is a record as the log holds it.
type Entry struct {
	Partition Partition
	Offset    Offset
	// LogTime is the log's append time in microseconds since 1970. It never
	// falls within a partition of the embedded log; a Kafka partition's may,
	// after a leader change, so appliers use the running maximum.
	LogTime int64
	// Data belongs to the reader that returned it and is valid until its next
	// call of Next.
	Data []byte
}

// Result is what became of one NewEntry.
type Result struct {
	// Offset and LogTime are set when Err is nil and the append is durable:
	// answered by Sync, or told to Settled.
	Offset  Offset
	LogTime int64 // microseconds since 1970; 0 when the log does not tell
	// Others is one above the highest offset below Offset whose record another process may have
	// appended; 0: there is none.
	Others Offset
	// Err is nil when the record is acknowledged. Otherwise errors.Is tells the
	// outcome: ErrNotAppended (it is not in the log and never will be) or
	// ErrUnknown (it may be, now or later: resend with the same token).
	Err error
}

// Bounds are the edges of a partition.
type Bounds struct {
	Start Offset // the first record that can be read; equal to End when there is none
	End   Offset // one above the last durable record
	Bytes int64  // size on disk, about; -1 when unknown
}

// LogEnd is the end of a partition as of some moment.
type LogEnd struct {
	End Offset // as in Bounds
	// At is that moment by the clock of Broker.Now, microseconds since 1970; 0 when
	// the end was never known. Every record that was acknowledged before At is below
	// End.
	At int64
}

// TopicSpec is what a topic is created with.
type TopicSpec struct {
	Name       string
	Partitions int
}

// TopicInfo describes an open topic.
type TopicInfo struct {
	Name        string
	Partitions  int
	Incarnation Incarnation
}

// MaxRecordBytes is the largest encoded record that a log takes: 8 MiB, the
// topic's max.message.bytes less the framing that Kafka adds.
const MaxRecordBytes = 8<<20 + 64<<10

// Log is one topic. All methods may be called concurrently.
type Log interface {
	Info() TopicInfo

	// Guarantee is what an acknowledgement of a Sync append is worth by the
	// topic's settings now, or as of a moment ago where others can change them.
	// why says which setting makes it Unreplicated, and is empty otherwise. It asks
	// nobody.
	Guarantee() (g Guarantee, why string)

	// Append adds entries and returns one Result for each, in order. Entries of
	// one partition are appended in the order given, and next to each other only
	// by chance. With Sync it returns when every entry's outcome is known or ctx
	// is done: an entry in flight at that moment is ErrUnknown, one that was not
	// yet handed over is ErrNotAppended.
	Append(ctx context.Context, d Durability, entries []NewEntry) []Result

	// Read opens a reader at offset from. from may be anything from Bounds.Start
	// to Bounds.End; below is ErrTrimmed, above is ErrBeyondEnd (the store that
	// asks is ahead of the log), whichever of Read and the first Next finds out.
	Read(ctx context.Context, p Partition, from Offset) (Reader, error)

	// Bounds asks the log for its edges now.
	Bounds(ctx context.Context, p Partition) (Bounds, error)

	// LastEnd returns the end as this process last knew it. It asks nobody and does
	// not wait. The embedded log knows its end now; on Kafka it is that of
	// the last answer of the partition's leader, which is asked every few seconds.
	LastEnd(p Partition) LogEnd

	// LastBounds returns what is known of the edges without asking anyone, and
	// since when: on Kafka as of the last answer of the partition's leader, which is
	// seconds old unless there is an outage, and as of what this process has
	// appended and trimmed since. In one life of the topic they never fall. at is as
	// in LogEnd. It costs more than LastEnd.
	LastBounds(p Partition) (b Bounds, at int64)

	// OffsetAt returns the first offset whose LogTime is at or after t
	// (microseconds since 1970), or the end.
	OffsetAt(ctx context.Context, p Partition, t int64) (Offset, error)

	// Barrier returns an offset at or above that of every record acknowledged
	// before the call, NoOffset when there is none. A record whose outcome was
	// told as unknown before the call is at or below it too, or never comes. On
	// Kafka it appends a record of KindBarrier, shared by everyone who waits.
	Barrier(ctx context.Context, p Partition) (Offset, error)

	// Trim frees every record below before. It is durable when it returns: no
	// later Read sees them. Trimming below Start does nothing; above End is
	// refused.
	Trim(ctx context.Context, p Partition, before Offset) error
}

// Reader delivers one partition in offset order. It is used by one goroutine.
type Reader interface {
	// Next blocks until at least one record is durable at the reader's place, and
	// returns what is at hand up to the log's own batch size (about 1 MiB, always
	// at least one record). The entries and their Data are valid until the
	// next call. Errors: ctx.Err(); ErrTrimmed, ErrBeyondEnd, ErrCorrupt,
	// ErrIncarnation, ErrClosed. After an error the reader stays where it was.
	Next(ctx context.Context) ([]Entry, error)
	Close() error
}

// ReadOne calls f with the record at o of a partition, which is valid during the
// call. Errors: those of Read, Next and f; ErrCorrupt when another comes.
func ReadOne(ctx context.Context, l Log, p Partition, o Offset, f func(*Entry) error) (err error) {
	rd, err := l.Read(ctx, p, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	entries, err := rd.Next(ctx)
	if err != nil {
		return err
	}
	if got := entries[0].Offset; got != o {
		return fmt.Errorf("%w: wanted offset %d, read %d", ErrCorrupt, o, got)
	}
	return f(&entries[0])
}

// Broker holds topics. All methods may be called concurrently.
type Broker interface {
	// Create makes the topic unless it exists, checks its settings, and opens it.
	// ErrPartitionCount when it exists with another number of partitions;
	// ErrTopicSettings when its settings could lose data.
	Create(ctx context.Context, spec TopicSpec) (Log, error)
	// Open opens an existing topic; ErrTopicNotFound otherwise.
	Open(ctx context.Context, name string) (Log, error)
	// Delete removes a topic and all that it holds. Absent is not an error.
	Delete(ctx context.Context, name string) error
	// Topics lists the topics of this broker that carry Headwater's prefix.
	Topics(ctx context.Context) ([]TopicInfo, error)
	// Health returns nil when an append would be taken, and else the reason:
	// ErrFailed (stopped for good; only a restart helps), ErrDiskFull (until
	// space returns), ErrUnavailable (until the broker is back).
	Health() error
	// Guarantee is the weakest of the open topics, and that of a new topic where
	// none is open; see Log.Guarantee.
	Guarantee() Guarantee
	// BufferedLoss is how much of the Buffered appends a crash can lose: what was
	// taken within a time of this length. As a rule that is the last moment only,
	// since nothing is held back. When the log stalls, what waits grows old, and
	// once the oldest is this old (on Kafka, the oldest of its partition) others
	// are refused.
	BufferedLoss() time.Duration
	// Now is the clock that LogTime is stamped from, as near as this process can
	// know it.
	Now() time.Time
	// Usage reports the space that the log takes, and the disk that it lives on
	// where that is this machine's.
	Usage() Usage
	// Close waits for appends in flight, closes readers and logs, frees the
	// directory. Appends after it are ErrNotAppended wrapping ErrClosed.
	Close() error
}

// Usage is the space of a log in bytes, as of a moment ago; -1 is not known.
type Usage struct {
	LogBytes   int64
	FreeBytes  int64 // -1 also when the disk is not this machine's
	FloorBytes int64 // appends are refused while FreeBytes is below it; 0 is never
}
