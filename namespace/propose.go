package namespace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// propose appends c and returns what became of it in log order.
func (r *Registry) propose(ctx context.Context, c *change) (verdict, error) {
	payload, err := encodeChange(c)
	if err != nil {
		return verdict{}, err
	}
	now := time.Now().UnixMicro()
	rec := wal.Record{
		RoutingKey: []byte(c.Name), Kind: wal.KindNamespace, Payload: payload, AcceptedAt: now,
		Token: wal.Token{GenerationTime: now, Nonce: wal.NewNonce()},
	}
	data := wal.AppendRecord(nil, &rec)
	if len(data) > wal.MaxRecordBytes {
		return verdict{}, fmt.Errorf("append change of namespace %s: %w: %w", c.Name, wal.ErrNotAppended, wal.ErrTooLarge)
	}

	w := make(chan verdict, 1)
	r.mu.Lock()
	r.waiters[rec.Token.Nonce] = w
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.waiters, rec.Token.Nonce)
		r.mu.Unlock()
	}()

	res := r.log.Append(ctx, wal.Sync, []wal.NewEntry{{Partition: 0, Data: data}})[0]
	upTo := res.Offset
	switch {
	case res.Err == nil:
	case errors.Is(res.Err, wal.ErrUnknown):
		// The log itself says what became of it: the record is either before the
		// barrier, or was not there yet.
		if upTo, err = r.log.Barrier(ctx, 0); err != nil {
			return verdict{}, fmt.Errorf("%w: %s: %w", ErrUnknownOutcome, c.Name, errors.Join(res.Err, err))
		}
	default:
		return verdict{}, fmt.Errorf("append change of namespace %s: %w", c.Name, res.Err)
	}
	if err := r.waitApplied(ctx, upTo); err != nil {
		return verdict{}, fmt.Errorf("%w: %s: %w", ErrUnknownOutcome, c.Name, err)
	}
	// The verdict is given before the watermark is raised, so it is here by now if
	// the record is at or before upTo.
	select {
	case v := <-w:
		return v, nil
	default:
	}
	if res.Err == nil {
		return verdict{}, fmt.Errorf("%w: %s: the record acknowledged at offset %d did not come back", ErrUnknownOutcome, c.Name, upTo)
	}
	return verdict{}, fmt.Errorf("%w: %s: %w", ErrUnknownOutcome, c.Name, res.Err)
}
