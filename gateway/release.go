package gateway

import (
	"context"

	"google.golang.org/grpc/peer"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// ReleaseNamespace takes a namespace from its home, or gives it back.
func (s *Admin) ReleaseNamespace(ctx context.Context, req *headwaterv1.ReleaseNamespaceRequest) (*headwaterv1.ReleaseNamespaceResponse, error) {
	by := ""
	if p, ok := peer.FromContext(ctx); ok {
		by = p.Addr.String()
	}
	res, err := s.cfg.Release(ctx, req, by)
	if err != nil {
		return nil, namespaceError(err)
	}
	return res, nil
}
