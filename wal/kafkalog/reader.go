package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
)

// batchBytes is about how much Next returns.
const batchBytes = 1 << 20

// reader is a wal.Reader on a shared fetcher.
type reader struct {
	l         *Log
	f         *fetcher
	partition wal.Partition
	ready     chan struct{} // holds one: there is something to see
	entries   []wal.Entry   // what Next returned last

	mu     sync.Mutex    // guards the rest
	queue  []*kgo.Record // dense, from next
	next   wal.Offset    // of the record that Next returns first
	bytes  int           // in queue
	paused bool
	err    error // found behind the queue; stays
	closed bool
}

// Read opens a reader. Readers of different partitions share a connection.
func (l *Log) Read(ctx context.Context, p wal.Partition, from wal.Offset) (wal.Reader, error) {
	if _, err := l.part(p); err != nil {
		return nil, err
	}
	if err := l.inRange(ctx, p, from); err != nil {
		return nil, l.explain("read", p, err)
	}
	r, err := l.newReader(p, from)
	if err != nil {
		return nil, l.explain("read", p, err)
	}
	return r, nil
}

// inRange returns ErrTrimmed or ErrBeyondEnd unless from is a place to read at.
func (l *Log) inRange(ctx context.Context, p wal.Partition, from wal.Offset) error {
	b, err := l.Bounds(ctx, p)
	if err != nil {
		return err
	}
	if from < b.Start {
		return &wal.TrimmedError{Topic: l.info.Name, Partition: p, Wanted: from, Start: b.Start}
	}
	if from > b.End {
		return fmt.Errorf("%w: wanted %d, the log ends at %d", wal.ErrBeyondEnd, from, b.End)
	}
	return nil
}

// put queues what the fetcher brought, dense and in order.
func (r *reader) put(records []*kgo.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.err != nil {
		return
	}
	defer r.wake()
	for _, rec := range records {
		off, tail := wal.Offset(rec.Offset), r.tailLocked()
		if off < tail {
			continue // a batch is fetched from its first record
		}
		if off > tail {
			// Nothing of ours leaves a gap: no compaction, no transactions, and
			// what is trimmed is out of range.
			r.err = r.corrupt(tail, fmt.Sprintf("offset %d follows", off))
			return
		}
		r.queue = append(r.queue, rec)
		r.bytes += len(rec.Value) + recordOverhead
	}
	if r.bytes > pauseBytes && !r.paused {
		r.paused = true
		r.f.cl.PauseFetchPartitions(map[string][]int32{r.l.info.Name: {int32(r.partition)}})
	}
}

// tail is the offset that is to come next from the fetcher.
func (r *reader) tail() wal.Offset {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tailLocked()
}

func (r *reader) tailLocked() wal.Offset {
	if n := len(r.queue); n > 0 {
		return wal.Offset(r.queue[n-1].Offset) + 1
	}
	return r.next
}

// stop ends the reader behind what is queued.
func (r *reader) stop(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.wake()
}

func (r *reader) wake() {
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

func (r *reader) corrupt(at wal.Offset, detail string) error {
	return &wal.CorruptError{Topic: r.l.info.Name, Partition: r.partition, Offset: at, Detail: detail}
}

// Next waits for records. During an outage of the brokers it waits on; see
// Broker.Health.
func (r *reader) Next(ctx context.Context) ([]wal.Entry, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := r.l.failure(); err != nil {
			return nil, err
		}
		entries, err := r.take()
		if errors.Is(err, errOutOfRange) {
			return nil, r.outOfRange(ctx)
		}
		if err != nil || len(entries) > 0 {
			return entries, err
		}
		select {
		case <-r.ready:
		case <-ctx.Done():
		case <-r.l.ctx.Done():
		}
	}
}

// take moves up to batchBytes out of the queue.
func (r *reader) take() ([]wal.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("read topic %s partition %d: %w", r.l.info.Name, r.partition, wal.ErrClosed)
	}
	if start := wal.Offset(r.l.parts[r.partition].start.Load()); r.next < start {
		return nil, &wal.TrimmedError{Topic: r.l.info.Name, Partition: r.partition, Wanted: r.next, Start: start}
	}
	clear(r.entries) // or the records of a longer batch would stay
	r.entries = r.entries[:0]
	size, n := 0, 0
	for n < len(r.queue) && (len(r.entries) == 0 || size < batchBytes) {
		rec := r.queue[n]
		n++
		r.next = wal.Offset(rec.Offset) + 1
		r.bytes -= len(rec.Value) + recordOverhead
		if rec.Attrs.IsControl() {
			continue
		}
		size += len(rec.Value)
		r.entries = append(r.entries, wal.Entry{
			Partition: r.partition,
			Offset:    wal.Offset(rec.Offset),
			LogTime:   rec.Timestamp.UnixMicro(),
			Data:      rec.Value,
		})
	}
	clear(r.queue[:n])
	if r.queue = r.queue[n:]; len(r.queue) == 0 {
		r.queue = nil
	}
	if r.paused && r.bytes <= resumeBytes && r.err == nil {
		r.paused = false
		r.f.cl.ResumeFetchPartitions(map[string][]int32{r.l.info.Name: {int32(r.partition)}})
	}
	if len(r.entries) == 0 {
		return nil, r.err
	}
	return r.entries, nil
}

// outOfRange finds out on which side the reader's place is.
func (r *reader) outOfRange(ctx context.Context) error {
	r.mu.Lock()
	next := r.next
	r.mu.Unlock()
	err := r.l.inRange(ctx, r.partition, next)
	if err == nil {
		// It was out of range for the fetch and is not now: a log that fell back
		// and grew again. Whoever opens a reader here gets what is there now.
		err = r.corrupt(next, "the leader had no such offset a moment ago")
	}
	if errors.Is(err, wal.ErrTrimmed) || errors.Is(err, wal.ErrBeyondEnd) || errors.Is(err, wal.ErrCorrupt) {
		r.mu.Lock()
		if errors.Is(r.err, errOutOfRange) {
			r.err = err
		}
		r.mu.Unlock()
	}
	return r.l.explain("read", r.partition, err)
}

// Close lets the partition go. Idempotent.
func (r *reader) Close() error {
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	r.queue, r.bytes = nil, 0
	r.mu.Unlock()
	if !closed {
		r.f.remove(r)
	}
	return nil
}
