package client

import (
	"context"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Decision says what became of a write of a record or counter under a token, while it
// is remembered. The message is that of the API.
func (a *Admin) Decision(ctx context.Context, namespace, key string, token Token) (*headwaterv1.GetDecisionResponse, error) {
	return ask(ctx, a, &headwaterv1.GetDecisionRequest{Namespace: namespace, Key: key, Token: token.message()}, a.c.admin.GetDecision)
}
