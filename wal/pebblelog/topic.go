package pebblelog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// topic implements wal.Log.
type topic struct {
	b       *Broker
	id      uint32
	info    wal.TopicInfo
	parts   []*partition
	deleted atomic.Bool
	gone    chan struct{} // closed when deleted is set

	trimMu sync.Mutex // one Trim at a time
}

// partition is the state of one ordered part.
type partition struct {
	topic string
	p     wal.Partition
	seed  uint32 // of the checksums

	next wal.Offset // the next offset to give; the committer's alone
	mark int        // index in the ends of the group being encoded; the committer's alone

	// end is one above the last synced record; it moves after the sync returned.
	end atomic.Int64
	// floor is the first offset that may be read. It is raised before the records
	// below it are deleted, so that a reader finds a floor and not a hole.
	floor atomic.Int64

	// followed says that a reader has come to the end and waits for more.
	followed atomic.Bool

	mu     sync.Mutex    // guards moves of end, waiters, and tail
	growth chan struct{} // closed when end moves; nil when no one waits
	tail   tail
}

func (ps *partition) durableEnd() wal.Offset { return wal.Offset(ps.end.Load()) }
func (ps *partition) start() wal.Offset      { return wal.Offset(ps.floor.Load()) }

// advance moves the durable end and wakes readers.
func (ps *partition) advance(m *endMark) {
	ps.mu.Lock()
	ps.end.Store(int64(m.end))
	ps.tail.add(m)
	if ps.growth != nil {
		close(ps.growth)
		ps.growth = nil
	}
	ps.mu.Unlock()
}

// grownPast returns a channel that is closed once the durable end may be above
// o, or nil when it is.
func (ps *partition) grownPast(o wal.Offset) <-chan struct{} {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.durableEnd() > o {
		return nil
	}
	if ps.growth == nil {
		ps.growth = make(chan struct{})
	}
	return ps.growth
}

// readable returns why a reader may not stand at o, or nil.
func (ps *partition) readable(o wal.Offset) error {
	if start := ps.start(); o < start {
		return &wal.TrimmedError{Topic: ps.topic, Partition: ps.p, Wanted: o, Start: start}
	}
	if end := ps.durableEnd(); o > end {
		return fmt.Errorf("read topic %s partition %d: offset %d, end %d: %w", ps.topic, ps.p, o, end, wal.ErrBeyondEnd)
	}
	return nil
}

// corrupt names the place for errors that mean damage and wraps others.
func (ps *partition) corrupt(at wal.Offset, err error) error {
	if pebble.IsCorruptionError(err) || errors.Is(err, errFrame) {
		return ps.corruptf(at, "%v", err)
	}
	return fmt.Errorf("read topic %s partition %d offset %d: %w", ps.topic, ps.p, at, err)
}

func (ps *partition) corruptf(at wal.Offset, format string, args ...any) error {
	return &wal.CorruptError{Topic: ps.topic, Partition: ps.p, Offset: at, Detail: fmt.Sprintf(format, args...)}
}

// Info implements wal.Log.
func (t *topic) Info() wal.TopicInfo { return t.info }

// Guarantee implements wal.Log.
func (t *topic) Guarantee() (g wal.Guarantee, why string) { return wal.Synced, "" }

func (t *topic) errDeleted() error {
	return fmt.Errorf("topic %s was deleted: %w", t.info.Name, wal.ErrIncarnation)
}

// use returns the partition for an operation that touches the database; done
// must be called after it.
func (t *topic) use(ctx context.Context, p wal.Partition) (ps *partition, done func(), err error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	if int64(p) >= int64(len(t.parts)) {
		return nil, nil, fmt.Errorf("topic %s partition %d: %w", t.info.Name, p, wal.ErrNoPartition)
	}
	if err := t.b.enter(); err != nil {
		return nil, nil, fmt.Errorf("topic %s: %w", t.info.Name, err)
	}
	if t.deleted.Load() {
		t.b.leave()
		return nil, nil, t.errDeleted()
	}
	return t.parts[p], t.b.leave, nil
}

// Read implements wal.Log.
func (t *topic) Read(ctx context.Context, p wal.Partition, from wal.Offset) (wal.Reader, error) {
	ps, done, err := t.use(ctx, p)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := ps.readable(from); err != nil {
		return nil, err
	}
	r := &reader{t: t, ps: ps, next: from, gone: make(chan struct{})}
	return r, t.b.remember(r)
}

// Bounds implements wal.Log. Bytes counts what has left the memtables.
func (t *topic) Bounds(ctx context.Context, p wal.Partition) (wal.Bounds, error) {
	ps, done, err := t.use(ctx, p)
	if err != nil {
		return wal.Bounds{}, err
	}
	defer done()
	size, err := t.b.db.EstimateDiskUsage(recordKey(t.id, p, 0), partitionEnd(t.id, p))
	if err != nil {
		return wal.Bounds{}, fmt.Errorf("estimate size of topic %s partition %d: %w", t.info.Name, p, err)
	}
	// The floor first: it never passes the end.
	start := ps.start()
	return wal.Bounds{Start: start, End: ps.durableEnd(), Bytes: int64(size)}, nil
}

// LastEnd implements wal.Log.
func (t *topic) LastEnd(p wal.Partition) wal.LogEnd {
	at := t.b.clock.micros() // before the end, below which is then what was acknowledged by then
	return wal.LogEnd{End: t.parts[p].durableEnd(), At: at}
}

// LastBounds implements wal.Log: the bounds now, and after Close the last ones,
// without a size.
func (t *topic) LastBounds(p wal.Partition) (b wal.Bounds, at int64) {
	if int64(p) >= int64(len(t.parts)) {
		return wal.Bounds{Bytes: -1}, 0
	}
	at = t.b.clock.micros()
	b, err := t.Bounds(context.Background(), p)
	if err != nil {
		start := t.parts[p].start()
		b = wal.Bounds{Start: start, End: max(start, t.parts[p].durableEnd()), Bytes: -1}
	}
	return b, at
}

// OffsetAt implements wal.Log by binary search: log time never falls within a
// partition.
func (t *topic) OffsetAt(ctx context.Context, p wal.Partition, at int64) (wal.Offset, error) {
	ps, done, err := t.use(ctx, p)
	if err != nil {
		return 0, err
	}
	defer done()
	lo, hi := ps.start(), ps.durableEnd()
	for lo < hi {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		mid := lo + (hi-lo)/2
		logTime, err := t.timeOf(ps, mid)
		if start := ps.start(); start > mid { // trimmed under us
			lo = start
			continue
		}
		if err != nil {
			return 0, err
		}
		if logTime >= at {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo, nil
}

func (t *topic) timeOf(ps *partition, o wal.Offset) (int64, error) {
	key := recordKey(t.id, ps.p, o)
	v, closer, err := t.b.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		if t.deleted.Load() {
			return 0, t.errDeleted()
		}
		return 0, ps.corruptf(o, "record is missing")
	}
	if err != nil {
		return 0, ps.corrupt(o, err)
	}
	logTime, _, err := readFrame(v, ps.seed, key[offsetInKey:])
	if cerr := closer.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 0, ps.corrupt(o, err)
	}
	return logTime, nil
}

// Barrier implements wal.Log: what is acknowledged is below the durable end, and
// what is in doubt once its group is finished.
func (t *topic) Barrier(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	ps, done, err := t.use(ctx, p)
	if err != nil {
		return wal.NoOffset, err
	}
	defer done()
	if err := t.b.queue.doubted(ctx); err != nil {
		return wal.NoOffset, fmt.Errorf("barrier of topic %s partition %d: %w", t.info.Name, p, err)
	}
	return ps.durableEnd() - 1, nil
}

// Trim implements wal.Log. The floor and the deletion are one synced batch.
func (t *topic) Trim(ctx context.Context, p wal.Partition, before wal.Offset) error {
	ps, done, err := t.use(ctx, p)
	if err != nil {
		return err
	}
	defer done()
	t.trimMu.Lock()
	defer t.trimMu.Unlock()
	start := ps.start()
	if before <= start {
		return nil
	}
	if end := ps.durableEnd(); before > end {
		return fmt.Errorf("trim topic %s partition %d: before %d, end %d: %w", t.info.Name, p, before, end, wal.ErrBeyondEnd)
	}
	ps.floor.Store(int64(before))
	batch := t.b.db.NewBatch()
	err = errors.Join(
		batch.Set(floorKey(t.id, p), encodeFloor(ps.seed, before, t.b.clock.micros()), nil),
		batch.DeleteRange(recordKey(t.id, p, start), recordKey(t.id, p, before), nil),
	)
	if err == nil {
		err = t.b.syncWrite(batch)
	}
	if err != nil {
		return fmt.Errorf("trim topic %s partition %d: %w", t.info.Name, p, err)
	}
	return nil
}
