package cassandrakv

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// inFlight is how many statements of one caller are under way at once.
const inFlight = 64

// group runs statements side by side. The first error ends the others.
type group struct {
	g   *errgroup.Group
	ctx context.Context
}

func newGroup(ctx context.Context) *group {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	return &group{g, ctx}
}

// run starts f, once there is room. Where another has failed it does nothing.
func (g *group) run(f func(ctx context.Context) error) {
	g.g.Go(func() error {
		if g.ctx.Err() != nil {
			return context.Cause(g.ctx)
		}
		return f(g.ctx)
	})
}

// wait returns the first error of all.
func (g *group) wait() error { return g.g.Wait() }
