package namespace

import (
	"context"
	"crypto/rand"
	"fmt"
)

// SecretBytes is the length of a cluster's secret.
const SecretBytes = 32

// Secret returns what the processes that share this registry know each other by, and no
// other does who cannot read its topic: the first one that was made. It is made by the
// first call. Who holds it can ask workers what gateways ask them, and make page tokens.
func (r *Registry) Secret(ctx context.Context) ([]byte, error) {
	for {
		if err := r.Sync(ctx); err != nil {
			return nil, err
		}
		if s := r.snap.Load().secret; s != nil {
			return s, nil
		}
		made := make([]byte, SecretBytes)
		if _, err := rand.Read(made); err != nil {
			return nil, fmt.Errorf("make the secret of the cluster: %w", err)
		}
		if _, err := r.propose(ctx, &change{Op: opSecret, Secret: made}); err != nil {
			return nil, fmt.Errorf("note the secret of the cluster: %w", err)
		}
	}
}
