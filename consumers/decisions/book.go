package decisions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/headwater-db/headwater/wal"
)

// Book is what the decisions topic of a namespace says of each partition, followed until Close. Safe
// for concurrent use.
type Book struct {
	log    wal.Log
	logger *slog.Logger
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	parts   []Standing // by partition
	read    []*wal.Watermark
	errs    []error // why a partition cannot be read now
	changed chan struct{}
}

// Follow reads a decisions topic from its beginning and goes on until Close. It returns
// at once; see Sync.
func Follow(log wal.Log, logger *slog.Logger) *Book {
	n := log.Info().Partitions
	ctx, cancel := context.WithCancel(context.Background())
	b := &Book{
		log: log, logger: logger, cancel: cancel, parts: make([]Standing, n), read: make([]*wal.Watermark, n), errs: make([]error, n),
		changed: make(chan struct{}),
	}
	for i := range n {
		b.parts[i] = newStanding()
		b.read[i] = wal.NewWatermark(wal.NoOffset)
	}
	for i := range n {
		b.work.Go(func() { b.follow(ctx, wal.Partition(i)) })
	}
	return b
}

// Close stops following.
func (b *Book) Close() {
	b.cancel()
	b.work.Wait()
}

// Holder returns the newest claim of a partition that is known here, and whether there is
// one.
func (b *Book) Holder(p wal.Partition) (Claim, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.parts[p].Claim
	return c, c.Epoch != wal.NoOffset
}

// Standing returns what is known here of a partition.
func (b *Book) Standing(p wal.Partition) Standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.parts[p]
}

// Reach returns once the entry at o of p is read, and what it and those before it come to, or more.
func (b *Book) Reach(ctx context.Context, p wal.Partition, o wal.Offset) (Standing, error) {
	if err := b.read[p].Wait(ctx, o); err != nil {
		return Standing{}, fmt.Errorf("read the decisions of partition %d up to %d: %w", p, o, errors.Join(err, b.Err()))
	}
	return b.Standing(p), nil
}

// Changed returns a channel that is closed at the next new claim of any partition. Ask
// for it before Holder.
func (b *Book) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// Err returns why the entries of a partition cannot be read now, or nil.
func (b *Book) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.errs...)
}

// Sync returns once the entries of p that the topic has now are read.
func (b *Book) Sync(ctx context.Context, p wal.Partition) error {
	bounds, err := b.log.Bounds(ctx, p)
	if err != nil {
		return fmt.Errorf("end of the decisions of partition %d: %w", p, err)
	}
	if bounds.Start == bounds.End {
		return nil
	}
	if err := b.read[p].Wait(ctx, bounds.End-1); err != nil {
		return fmt.Errorf("read the decisions of partition %d: %w", p, errors.Join(err, b.Err()))
	}
	return nil
}

// manyEntries is how many entries of a partition have to be in nobody's way before they are freed.
const manyEntries = 256

// Free frees the entries of p that nobody needs any more, if they are many: those before the newest claim, or, where
// there are marks, those before a claim that all marks of records at or above start are behind. start is that
// of the log.
func (b *Book) Free(ctx context.Context, p wal.Partition, start wal.Offset) error {
	s := b.Standing(p)
	to := s.Claim.Epoch
	if s.Marked {
		to = s.trimTo(start)
	}
	if at, _ := b.log.LastBounds(p); to-at.Start <= manyEntries {
		return nil
	}
	if err := b.log.Trim(ctx, p, to); err != nil {
		return fmt.Errorf("free old decisions of partition %d: %w", p, err)
	}
	return nil
}

// follow reads a partition until ctx is done.
func (b *Book) follow(ctx context.Context, p wal.Partition) {
	bo := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond), backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0))
	next := wal.Offset(0)
	for ctx.Err() == nil {
		err := b.readOn(ctx, p, &next, bo)
		var trimmed *wal.TrimmedError
		if errors.As(err, &trimmed) { // what begins with a claim was left
			next = trimmed.Start
			b.mu.Lock()
			b.parts[p] = newStanding()
			b.mu.Unlock()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		b.failed(p, err)
		t := time.NewTimer(bo.NextBackOff())
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// readOn reads from next until something is wrong.
func (b *Book) readOn(ctx context.Context, p wal.Partition, next *wal.Offset, bo *backoff.ExponentialBackOff) (err error) {
	rd, err := b.log.Read(ctx, p, *next)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	for {
		entries, err := rd.Next(ctx)
		if err != nil {
			return err
		}
		bo.Reset()
		b.mu.Lock()
		b.errs[p] = nil
		b.mu.Unlock()
		for i := range entries {
			if err := b.take(p, &entries[i]); err != nil {
				return fmt.Errorf("entry %d of partition %d of topic %s: %w", entries[i].Offset, p, b.log.Info().Name, err)
			}
			*next = entries[i].Offset + 1
		}
	}
}

// take takes an entry into account.
func (b *Book) take(p wal.Partition, e *wal.Entry) error {
	b.mu.Lock()
	_, claimed, err := b.parts[p].take(e)
	if claimed {
		close(b.changed)
		b.changed = make(chan struct{})
	}
	b.mu.Unlock()
	if err == nil {
		b.read[p].Advance(e.Offset)
	}
	return err
}

func (b *Book) failed(p wal.Partition, err error) {
	b.mu.Lock()
	first := b.errs[p] == nil
	b.errs[p] = err
	b.mu.Unlock()
	if first {
		b.logger.Warn("the decisions of a partition cannot be read; it is tried again", "topic", b.log.Info().Name, "partition", uint32(p), "reason", err)
	}
}
