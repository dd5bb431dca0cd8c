package gateway

import (
	"context"
	"errors"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// Stores changes the stores of namespaces, as the AdminService asks. Its errors are
// those of the API. Safe for concurrent use.
type Stores interface {
	List(ctx context.Context, namespace string) ([]*headwaterv1.Store, error)
	// Compare starts a comparison, or returns the job of the one that runs.
	Compare(ctx context.Context, namespace, store string) (job string, err error)
	// Promote and Rollback return when every partition has turned.
	Promote(ctx context.Context, namespace, store string, acceptDifferences bool) (*headwaterv1.Store, error)
	Rollback(ctx context.Context, namespace, store string) (*headwaterv1.Store, error)
	Drop(ctx context.Context, namespace, store, confirm string) error
	// Rebuild starts a rebuild of the PRIMARY; on a dry run it only checks, and job
	// is empty.
	Rebuild(ctx context.Context, r *Rebuild) (job string, err error)
	Jobs() []*headwaterv1.Job
	// Job returns a job, nil when there is none of that id. Cancel ends it first.
	Job(id string) *headwaterv1.Job
	Cancel(ctx context.Context, id string) (*headwaterv1.Job, error)
}

// Rebuild asks for a store that is built from the log.
type Rebuild struct {
	Namespace, Store string
	// From is the first offset of each partition that counts; nil: every record does.
	From []wal.Offset
	// Omit are the nonces of tokens whose writes have no effect.
	Omit   []wal.Nonce
	DryRun bool
}

// MaxOmit is how many tokens a rebuild leaves out.
const MaxOmit = 1000

// ListStores implements AdminService.
func (s *Admin) ListStores(ctx context.Context, req *headwaterv1.ListStoresRequest) (*headwaterv1.ListStoresResponse, error) {
	stores, err := s.cfg.Stores.List(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	return whole(&headwaterv1.ListStoresResponse{Stores: stores}, "drop stores whose comparisons found many differences")
}

// CompareStore implements AdminService.
func (s *Admin) CompareStore(ctx context.Context, req *headwaterv1.CompareStoreRequest) (*headwaterv1.CompareStoreResponse, error) {
	job, err := s.cfg.Stores.Compare(ctx, req.GetNamespace(), req.GetStore())
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	return &headwaterv1.CompareStoreResponse{Job: job}, nil
}

// PromoteStore implements AdminService.
func (s *Admin) PromoteStore(ctx context.Context, req *headwaterv1.PromoteStoreRequest) (*headwaterv1.PromoteStoreResponse, error) {
	st, err := s.cfg.Stores.Promote(ctx, req.GetNamespace(), req.GetStore(), req.GetAcceptDifferences())
	if err != nil {
		return nil, storeError(err)
	}
	return &headwaterv1.PromoteStoreResponse{Store: st}, nil
}

// RollbackStore implements AdminService.
func (s *Admin) RollbackStore(ctx context.Context, req *headwaterv1.RollbackStoreRequest) (*headwaterv1.RollbackStoreResponse, error) {
	st, err := s.cfg.Stores.Rollback(ctx, req.GetNamespace(), req.GetStore())
	if err != nil {
		return nil, storeError(err)
	}
	return &headwaterv1.RollbackStoreResponse{Store: st}, nil
}

// DropStore implements AdminService.
func (s *Admin) DropStore(ctx context.Context, req *headwaterv1.DropStoreRequest) (*headwaterv1.DropStoreResponse, error) {
	if err := s.cfg.Stores.Drop(ctx, req.GetNamespace(), req.GetStore(), req.GetConfirm()); err != nil {
		return nil, storeError(err)
	}
	return &headwaterv1.DropStoreResponse{}, nil
}

// Rebuild implements AdminService.
func (s *Admin) Rebuild(ctx context.Context, req *headwaterv1.RebuildRequest) (*headwaterv1.RebuildResponse, error) {
	r, err := s.rebuild(ctx, req)
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	job, err := s.cfg.Stores.Rebuild(ctx, r)
	if err != nil {
		return nil, storeError(err)
	}
	return &headwaterv1.RebuildResponse{Job: job}, nil
}

// rebuild checks what is asked for.
func (s *Admin) rebuild(ctx context.Context, req *headwaterv1.RebuildRequest) (*Rebuild, error) {
	n, err := s.cfg.Directory.lookup(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	r := &Rebuild{Namespace: n.Name, Store: req.GetStore(), DryRun: req.GetDryRun()}
	if len(req.GetOmit()) > MaxOmit {
		return nil, apierrors.New(apierrors.TooManyItems, "omit has %d tokens; it takes %d", len(req.GetOmit()), MaxOmit)
	}
	for i, t := range req.GetOmit() {
		tok, err := parseToken(t)
		if err != nil {
			return nil, err
		}
		if tok.Nonce == (wal.Nonce{}) {
			return nil, apierrors.New(apierrors.BadToken, "omit[%d] has neither nonce nor key; send the token that the write was answered with", i)
		}
		r.Omit = append(r.Omit, tok.Nonce)
	}
	var from *headwaterv1.LogStart
	switch at := req.GetFrom().GetAt().(type) {
	case nil:
		if req.From != nil {
			return nil, apierrors.New(apierrors.BadLogStart, "from is empty; say earliest, a position or a time, or leave it out")
		}
		return r, nil
	case *headwaterv1.RebuildRequest_From_Earliest:
		if !at.Earliest {
			return nil, apierrors.New(apierrors.BadLogStart, "from.earliest is false; say true, a position or a time, or leave from out")
		}
		return r, nil
	case *headwaterv1.RebuildRequest_From_Position:
		from = &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Position{Position: at.Position}}
	case *headwaterv1.RebuildRequest_From_Time:
		from = &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Time{Time: at.Time}}
	}
	bounds, err := n.starts(ctx, from)
	for _, b := range bounds {
		r.From = append(r.From, b.Start)
	}
	return r, err
}

// ListJobs implements AdminService.
func (s *Admin) ListJobs(context.Context, *headwaterv1.ListJobsRequest) (*headwaterv1.ListJobsResponse, error) {
	return whole(&headwaterv1.ListJobsResponse{Jobs: s.cfg.Stores.Jobs()}, "ask for one job")
}

// GetJob implements AdminService.
func (s *Admin) GetJob(_ context.Context, req *headwaterv1.GetJobRequest) (*headwaterv1.GetJobResponse, error) {
	j := s.cfg.Stores.Job(req.GetId())
	if j == nil {
		return nil, noJob(req.GetId())
	}
	return &headwaterv1.GetJobResponse{Job: j}, nil
}

// CancelJob implements AdminService.
func (s *Admin) CancelJob(ctx context.Context, req *headwaterv1.CancelJobRequest) (*headwaterv1.CancelJobResponse, error) {
	j, err := s.cfg.Stores.Cancel(ctx, req.GetId())
	if err != nil {
		return nil, storeError(err)
	}
	if j == nil {
		return nil, noJob(req.GetId())
	}
	return &headwaterv1.CancelJobResponse{Job: j}, nil
}

// storeError is the error of a call that changes stores. What was refused changed
// nothing; what broke off may have begun.
func storeError(err error) error {
	var api *apierrors.Error
	if errors.As(err, &api) {
		if api.Outcome == apierrors.OutcomeNone {
			return forWrite(err, false, nil)
		}
		return err
	}
	e := namespaceError(err)
	if errors.As(e, &api) && (api.Reason == apierrors.Internal || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return forWrite(err, true, nil)
	}
	return e
}

func noJob(id string) error {
	return apierrors.New(apierrors.JobNotFound, "there is no job %.64q; see headwater jobs", id)
}
