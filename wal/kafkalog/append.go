package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
)

// recordOverhead is what a queued record costs beside its bytes, about.
const recordOverhead = 256

// call is records that were handed over together, and what they hold of the
// queue.
type call struct {
	cost int64                   // bytes of the queue, given back with the last outcome
	done chan struct{}           // closed with the last outcome
	then func(wal.Offset, error) // of a barrier; nil for an append

	// Set by hand.
	prod   *producer
	handed time.Time
	doubt  uint64

	mu      sync.Mutex // guards the rest
	results []wal.Result
	left    int
	gone    bool // Append has returned: outcomes are of no use any more
}

// item is a record in flight. It is the record's own context, which is how the
// client hands it back with the outcome.
type item struct {
	rec   kgo.Record
	call  *call
	part  *part
	index int
	alone bool // nothing of the partition was in flight before it

	buffered bool
	settled  func(wal.Result) // of a buffered entry; may be nil
}

// It never ends: the client would fail a whole batch when the context of its
// first record does.
var _ context.Context = (*item)(nil)

func (*item) Deadline() (time.Time, bool) { return time.Time{}, false }
func (*item) Done() <-chan struct{}       { return nil }
func (*item) Err() error                  { return nil }
func (*item) Value(any) any               { return nil }

// Append hands the entries to the client. See wal.Log.
//
// A call is queued whole or refused whole when the queue is full. Offsets are
// set, LogTime is not: the client does not pass on what the broker tells.
func (l *Log) Append(ctx context.Context, d wal.Durability, entries []wal.NewEntry) []wal.Result {
	results := make([]wal.Result, len(entries))
	if len(entries) == 0 {
		return results
	}
	start := time.Now()
	refuse := func(err error) []wal.Result {
		err = fmt.Errorf("append to topic %s: %w: %w", l.info.Name, wal.ErrNotAppended, err)
		for i := range results {
			if results[i].Err == nil {
				results[i] = wal.Result{Offset: wal.NoOffset, Err: err}
			}
		}
		return results
	}
	if err := l.refusal(ctx); err != nil {
		return refuse(err)
	}

	// The client keeps records until it has an answer, which may be long after
	// the caller's deadline, so it gets bytes of its own.
	size, count := 0, 0
	for i := range entries {
		if err := l.entryError(&entries[i], d); err != nil {
			results[i] = wal.Result{Offset: wal.NoOffset, Err: err}
			continue
		}
		size += len(entries[i].Data)
		count++
	}
	if count == 0 {
		return results
	}
	cost := int64(size + count*recordOverhead)
	if l.b.queued.Add(cost) > int64(l.b.cfg.QueueBytes) {
		l.b.queued.Add(-cost)
		return refuse(wal.ErrOverloaded)
	}
	c := &call{cost: cost, results: results, left: count, gone: d == wal.Buffered, done: make(chan struct{})}
	items, arena := make([]item, 0, count), make([]byte, 0, size)
	for i := range entries {
		if results[i].Err != nil {
			continue
		}
		at := len(arena)
		arena = append(arena, entries[i].Data...)
		items = append(items, item{index: i, call: c, part: l.parts[entries[i].Partition], buffered: d == wal.Buffered})
		it := &items[len(items)-1]
		if it.buffered {
			it.settled = entries[i].Settled
		}
		it.rec.Partition = int32(entries[i].Partition)
		it.rec.Value = arena[at:len(arena):len(arena)]
		it.rec.Timestamp = start
		results[i].Offset = wal.NoOffset
	}
	if !l.b.hand(l, c, items) {
		l.b.queued.Add(-cost)
		return refuse(wal.ErrClosed)
	}
	if d == wal.Buffered {
		return results
	}
	results = l.await(ctx, c, entries)
	l.b.metrics.appendSeconds.Observe(time.Since(start).Seconds())
	return results
}

// refusal returns why nothing can be appended now, or nil.
func (l *Log) refusal(ctx context.Context) error {
	if err := l.failure(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.b.refusal()
}

func (l *Log) entryError(e *wal.NewEntry, d wal.Durability) error {
	part, err := l.part(e.Partition)
	if err == nil && len(e.Data) > wal.MaxRecordBytes {
		err = fmt.Errorf("%w: %d bytes", wal.ErrTooLarge, len(e.Data))
	}
	if err == nil {
		if since := part.starved.Load(); since != 0 && time.Since(time.Unix(0, since)) >= l.b.cfg.ShedAfter {
			err = fmt.Errorf("%w: %w", wal.ErrUnavailable, errNotEnoughReplicas)
		}
	}
	if err == nil && d == wal.Buffered && part.buffered.age() >= l.b.cfg.BufferedLoss {
		err = fmt.Errorf("%w: what was buffered %s ago is not acknowledged yet", wal.ErrOverloaded, l.b.cfg.BufferedLoss)
	}
	if err != nil {
		return fmt.Errorf("append to topic %s partition %d: %w: %w", l.info.Name, e.Partition, wal.ErrNotAppended, err)
	}
	return nil
}

// hand gives records to the client, in order. It is false, and nothing was
// given, after Close.
func (b *Broker) hand(l *Log, c *call, items []item) bool {
	b.handover.RLock()
	defer b.handover.RUnlock()
	if b.closed {
		return false
	}
	prod := b.prod.Load()
	c.prod, c.handed, c.doubt = prod, time.Now(), b.doubt.Load()
	settle := l.settle // one for all: it finds the item in the record
	for i := range items {
		it := &items[i]
		it.alone = it.part.outstanding.Add(1) == 1
		if it.buffered {
			it.part.buffered.begin(c.handed)
		}
		it.rec.Topic = l.info.Name
		it.rec.Context = it
		prod.cl.TryProduce(context.Background(), &it.rec, settle)
	}
	return true
}

// settle takes the outcome of a record. The client calls it from one goroutine,
// partition by partition in offset order; it must not block.
func (l *Log) settle(rec *kgo.Record, err error) {
	it := rec.Context.(*item)
	off, err := l.outcome(it, err)
	others := wal.Offset(it.part.others.Load())
	it.part.outstanding.Add(-1)
	if it.buffered {
		it.part.buffered.end()
		if it.settled != nil {
			it.settled(wal.Result{Offset: off, Others: others, Err: err})
		}
	}
	c := it.call
	if c.then != nil {
		c.then(off, err)
		return
	}
	c.mu.Lock()
	if !c.gone {
		c.results[it.index] = wal.Result{Offset: off, Others: others, Err: err}
	} else if err != nil {
		l.b.metrics.unheard.Inc()
		l.b.log.Warn("record was not acknowledged, and nobody waits for it", "topic", l.info.Name, "partition", rec.Partition, "error", err)
	}
	c.left--
	last := c.left == 0
	c.mu.Unlock()
	if last {
		l.b.queued.Add(-c.cost)
		close(c.done)
	}
}

// outcome says what the client's answer for a record proves.
func (l *Log) outcome(it *item, err error) (wal.Offset, error) {
	wrap := func(verdict, err error) error {
		if failed := l.failure(); failed != nil {
			err = failed
		}
		return fmt.Errorf("append to topic %s partition %d: %w: %w", l.info.Name, it.rec.Partition, verdict, err)
	}
	switch {
	case errors.Is(err, kgo.ErrMaxBuffered):
		return wal.NoOffset, wrap(wal.ErrNotAppended, wal.ErrOverloaded)
	case err != nil && l.proves(it, err):
		return wal.NoOffset, wrap(wal.ErrNotAppended, err)
	case err != nil:
		if breaksSequence(err) {
			l.b.sequenceBroken(it.call.prod, l, err)
		}
		return wal.NoOffset, wrap(wal.ErrUnknown, err)
	case it.rec.Offset < 0:
		// The broker knows the record as a duplicate, but no longer its place.
		return wal.NoOffset, wrap(wal.ErrUnknown, errors.New("appended at a place that the broker does not tell"))
	}
	off := it.rec.Offset
	if high := it.part.high.Load(); off < high {
		// Only another life of the topic, or a log that lost its end, takes a
		// record where one was.
		l.fail(fmt.Errorf("%w: a record was taken at offset %d of partition %d, where one was already", wal.ErrIncarnation, off, it.rec.Partition))
		return wal.NoOffset, wrap(wal.ErrUnknown, wal.ErrIncarnation)
	}
	if off > it.part.high.Swap(off+1) {
		it.part.others.Store(off)
	}
	if l.failed.Load() != nil {
		return wal.NoOffset, wrap(wal.ErrUnknown, wal.ErrIncarnation)
	}
	return wal.Offset(off), nil
}

// proves reports whether err shows that the record is not in the log.
//
// A broker's refusal of a batch proves it only for that batch's first try, and
// the client gives the same error to every record that waits for the partition,
// also to batches in flight. So the record must have been alone, no produce
// request may have lost its answer since, and there must have been no time to
// try twice.
func (l *Log) proves(it *item, err error) bool {
	if !it.alone || it.call.doubt != l.b.doubt.Load() || time.Since(it.call.handed) >= minRetryBackoff {
		return false
	}
	for _, refused := range []error{
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp,
		kerr.InvalidRequiredAcks, kerr.InvalidTopicException, kerr.PolicyViolation,
		kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType,
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed,
	} {
		if errors.Is(err, refused) {
			return true
		}
	}
	return false
}

// await returns when every outcome is known, ctx is done, or the log has failed.
func (l *Log) await(ctx context.Context, c *call, entries []wal.NewEntry) []wal.Result {
	select {
	case <-c.done:
		l.confirmLife(ctx, c.results, entries)
		return c.results
	case <-ctx.Done():
		return c.leave(fmt.Errorf("append to topic %s: %w: %w", l.info.Name, wal.ErrUnknown, ctx.Err()))
	case <-l.ctx.Done():
		return c.leave(fmt.Errorf("append: %w: %w", wal.ErrUnknown, l.failure()))
	}
}

// leave gives up waiting: what has no outcome yet gets err.
func (c *call) leave(err error) []wal.Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	for i := range c.results {
		if r := &c.results[i]; r.Err == nil && r.Offset == wal.NoOffset {
			r.Err = err
		}
	}
	return c.results
}

// confirmLife makes sure that the first acknowledgement of a partition came from
// the life of the topic that was opened (older brokers take records by the
// topic's name), and finds out whether it was another life that a broker
// refused.
func (l *Log) confirmLife(ctx context.Context, results []wal.Result, entries []wal.NewEntry) {
	doubtful := func(i int) bool {
		err := results[i].Err
		if err == nil {
			return !l.parts[entries[i].Partition].bound.Load()
		}
		return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) || breaksSequence(err)
	}
	var err error
	asked := false
	for i := range results {
		if !doubtful(i) {
			continue
		}
		if !asked {
			err, asked = l.confirm(ctx), true
		}
		switch {
		case err != nil && !errors.Is(results[i].Err, wal.ErrNotAppended):
			results[i] = wal.Result{Offset: wal.NoOffset, Err: fmt.Errorf("append to topic %s: %w: %w", l.info.Name, wal.ErrUnknown, err)}
		case err == nil && results[i].Err == nil:
			l.parts[entries[i].Partition].bound.Store(true)
		}
	}
}
