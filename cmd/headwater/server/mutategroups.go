package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
)

// makeGroups makes the namespace of groups where there is none, and returns when it takes writes. One that an
// operator has made, or changed, stays as it is.
func (s *Server) makeGroups(ctx context.Context) error {
	none := uint64(0)
	res, err := s.names.Apply(ctx, gateway.GroupsDocument, namespace.ApplyOptions{Base: &none})
	if errors.Is(err, namespace.ErrConflict) { // there is one
		e, ok := s.names.Get(gateway.GroupsNamespace)
		if !ok {
			return fmt.Errorf("namespace %s was made and deleted meanwhile: %w", gateway.GroupsNamespace, err)
		}
		res.Version, err = e.Version, nil
	}
	if err != nil {
		return err
	}
	return s.spaces.wait(ctx, gateway.GroupsNamespace, res.Version)
}
