package kv

import (
	"context"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Owner is what a DB knows of the applier that holds its partitions.
type Owner interface {
	consumers.Owner[TokenEntry]
	// Get reads a page of one record, as Store.Get does.
	Get(ctx context.Context, q *Query) (*Page, error)
	// Scan reads a page of a partition, as Store.Scan does.
	Scan(ctx context.Context, q *ScanQuery) (*ScanPage, error)
	// Upload returns a staged or committed upload.
	Upload(ctx context.Context, p wal.Partition, id UploadID) (StoredUpload, bool, error)
	// ReadChunk reads a piece of an uploaded value.
	ReadChunk(ctx context.Context, p wal.Partition, id UploadID, index int) ([]byte, error)
}

// Replica is one store of a namespace, with the applier that writes it and knows what
// is parked.
type Replica struct {
	Store Store
	*Applier
}

// Token returns what a token did, whatever its age.
func (r *Replica) Token(ctx context.Context, p wal.Partition, id wal.TokenID) (TokenEntry, bool, error) {
	return r.Store.Token(ctx, p, id)
}

// Local is the Owner of partitions whose appliers are in this process: reads go
// to the store that answers.
type Local struct {
	*consumers.Local[TokenEntry, *Replica]
}

var _ Owner = (*Local)(nil)

// NewLocal returns an owner of partitions that r answers for; nil: that nothing
// answers for yet, see Set.
func NewLocal(progress *wal.Progress, r *Replica) *Local {
	l := &Local{consumers.NewLocal[TokenEntry, *Replica](progress)}
	if r != nil {
		l.SetAll(r)
	}
	return l
}

// Get implements Owner.
func (l *Local) Get(ctx context.Context, q *Query) (*Page, error) {
	r, err := l.Of(q.Partition)
	if err != nil {
		return nil, err
	}
	return r.Store.Get(ctx, q)
}

// Scan implements Owner.
func (l *Local) Scan(ctx context.Context, q *ScanQuery) (*ScanPage, error) {
	r, err := l.Of(q.Partition)
	if err != nil {
		return nil, err
	}
	return r.Store.Scan(ctx, q)
}

// Upload implements Owner.
func (l *Local) Upload(ctx context.Context, p wal.Partition, id UploadID) (StoredUpload, bool, error) {
	r, err := l.Of(p)
	if err != nil {
		return StoredUpload{}, false, err
	}
	return r.Store.Upload(ctx, p, id)
}

// ReadChunk implements Owner.
func (l *Local) ReadChunk(ctx context.Context, p wal.Partition, id UploadID, index int) ([]byte, error) {
	r, err := l.Of(p)
	if err != nil {
		return nil, err
	}
	return r.Store.ReadChunk(ctx, p, id, index)
}
