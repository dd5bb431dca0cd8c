package timeseries

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Owner is what a DB knows of the applier that holds its partitions.
type Owner interface {
	consumers.Owner[TokenEntry]
	// Slices are those of a partition.
	Slices(ctx context.Context, p wal.Partition) (Slices, error)
	// Measure says what each slice of a partition holds, as Store.Measure does.
	Measure(ctx context.Context, p wal.Partition) ([]SliceSize, error)
	// Read reads a page of one series, as Store.Read does.
	Read(ctx context.Context, q *Query) (*Page, error)
	// Search reads a page of events of one partition, as Store.Search does.
	Search(ctx context.Context, q *SearchQuery) (*Found, error)
	// Aggregate adds the events of one partition to groups, as Store.Aggregate does.
	Aggregate(ctx context.Context, q *AggregateQuery, into *Groups) error
	// List reads series of one partition, as Store.List does.
	List(ctx context.Context, q *ListQuery) ([]Series, bool, error)
}

// Replica is one store of a namespace, with the applier that writes it and knows what is
// parked.
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

// Slices implements Owner.
func (l *Local) Slices(_ context.Context, p wal.Partition) (Slices, error) {
	r, err := l.Of(p)
	if err != nil {
		return nil, err
	}
	return r.Store.Slices(p), nil
}

// Measure implements Owner.
func (l *Local) Measure(ctx context.Context, p wal.Partition) ([]SliceSize, error) {
	r, err := l.Of(p)
	if err != nil {
		return nil, err
	}
	return r.Store.Measure(ctx, p)
}

// Read implements Owner.
func (l *Local) Read(ctx context.Context, q *Query) (*Page, error) {
	r, err := l.Of(q.Partition)
	if err != nil {
		return nil, err
	}
	return r.Store.Read(ctx, q)
}

// Search implements Owner.
func (l *Local) Search(ctx context.Context, q *SearchQuery) (*Found, error) {
	r, err := l.Of(q.Partition)
	if err != nil {
		return nil, err
	}
	return r.Store.Search(ctx, q)
}

// Aggregate implements Owner.
func (l *Local) Aggregate(ctx context.Context, q *AggregateQuery, into *Groups) error {
	r, err := l.Of(q.Partition)
	if err != nil {
		return err
	}
	return r.Store.Aggregate(ctx, q, into)
}

// List implements Owner.
func (l *Local) List(ctx context.Context, q *ListQuery) ([]Series, bool, error) {
	r, err := l.Of(q.Partition)
	if err != nil {
		return nil, false, err
	}
	return r.Store.List(ctx, q)
}
