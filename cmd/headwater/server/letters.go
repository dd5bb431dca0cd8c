package server

import (
	"context"
	"fmt"
	"math"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// openLetters opens the namespace's dead letters. Where the log has lost its end,
// with whatever held it, the letters of what comes to stand there are new.
func (x *space) openLetters(ctx context.Context) (err error) {
	topic := x.entry.DeadLetterTopic
	if x.letters, err = x.s.broker.Open(ctx, topic); err != nil {
		return fmt.Errorf("open topic %s: %w", topic, err)
	}
	if x.ns.Letters, err = consumers.OpenDeadLetters(ctx, x.letters, x.s.countLetter); err != nil {
		return fmt.Errorf("read topic %s: %w", topic, err)
	}
	if !x.s.cfg.Role.applies() {
		return nil // they are written by the owner
	}
	for i := range x.log.Info().Partitions {
		p := wal.Partition(i)
		b, err := x.log.Bounds(ctx, p)
		if err != nil {
			return fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		if err := x.ns.Letters.Rewind(ctx, p, b.End); err != nil {
			return fmt.Errorf("topic %s: %w", topic, err)
		}
	}
	return nil
}

// trimLetters frees the dead letters that dead_letters.retention and max_bytes do
// not keep, but for those of what is parked, and of what is applied again after a
// crash. more says that it has to wait for the first keep.
func (x *space) trimLetters(ctx context.Context, _ int) (more bool, err error) {
	if !x.holds(0) { // one process trims them
		return false, nil
	}
	x.mu.Lock()
	durable := x.durable
	x.mu.Unlock()
	if len(durable) == 0 {
		return true, nil
	}
	c := x.ns.Config().DeadLetters
	keep := consumers.LetterKeep{Bytes: math.MaxInt64, Decided: make(map[wal.Partition]wal.Offset)}
	if c.Retention > 0 {
		keep.Since = x.s.broker.Now().Add(-c.Retention).UnixMicro()
	}
	if c.MaxBytes > 0 {
		keep.Bytes = c.MaxBytes
	}
	for _, st := range x.all() {
		d, kept := durable[st]
		if !kept {
			return true, nil
		}
		for p := range wal.Partition(x.log.Info().Partitions) {
			from := wal.Offset(0) // where the store begins after a crash
			if o, ok := d[p]; ok {
				from = o + 1
			}
			if !x.holds(p) {
				from = max(x.standing(p).Letters, 0)
			}
			if part := st.loop.Part(p); part != nil {
				if at := part.Parking().LowestAt(); at != wal.NoOffset {
					from = min(from, at)
				}
			}
			if o, ok := keep.Decided[p]; !ok || from < o {
				keep.Decided[p] = from
			}
		}
	}
	return false, x.ns.Letters.Trim(ctx, keep)
}
