package kafkalog

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// Barrier returns the offset of a barrier record that was appended after the
// call. Everyone who waits shares one; who comes while it is in flight waits for
// the next. A barrier that fails leaves nothing behind but perhaps its record,
// which appliers skip.
func (l *Log) Barrier(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	part, err := l.part(p)
	if err != nil {
		return wal.NoOffset, err
	}
	if err := l.refusal(ctx); err != nil {
		return wal.NoOffset, l.explain("barrier", p, err)
	}
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(l.ctx, cancel)
	defer stop()
	off, err := part.barrier.do(wait)
	if err == nil && !part.bound.Load() {
		if err = l.confirm(ctx); err == nil {
			part.bound.Store(true)
		}
	}
	if err != nil {
		return wal.NoOffset, l.explain("barrier", p, err)
	}
	return off, nil
}

var barrierRecord = wal.AppendRecord(nil, &wal.Record{Kind: wal.KindBarrier})

func (l *Log) appendBarrier(p wal.Partition, done func(wal.Offset, error)) {
	c := &call{then: done}
	items := []item{{call: c, part: l.parts[p]}}
	items[0].rec.Partition = int32(p)
	items[0].rec.Value = barrierRecord
	if !l.b.hand(l, c, items) {
		done(wal.NoOffset, fmt.Errorf("append barrier: %w", wal.ErrClosed))
	}
}
