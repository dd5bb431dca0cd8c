package server

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/wal"
)

// adminService is the AdminService of a process that answers the API.
func (s *Server) adminService() headwaterv1.AdminServiceServer {
	if s.cfg.Role == Gateway {
		return &forwardingAdmin{Admin: s.newAdmin(), s: s}
	}
	return s.newAdmin()
}

// forwardingAdmin is the AdminService of a gateway: what is of stores goes to the worker that
// has them.
type forwardingAdmin struct {
	*gateway.Admin
	s *Server
}

// worker is the AdminService of the process that holds a namespace.
func (a *forwardingAdmin) worker(ctx context.Context, name string) (headwaterv1.AdminServiceClient, error) {
	if _, ok := a.s.spaces.dir.Get(name); !ok {
		if err := a.s.lookFor(ctx, name); err != nil {
			return nil, err
		}
	}
	a.s.spaces.mu.Lock()
	x := a.s.spaces.open[name]
	a.s.spaces.mu.Unlock()
	switch {
	case x == nil:
		return nil, apierrors.New(apierrors.NamespaceNotFound, "namespace %.64q does not exist; create it with `headwater namespace apply`", name)
	case x.claims == nil:
		return nil, apierrors.New(apierrors.NamespaceStopped, "namespace %s is not served here; see headwater status", name)
	}
	c, ok := x.claims.Holder(0) // a namespace has one home
	if !ok || c.Address == "" {
		return nil, apierrors.New(apierrors.OwnerAway, "no worker that can be asked holds namespace %s; start one with headwater consume", name)
	}
	return a.at(c.Address)
}

// seen tells a worker up to which change of a namespace this process has seen the registry.
func (a *forwardingAdmin) seen(ctx context.Context, name string) context.Context {
	e, ok := a.s.names.Get(name)
	if !ok {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, registryVersion, strconv.FormatUint(e.ChangedAt(), 10))
}

func (a *forwardingAdmin) at(address string) (headwaterv1.AdminServiceClient, error) {
	conn, err := a.s.peers.Conn(address)
	if err != nil {
		return nil, err
	}
	return headwaterv1.NewAdminServiceClient(conn), nil
}

// forward sends a request to the worker that holds a namespace.
func forward[Q, R any](ctx context.Context, a *forwardingAdmin, name string, req Q, f func(headwaterv1.AdminServiceClient, context.Context, Q, ...grpc.CallOption) (R, error)) (resp R, err error) {
	w, err := a.worker(ctx, name)
	if err != nil {
		return resp, err
	}
	if resp, err = f(w, a.seen(ctx, name), req); err != nil {
		e := apierrors.FromStatus(err)
		if e.Reason == "" && e.Code == codes.Unavailable { // on the way to it
			e = apierrors.Wrap(apierrors.OwnerAway, err, "the worker that holds namespace %s cannot be reached; see headwater status", name)
		}
		return resp, e
	}
	return resp, nil
}

// ListStores implements AdminService.
func (a *forwardingAdmin) ListStores(ctx context.Context, req *headwaterv1.ListStoresRequest) (*headwaterv1.ListStoresResponse, error) {
	return forward(ctx, a, req.GetNamespace(), req, headwaterv1.AdminServiceClient.ListStores)
}

// CompareStore implements AdminService.
func (a *forwardingAdmin) CompareStore(ctx context.Context, req *headwaterv1.CompareStoreRequest) (*headwaterv1.CompareStoreResponse, error) {
	return forward(ctx, a, req.GetNamespace(), req, headwaterv1.AdminServiceClient.CompareStore)
}

// PromoteStore implements AdminService.
func (a *forwardingAdmin) PromoteStore(ctx context.Context, req *headwaterv1.PromoteStoreRequest) (*headwaterv1.PromoteStoreResponse, error) {
	return forward(ctx, a, req.GetNamespace(), req, headwaterv1.AdminServiceClient.PromoteStore)
}

// RollbackStore implements AdminService.
func (a *forwardingAdmin) RollbackStore(ctx context.Context, req *headwaterv1.RollbackStoreRequest) (*headwaterv1.RollbackStoreResponse, error) {
	return forward(ctx, a, req.GetNamespace(), req, headwaterv1.AdminServiceClient.RollbackStore)
}

// DropStore implements AdminService.
func (a *forwardingAdmin) DropStore(ctx context.Context, req *headwaterv1.DropStoreRequest) (*headwaterv1.DropStoreResponse, error) {
	return forward(ctx, a, req.GetNamespace(), req, headwaterv1.AdminServiceClient.DropStore)
}

// Rebuild implements AdminService.
func (a *forwardingAdmin) Rebuild(ctx context.Context, req *headwaterv1.RebuildRequest) (*headwaterv1.RebuildResponse, error) {
	return forward(ctx, a, req.GetNamespace(), req, headwaterv1.AdminServiceClient.Rebuild)
}

// addresses are those of the workers that hold a partition of a namespace; "": of any.
func (a *forwardingAdmin) addresses(name string) []string {
	all := make(map[string]bool)
	for _, x := range a.s.spaces.opened() {
		if x.claims == nil || name != "" && x.ns.Name != name {
			continue
		}
		for p := range wal.Partition(x.log.Info().Partitions) {
			if c, ok := x.claims.Holder(p); ok && c.Address != "" {
				all[c.Address] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// ofAll asks each worker, beside each other; errs[i] is why addresses[i] did not answer.
func ofAll[R any](ctx context.Context, a *forwardingAdmin, addresses []string, f func(headwaterv1.AdminServiceClient) (R, error)) (all []R, errs []error) {
	all, errs = make([]R, len(addresses)), make([]error, len(addresses))
	var g errgroup.Group
	for i, address := range addresses {
		g.Go(func() error {
			w, err := a.at(address)
			if err == nil {
				all[i], err = f(w)
			}
			errs[i] = err
			return nil
		})
	}
	_ = g.Wait() // each error is in errs
	return all, errs
}

// statusTimeout is how long a status waits for workers: what is known here is told in their place.
const statusTimeout = time.Second

// Status implements AdminService: what the owners of a namespace tell of it takes the place of
// what is known here.
func (a *forwardingAdmin) Status(ctx context.Context, req *headwaterv1.StatusRequest) (*headwaterv1.StatusResponse, error) {
	out, err := a.Admin.Status(ctx, req)
	if err != nil {
		return nil, err
	}
	soon, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	addresses := a.addresses(req.GetNamespace())
	all, _ := ofAll(soon, a, addresses, func(w headwaterv1.AdminServiceClient) (*headwaterv1.StatusResponse, error) {
		return w.Status(a.seen(soon, req.GetNamespace()), req)
	})
	told := make(map[string]map[string]*headwaterv1.NamespaceStatus) // by namespace and worker
	for i, r := range all {
		for _, n := range r.GetNamespaces() {
			if told[n.GetName()] == nil {
				told[n.GetName()] = make(map[string]*headwaterv1.NamespaceStatus)
			}
			told[n.GetName()][addresses[i]] = n
		}
	}
	for i, n := range out.GetNamespaces() {
		out.Namespaces[i] = a.merged(n, told[n.GetName()])
	}
	return out, nil
}

// merged is what is known here of a namespace with what its owners tell, by their addresses, each of the partitions
// that it holds.
func (a *forwardingAdmin) merged(n *headwaterv1.NamespaceStatus, held map[string]*headwaterv1.NamespaceStatus) *headwaterv1.NamespaceStatus {
	n.ParkedKeys = 0
	owners := make(map[string]bool)
	for i, p := range n.GetPartitions() {
		t := held[p.GetOwner()]
		if t == nil || int(p.GetPartition()) >= len(t.GetPartitions()) || p.GetOwner() == "" {
			n.ParkedKeys += p.GetParkedKeys()
			continue
		}
		if q := t.GetPartitions()[p.GetPartition()]; q.GetEpoch() == p.GetEpoch() {
			n.Partitions[i] = q
		}
		n.ParkedKeys += n.Partitions[i].GetParkedKeys()
		if owners[p.GetOwner()] {
			continue
		}
		if len(owners) == 0 {
			n.Stores, n.WidePages = t.GetStores(), t.GetWidePages()
		} else {
			addStores(n.Stores, t.GetStores())
		}
		owners[p.GetOwner()] = true
		n.Consumers = addConsumers(n.GetConsumers(), t.GetConsumers())
		n.DeadLetters = max(n.DeadLetters, t.GetDeadLetters())
	}
	return n
}

// addConsumers adds what another owner tells of consumers.
func addConsumers(all, of []*headwaterv1.Consumer) []*headwaterv1.Consumer {
	for _, c := range of {
		i, ok := slices.BinarySearchFunc(all, c.GetConsumer(), func(a *headwaterv1.Consumer, name string) int { return cmp.Compare(a.GetConsumer(), name) })
		if !ok {
			all = slices.Insert(all, i, c)
			continue
		}
		a := all[i]
		a.LagRecords, a.InFlight = a.GetLagRecords()+c.GetLagRecords(), a.GetInFlight()+c.GetInFlight()
		a.Redelivering, a.Missed, a.GivenUp = a.GetRedelivering()+c.GetRedelivering(), a.GetMissed()+c.GetMissed(), a.GetGivenUp()+c.GetGivenUp()
	}
	return all
}

// addStores adds what another owner tells of its partitions to what is told of all: a store that does not run in one of
// them does not run.
func addStores(all, of []*headwaterv1.StoreStatus) {
	for i, s := range all {
		if i >= len(of) || of[i].GetName() != s.GetName() {
			continue
		}
		s.LagRecords += of[i].GetLagRecords()
		s.LagSeconds = max(s.LagSeconds, of[i].GetLagSeconds())
		if s.State == "running" {
			s.State, s.Reason = of[i].GetState(), of[i].GetReason()
		}
	}
}

// ListJobs implements AdminService: those of this process and of the workers that answer.
func (a *forwardingAdmin) ListJobs(ctx context.Context, req *headwaterv1.ListJobsRequest) (*headwaterv1.ListJobsResponse, error) {
	out, err := a.Admin.ListJobs(ctx, req)
	if err != nil {
		return nil, err
	}
	all, errs := ofAll(ctx, a, a.addresses(""), func(w headwaterv1.AdminServiceClient) (*headwaterv1.ListJobsResponse, error) {
		return w.ListJobs(ctx, req)
	})
	for i, r := range all {
		if errs[i] != nil {
			return nil, apierrors.FromStatus(errs[i])
		}
		out.Jobs = append(out.Jobs, r.GetJobs()...)
	}
	return out, nil
}

// GetJob implements AdminService.
func (a *forwardingAdmin) GetJob(ctx context.Context, req *headwaterv1.GetJobRequest) (*headwaterv1.GetJobResponse, error) {
	return ofJob(ctx, a, func() (*headwaterv1.GetJobResponse, error) { return a.Admin.GetJob(ctx, req) },
		func(w headwaterv1.AdminServiceClient) (*headwaterv1.GetJobResponse, error) { return w.GetJob(ctx, req) })
}

// CancelJob implements AdminService.
func (a *forwardingAdmin) CancelJob(ctx context.Context, req *headwaterv1.CancelJobRequest) (*headwaterv1.CancelJobResponse, error) {
	return ofJob(ctx, a, func() (*headwaterv1.CancelJobResponse, error) { return a.Admin.CancelJob(ctx, req) },
		func(w headwaterv1.AdminServiceClient) (*headwaterv1.CancelJobResponse, error) {
			return w.CancelJob(ctx, req)
		})
}

// ofJob asks this process about a job, and where it has none of that id, the workers: one that
// does not answer may have it.
func ofJob[R any](ctx context.Context, a *forwardingAdmin, here func() (R, error), there func(headwaterv1.AdminServiceClient) (R, error)) (R, error) {
	resp, err := here()
	if err == nil || apierrors.From(err).Reason != apierrors.JobNotFound {
		return resp, err
	}
	all, errs := ofAll(ctx, a, a.addresses(""), there)
	for i := range all {
		if errs[i] == nil {
			return all[i], nil
		}
		if e := apierrors.FromStatus(errs[i]); e.Reason != apierrors.JobNotFound {
			err = e
		}
	}
	return resp, err
}
