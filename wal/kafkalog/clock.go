package kafkalog

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// clockGrain is how exactly brokers stamp records.
const clockGrain = time.Millisecond

// Now is the brokers' clock: this machine's, less what it was found to be ahead of them at the last look.
func (b *Broker) Now() time.Time { return b.cfg.Clock().Add(-b.ClockAhead()) }

// ClockAhead is how far this machine's clock is ahead of the brokers' at least, as of the last look; below 0 it is behind.
// Clocks that are as near to each other as a record takes to the log and back are 0 apart.
func (b *Broker) ClockAhead() time.Duration { return time.Duration(b.ahead.Load()) }

// LookAtClock compares this machine's clock with that of the broker that leads a partition: it appends a barrier, reads back
// at what time it was appended, and holds that against the time before and after. For Now and ClockAhead from now on.
func (b *Broker) LookAtClock(ctx context.Context, l wal.Log, p wal.Partition) error {
	before := b.cfg.Clock()
	at, err := l.Barrier(ctx, p)
	if err != nil {
		return err
	}
	after := b.cfg.Clock()
	return wal.ReadOne(ctx, l, p, at, func(e *wal.Entry) error {
		b.noteClock(before, after, time.UnixMicro(e.LogTime))
		return nil
	})
}

// noteClock notes that a record was appended between two times of this machine, and at a time of its broker.
func (b *Broker) noteClock(before, after, appended time.Time) {
	var ahead time.Duration
	if d := before.Sub(appended); d > clockGrain {
		ahead = d
	} else if d := after.Sub(appended); d < 0 {
		ahead = d
	}
	b.ahead.Store(int64(ahead))
	b.metrics.clockAhead.Set(ahead.Seconds())
}
