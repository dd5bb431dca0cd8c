package gateway

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/namespace"
)

// Namespaces is the NamespaceService.
type Namespaces struct {
	headwaterv1.UnimplementedNamespaceServiceServer
	reg *namespace.Registry
	// live returns once this process serves a namespace at least at a version.
	live func(ctx context.Context, name string, version uint64) error
}

// NewNamespaces returns the service over reg.
func NewNamespaces(reg *namespace.Registry, live func(ctx context.Context, name string, version uint64) error) *Namespaces {
	return &Namespaces{reg: reg, live: live}
}

// ApplyNamespace creates or changes a namespace. It answers when this process
// serves it as changed.
func (s *Namespaces) ApplyNamespace(ctx context.Context, req *headwaterv1.ApplyNamespaceRequest) (*headwaterv1.ApplyNamespaceResponse, error) {
	if req.GetConfig() == "" {
		return nil, forWrite(apierrors.New(apierrors.MissingField, "config is missing; send the namespace document as text"), false, nil)
	}
	if len(req.GetConfig()) > namespace.MaxDocumentBytes {
		return nil, forWrite(apierrors.New(apierrors.BadNamespaceDocument, "the document has %d bytes; it may have %d", len(req.GetConfig()), namespace.MaxDocumentBytes), false, nil)
	}
	opts := namespace.ApplyOptions{DryRun: req.GetDryRun()}
	if v := req.GetBaseVersion(); v < 0 {
		return nil, forWrite(apierrors.New(apierrors.BadSelection, "base_version is negative"), false, nil)
	} else if v > 0 {
		base := uint64(v)
		opts.Base = &base
	}
	res, err := s.reg.Apply(ctx, req.GetConfig(), opts)
	if err != nil {
		return nil, namespaceError(err)
	}
	if !req.GetDryRun() {
		if err := s.live(ctx, res.Name, res.Version); err != nil {
			return nil, forWrite(err, true, nil)
		}
	}
	out := &headwaterv1.ApplyNamespaceResponse{Namespace: res.Name, Version: int64(res.Version), Changes: make([]*headwaterv1.NamespaceChange, len(res.Changes))}
	for i, c := range res.Changes {
		out.Changes[i] = &headwaterv1.NamespaceChange{Path: c.Path, From: c.From, To: c.To}
	}
	return out, nil
}

// GetNamespace returns the configuration in force.
func (s *Namespaces) GetNamespace(_ context.Context, req *headwaterv1.GetNamespaceRequest) (*headwaterv1.GetNamespaceResponse, error) {
	e, ok := s.reg.Get(req.GetNamespace())
	if !ok {
		return nil, noNamespace(req.GetNamespace())
	}
	return &headwaterv1.GetNamespaceResponse{
		Namespace: e.Name, Version: int64(e.Version), Config: e.Config.Marshal(), Abstraction: string(e.Config.Abstraction),
		UpdatedAt: timestamppb.New(e.UpdatedAt), Incarnation: e.Incarnation.String(), Home: e.Owner,
	}, nil
}

func noNamespace(name string) error {
	if err := namespace.CheckName(name); err != nil {
		return apierrors.New(apierrors.BadNamespaceName, "namespace: %v", err)
	}
	return apierrors.New(apierrors.NamespaceNotFound, "namespace %s does not exist; create it with `headwater namespace apply`", name)
}

const (
	defaultNamespaces = 100
	maxNamespaces     = 1000
)

// ListNamespaces lists the namespaces by name.
func (s *Namespaces) ListNamespaces(_ context.Context, req *headwaterv1.ListNamespacesRequest) (*headwaterv1.ListNamespacesResponse, error) {
	size := defaultNamespaces
	if req.PageSize != nil {
		if size = int(req.GetPageSize()); size < 1 || size > maxNamespaces {
			return nil, apierrors.New(apierrors.BadPageSize, "page_size is %d; it must be 1 to %d", size, maxNamespaces)
		}
	}
	if t := req.GetPageToken(); t != "" && namespace.CheckName(t) != nil {
		return nil, apierrors.New(apierrors.BadPageToken, "page_token is not one that this request was given; start again without it")
	}
	out := &headwaterv1.ListNamespacesResponse{}
	var room listRoom
	for _, e := range s.reg.List() {
		if strings.Compare(e.Name, req.GetPageToken()) <= 0 && req.GetPageToken() != "" {
			continue
		}
		m := namespaceMessage(e)
		if n := len(out.Namespaces); n == size || !room.take(m) {
			out.NextPageToken = out.Namespaces[n-1].GetNamespace()
			break
		}
		out.Namespaces = append(out.Namespaces, m)
	}
	return out, nil
}

func namespaceMessage(e *namespace.Entry) *headwaterv1.Namespace {
	return &headwaterv1.Namespace{
		Namespace: e.Name, Version: int64(e.Version), Config: e.Config.Marshal(), Abstraction: string(e.Config.Abstraction),
		UpdatedAt: timestamppb.New(e.UpdatedAt), Incarnation: e.Incarnation.String(), Home: e.Owner,
	}
}

// DeleteNamespace ends a namespace with all it holds.
func (s *Namespaces) DeleteNamespace(ctx context.Context, req *headwaterv1.DeleteNamespaceRequest) (*headwaterv1.DeleteNamespaceResponse, error) {
	v, err := s.reg.Delete(ctx, req.GetNamespace(), namespace.DeleteOptions{Confirm: req.GetConfirm()})
	if err != nil {
		return nil, namespaceError(err)
	}
	if err := s.live(ctx, req.GetNamespace(), v); err != nil {
		return nil, forWrite(err, true, nil)
	}
	return &headwaterv1.DeleteNamespaceResponse{Namespace: req.GetNamespace(), Version: int64(v)}, nil
}

// WatchNamespaces streams every namespace that changed after a version, and the
// changes to come.
func (s *Namespaces) WatchNamespaces(req *headwaterv1.WatchNamespacesRequest, stream headwaterv1.NamespaceService_WatchNamespacesServer) error {
	if req.GetSinceVersion() < 0 {
		return apierrors.New(apierrors.BadSelection, "since_version is negative")
	}
	since := uint64(req.GetSinceVersion())
	if err := s.reg.Reach(stream.Context(), since); err != nil {
		return namespaceError(err)
	}
	if err := stream.SendHeader(nil); err != nil { // a change may be long in coming
		return err
	}
	for e, err := range s.reg.Watch(stream.Context(), since) {
		if err != nil {
			return namespaceError(err)
		}
		m := &headwaterv1.WatchNamespacesResponse{
			Namespace: &headwaterv1.Namespace{Namespace: e.Name, Version: int64(e.Version)}, Deleted: e.Entry == nil, Version: int64(e.Version),
		}
		if e.Entry != nil {
			m.Namespace = namespaceMessage(e.Entry)
		}
		if err := stream.Send(m); err != nil {
			return err
		}
	}
	return stream.Context().Err()
}

// namespaceError turns an error of the registry into one of the API.
func namespaceError(err error) error {
	var invalid *namespace.InvalidError
	var conflict *namespace.ConflictError
	var api *apierrors.Error
	wrap := func(reason, message string) error {
		return apierrors.Wrap(reason, err, "%s", message).ForWrite(apierrors.NotApplied, nil)
	}
	switch {
	case errors.As(err, &api):
		return err
	case errors.As(err, &invalid):
		return wrap(apierrors.BadNamespaceDocument, invalid.Error()+"; nothing was changed")
	case errors.As(err, &conflict):
		e := apierrors.Wrap(apierrors.NamespaceVersionConflict, err, "the namespace was changed by someone else; read it, redo the change, and apply again")
		return e.With("currentVersion", formatVersion(conflict.Current)).ForWrite(apierrors.NotApplied, nil)
	case errors.Is(err, namespace.ErrConflict):
		return wrap(apierrors.NamespaceVersionConflict, err.Error()+"; nothing was changed")
	case errors.Is(err, namespace.ErrNoOwner), errors.Is(err, namespace.ErrNotReleased):
		return wrap(apierrors.NotReleasable, err.Error()+"; nothing was changed")
	case errors.Is(err, namespace.ErrNotLive):
		return wrap(apierrors.ChangeNotLive, err.Error()+"; nothing was changed")
	case errors.Is(err, namespace.ErrNotFound):
		return wrap(apierrors.NamespaceNotFound, err.Error())
	case errors.Is(err, namespace.ErrConfirm):
		return wrap(apierrors.BadConfirm, "confirm must be the namespace's name; nothing was changed")
	case errors.Is(err, namespace.ErrLimit):
		return wrap(apierrors.TooManyNamespaces, err.Error())
	case errors.Is(err, namespace.ErrAhead):
		return wrap(apierrors.BadSelection, err.Error())
	case errors.Is(err, namespace.ErrUnknownOutcome):
		return apierrors.Wrap(apierrors.AppendUnknown, err, "it is not known whether the change was made; send it again").ForWrite(apierrors.Unknown, nil)
	case errors.Is(err, namespace.ErrStopped):
		return wrap(apierrors.LogFailed, "the namespace registry has stopped; see the server's log")
	case errors.Is(err, namespace.ErrClosed):
		return wrap(apierrors.Draining, "the server is shutting down; retry")
	}
	return forWrite(err, false, nil)
}
