package pebblelog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
)

// Broker implements wal.Broker on one Pebble instance.
type Broker struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	clock   clock
	db      *pebble.DB
	lock    *pebble.Lock

	queue     queue
	inFlight  chan inFlight
	lastParts int // of the group that was taken last; the committer's alone
	space     space
	ends      endsState

	adminMu sync.Mutex // one Create or Delete at a time
	nextID  uint32     // guarded by adminMu

	mu      sync.Mutex // guards topics, readers, closed and entering ops
	topics  map[string]*topic
	readers map[*reader]struct{}
	closed  bool
	ops     sync.WaitGroup // operations that use db

	writing  chan struct{} // holds a token while syncWrite commits
	closing  atomic.Bool
	closeErr error
	closedCh chan struct{} // closed when Close is done
	stopping chan struct{} // closed when Close begins
	fault    *pebblefail.Failure
	loops    sync.WaitGroup
}

// enter lets an operation use the database; leave ends it.
func (b *Broker) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return wal.ErrClosed
	}
	b.ops.Add(1)
	return nil
}

func (b *Broker) leave() { b.ops.Done() }

func (b *Broker) remember(r *reader) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return wal.ErrClosed
	}
	b.readers[r] = struct{}{}
	return nil
}

func (b *Broker) forget(r *reader) {
	b.mu.Lock()
	delete(b.readers, r)
	b.mu.Unlock()
}

// syncWrite commits a batch durably, outside the append queue, one at a time (see
// maxUnsynced). It returns when the log fails, even if Pebble never does.
func (b *Broker) syncWrite(batch *pebble.Batch) error {
	if err := b.fault.Err(); err != nil {
		return err
	}
	select {
	case b.writing <- struct{}{}:
	case <-b.fault.Failed():
		return b.fault.Err()
	}
	err := b.fault.Guard(func() error {
		defer func() { <-b.writing }()
		return batch.Commit(pebble.Sync)
	})
	if err != nil {
		b.fault.Fail(fmt.Errorf("commit: %w", err))
	}
	return b.fault.Err() // a sync that came after a failed one proves nothing
}

// Create implements wal.Broker. The topic is durable when it returns.
func (b *Broker) Create(ctx context.Context, spec wal.TopicSpec) (wal.Log, error) {
	if err := checkSpec(spec); err != nil {
		return nil, err
	}
	if err := b.enter(); err != nil {
		return nil, fmt.Errorf("create topic %s: %w", spec.Name, err)
	}
	defer b.leave()
	b.adminMu.Lock()
	defer b.adminMu.Unlock()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("create topic %s: %w", spec.Name, context.Cause(ctx))
	}
	if t := b.topic(spec.Name); t != nil {
		if t.info.Partitions != spec.Partitions {
			return nil, fmt.Errorf("topic %s has %d partitions, not %d: %w", spec.Name, t.info.Partitions, spec.Partitions, wal.ErrPartitionCount)
		}
		return t, nil
	}
	if b.space.full.Load() {
		return nil, fmt.Errorf("create topic %s: %w", spec.Name, b.space.err())
	}
	t := b.newTopic(b.nextID, spec.Name, spec.Partitions, wal.NewIncarnation())
	batch := b.db.NewBatch()
	err := errors.Join(
		batch.Set(topicKey(spec.Name), encodeTopic(spec.Name, t.id, spec.Partitions, t.info.Incarnation), nil),
		batch.Set(keyNextID, binary.BigEndian.AppendUint32(nil, t.id+1), nil),
	)
	if err == nil {
		err = b.syncWrite(batch)
	}
	if err != nil {
		return nil, fmt.Errorf("create topic %s: %w", spec.Name, err)
	}
	b.nextID++
	b.mu.Lock()
	b.topics[spec.Name] = t
	b.mu.Unlock()
	b.ends.dirty.Store(true)
	return t, nil
}

func checkSpec(spec wal.TopicSpec) error {
	if n := len(spec.Name); n < 1 || n > 249 {
		return fmt.Errorf("create topic: name of %d bytes, want 1 to 249", n)
	}
	for _, c := range []byte(spec.Name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return fmt.Errorf("create topic: name %q has a character that is none of a-z A-Z 0-9 . _ -", spec.Name)
		}
	}
	if spec.Partitions < 1 || spec.Partitions > maxPartitions {
		return fmt.Errorf("create topic %s: %d partitions, want 1 to %d", spec.Name, spec.Partitions, maxPartitions)
	}
	return nil
}

func (b *Broker) newTopic(id uint32, name string, partitions int, inc wal.Incarnation) *topic {
	t := &topic{
		b: b, id: id, gone: make(chan struct{}),
		info:  wal.TopicInfo{Name: name, Partitions: partitions, Incarnation: inc},
		parts: make([]*partition, partitions),
	}
	for i := range t.parts {
		p := wal.Partition(i)
		t.parts[i] = &partition{topic: name, p: p, seed: crcSeed(inc, p)}
	}
	return t
}

func (b *Broker) topic(name string) *topic {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.topics[name]
}

// Open implements wal.Broker.
func (b *Broker) Open(ctx context.Context, name string) (wal.Log, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("open topic %s: %w", name, context.Cause(ctx))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("open topic %s: %w", name, wal.ErrClosed)
	}
	t := b.topics[name]
	if t == nil {
		return nil, fmt.Errorf("open topic %s: %w", name, wal.ErrTopicNotFound)
	}
	return t, nil
}

// Delete implements wal.Broker. The topic is gone durably when it returns; its
// space is freed by and by.
func (b *Broker) Delete(ctx context.Context, name string) error {
	if err := b.enter(); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	defer b.leave()
	b.adminMu.Lock()
	defer b.adminMu.Unlock()
	if ctx.Err() != nil {
		return fmt.Errorf("delete topic %s: %w", name, context.Cause(ctx))
	}
	t := b.topic(name)
	if t == nil {
		return nil
	}
	if err := b.fault.Err(); err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	b.mu.Lock()
	delete(b.topics, name)
	b.mu.Unlock()
	t.deleted.Store(true)
	close(t.gone)
	err := b.deleteRecords(t)
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	return nil
}

// deleteRecords removes what a deleted topic has on disk. First its ends leave
// ENDS, so that a crash in between is not taken for a lost topic; then groups that
// hold its records finish, so that none lands behind the deletion.
func (b *Broker) deleteRecords(t *topic) error {
	b.ends.dirty.Store(true)
	if err := b.saveEnds(); err != nil {
		b.fault.Fail(err)
		return b.fault.Err()
	}
	if err := b.flush(); err != nil {
		return err
	}
	batch := b.db.NewBatch()
	rs, re := topicSpan(familyRecord, t.id)
	fs, fe := topicSpan(familyFloor, t.id)
	err := errors.Join(
		batch.Delete(topicKey(t.info.Name), nil),
		batch.DeleteRange(rs, re, nil),
		batch.DeleteRange(fs, fe, nil),
	)
	if err != nil {
		return err
	}
	return b.syncWrite(batch)
}

// Topics implements wal.Broker, in no order.
func (b *Broker) Topics(ctx context.Context) ([]wal.TopicInfo, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("list topics: %w", context.Cause(ctx))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("list topics: %w", wal.ErrClosed)
	}
	out := make([]wal.TopicInfo, 0, len(b.topics))
	for _, t := range b.topics {
		out = append(out, t.info)
	}
	return out, nil
}

// Health implements wal.Broker.
func (b *Broker) Health() error {
	if err := b.fault.Err(); err != nil {
		return err
	}
	if b.closing.Load() {
		return wal.ErrClosed
	}
	if b.space.full.Load() {
		return b.space.err()
	}
	return nil
}

// Guarantee implements wal.Broker.
func (b *Broker) Guarantee() wal.Guarantee { return wal.Synced }

// BufferedLoss implements wal.Broker: Config.BufferedLoss.
func (b *Broker) BufferedLoss() time.Duration { return b.cfg.BufferedLoss }

// Now implements wal.Broker: the clock that log times are stamped from.
func (b *Broker) Now() time.Time { return time.UnixMicro(b.clock.micros()) }

// Usage implements wal.Broker, as of the last look. FreeBytes is -1 when the file
// system can't tell.
func (b *Broker) Usage() wal.Usage {
	return wal.Usage{LogBytes: b.space.used.Load(), FreeBytes: b.space.free.Load(), FloorBytes: max(b.cfg.FreeSpaceFloor, 0)}
}

// housekeep looks at the disk and writes ENDS, until Close.
func (b *Broker) housekeep() {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-b.stopping:
			return
		case <-b.fault.Failed():
			return
		}
		b.checkSpace()
		used := int64(b.db.Metrics().DiskSpaceUsage())
		b.space.used.Store(used)
		b.metrics.bytes.Set(float64(used))
		if err := b.saveEnds(); err != nil {
			b.fault.Fail(err)
		}
	}
}
