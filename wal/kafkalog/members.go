package kafkalog

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Members is how many processes are in a consumer group, as its coordinator has it: one that was killed is counted until its
// session ends.
func (b *Broker) Members(ctx context.Context, group string) (int, error) {
	gs, err := b.adm.DescribeGroups(ctx, group)
	if err != nil {
		return 0, fmt.Errorf("members of consumer group %s: %w", group, err)
	}
	g, ok := gs[group]
	if ok && g.Err == nil {
		return len(g.Members), nil
	}
	if !ok {
		g.Err = kerr.GroupIDNotFound
	}
	return 0, fmt.Errorf("members of consumer group %s: %w", group, g.Err)
}
