package pebblekv

import (
	"context"
	"errors"

	"github.com/headwater-db/headwater/kv"
)

func (s *Store) Sweep(ctx context.Context, r *kv.SweepRequest) (kv.SweepResult, error) {
	return kv.SweepResult{}, errors.ErrUnsupported
}
