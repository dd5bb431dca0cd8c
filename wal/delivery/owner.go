package delivery

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Owner is what a DB knows of the applier that holds its partitions.
type Owner interface {
	consumers.Owner[TokenEntry]
	// Refused calls f with each offset of from <= o < to whose message does not count.
	// The partition must be applied up to there.
	Refused(ctx context.Context, p wal.Partition, from, to wal.Offset, f func(o wal.Offset)) error
	// Status, Delayed, Dead and Find are those of Outbox.
	Status(ctx context.Context, p wal.Partition, o wal.Offset) (Status, bool, error)
	Delayed(ctx context.Context, p wal.Partition, key []byte, due int64, o wal.Offset, before int64, limit int) ([]Pending, error)
	Dead(ctx context.Context, p wal.Partition, behind DeadPlace, limit int) ([]DeadDelivery, error)
	Find(ctx context.Context, p wal.Partition, n wal.Nonce) ([]Named, error)
	// Cancelled returns what the cancel at o came to, which is applied.
	Cancelled(ctx context.Context, p wal.Partition, o wal.Offset) (done, late int64, err error)
}

// Replica is the store of a namespace, with the applier that writes it and knows what
// is parked.
type Replica struct {
	Store Store
	*Applier
}

// Token returns what a token did, whatever its age.
func (r *Replica) Token(ctx context.Context, p wal.Partition, id wal.TokenID) (TokenEntry, bool, error) {
	return r.Store.Token(ctx, p, id)
}

// Local is the Owner of partitions whose appliers are in this process.
type Local struct {
	*consumers.Local[TokenEntry, *Replica]
}

var _ Owner = (*Local)(nil)

// NewLocal returns an owner of partitions that nothing answers for yet; see Set.
func NewLocal(progress *wal.Progress) *Local {
	return &Local{consumers.NewLocal[TokenEntry, *Replica](progress)}
}

// Refused implements Owner.
func (l *Local) Refused(ctx context.Context, p wal.Partition, from, to wal.Offset, f func(o wal.Offset)) error {
	r, err := l.Of(p)
	if err != nil {
		return err
	}
	var ds []consumers.Decision
	return r.Store.Exceptions(ctx, p, from, to, func(o wal.Offset, row []byte) error {
		if ds, err = consumers.DecodeDecisions(ds[:0], o, row); err != nil {
			return err
		}
		for i := range ds {
			switch ds[i].What {
			case consumers.WasDuplicate, consumers.WasConflict, consumers.WasTooOld, consumers.WasOutOfTurn:
				f(o)
				return nil
			}
		}
		return nil
	})
}

// Status implements Owner.
func (l *Local) Status(ctx context.Context, p wal.Partition, o wal.Offset) (Status, bool, error) {
	r, err := l.Of(p)
	if err != nil {
		return Status{}, false, err
	}
	return r.Store.Status(ctx, p, o)
}

// Delayed implements Owner.
func (l *Local) Delayed(
	ctx context.Context, p wal.Partition, key []byte, due int64, o wal.Offset, before int64, limit int,
) ([]Pending, error) {
	r, err := l.Of(p)
	if err != nil {
		return nil, err
	}
	return r.Store.Delayed(ctx, p, key, due, o, before, limit)
}

// Dead implements Owner.
func (l *Local) Dead(ctx context.Context, p wal.Partition, behind DeadPlace, limit int) ([]DeadDelivery, error) {
	r, err := l.Of(p)
	if err != nil {
		return nil, err
	}
	return r.Store.Dead(ctx, p, behind, limit)
}

// Find implements Owner.
func (l *Local) Find(ctx context.Context, p wal.Partition, n wal.Nonce) ([]Named, error) {
	r, err := l.Of(p)
	if err != nil {
		return nil, err
	}
	return r.Store.Find(ctx, p, n)
}

// Cancelled implements Owner.
func (l *Local) Cancelled(ctx context.Context, p wal.Partition, at wal.Offset) (done, late int64, err error) {
	r, err := l.Of(p)
	if err != nil {
		return 0, 0, err
	}
	err = r.Store.Exceptions(ctx, p, at, at+1, func(o wal.Offset, row []byte) error {
		ds, err := consumers.DecodeDecisions(nil, o, row)
		for _, d := range ds {
			if d.What != WasCancelled {
				continue
			}
			a, n := binary.Uvarint(d.Data)
			b, m := binary.Uvarint(d.Data[max(n, 0):])
			if n <= 0 || m <= 0 {
				return fmt.Errorf("%w: what a cancel came to, at %d", wal.ErrCorrupt, o)
			}
			done, late = int64(a), int64(b)
		}
		return err
	})
	return done, late, err
}
