package server

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/gateway"
)

// tokenLook is how often the namespaces' tokens are counted, to say in the log
// when one begins to shed writes.
const tokenLook = 2 * time.Second

// watchTokens warns when a namespace is at tokens.max_live, until ctx is done.
func (sp *spaces) watchTokens(ctx context.Context) {
	full := make(map[string]bool)
	t := time.NewTicker(tokenLook)
	defer t.Stop()
	for {
		sp.lookAtTokens(ctx, full)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// lookAtTokens logs what has changed since the last look; full holds the names of
// those that shed writes.
func (sp *spaces) lookAtTokens(ctx context.Context, full map[string]bool) {
	seen := make(map[string]bool, len(full))
	for _, n := range sp.dir.All() {
		live, limit := sp.liveTokens(ctx, n.Name), n.Config().Tokens.MaxLive
		if gateway.TokensFull(live, limit) == "" {
			continue
		}
		seen[n.Name] = true
		if !full[n.Name] {
			full[n.Name] = true
			sp.s.log.Warn("a namespace sheds writes: it remembers as many tokens as tokens.max_live allows; raise it, or send more under one token",
				"namespace", n.Name, "tokens", live, "limit", limit)
		}
	}
	for name := range full {
		if !seen[name] {
			delete(full, name)
			sp.s.log.Info("a namespace has room for tokens again", "namespace", name)
		}
	}
}
