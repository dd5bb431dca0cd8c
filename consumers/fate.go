package consumers

import (
	"context"
	"errors"

	"github.com/headwater-db/headwater/wal"
)

// Fate is what became of a write, as far as it is remembered.
type Fate struct {
	Known  bool
	Reason string // why it was refused or parked; empty: it was applied
	Parked bool
	At     wal.Ref // of the record; its Index is not said of what is applied
}

// searchedRefs is how many records behind a parked key are looked at for a token.
const searchedRefs = 1000

// Fate returns what became of the write of a routing key under a nonce, once all that
// this process has acknowledged is applied. told says of a token's entry why it was
// refused ("" where it was applied) and where its record is; token is that of a call of
// a record. Not known: it never came, is forgotten, or was dropped. Errors: those of
// Stream.WaitRead, and of the owner.
func (f *Front[E]) Fate(ctx context.Context, key []byte, n wal.Nonce, told func(*E) (string, wal.Offset), token func(*wal.Record, int) wal.Token) (Fate, error) {
	p := f.Stream.PartitionOf(key)
	if err := f.Stream.WaitRead(ctx, p, &wal.ReadPoint{Consistency: wal.ReadYourWrites}); err != nil {
		return Fate{}, err
	}
	for _, id := range [...]wal.TokenID{wal.IDOf(key, n), wal.CallIDOf(key, n)} {
		e, ok, err := f.Owner.Token(ctx, p, id)
		if err != nil {
			return Fate{}, err
		}
		if ok {
			reason, o := told(&e)
			return Fate{Known: true, Reason: reason, At: wal.Ref{Partition: p, Offset: o, Index: wal.WholeRecord}}, nil
		}
	}
	q, ok, err := f.Owner.Parked(ctx, p, key)
	if err != nil || !ok {
		return Fate{}, err
	}
	for _, ref := range q.Refs[:min(len(q.Refs), searchedRefs)] {
		found := false
		err := wal.ReadOne(ctx, f.Stream.Log(), p, ref.Offset, func(e *wal.Entry) error {
			var rec wal.Record
			if wal.DecodeRecord(e.Data, &rec) == nil {
				found = token(&rec, ref.Index).Nonce == n
			}
			return nil
		})
		if err != nil && !errors.Is(err, wal.ErrTrimmed) {
			return Fate{}, err
		}
		if found {
			return Fate{Known: true, Parked: true, Reason: q.Reason, At: ref}, nil
		}
	}
	return Fate{}, nil
}
