package gateway

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// TestAWriteWithFieldsOfLaterIsRefused: over gRPC, where the fields have no names.
func TestAWriteWithFieldsOfLaterIsRefused(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.open("words", "abstraction: log\n")
	r.open("plays", "abstraction: kv\n")
	later := func(m proto.Message) {
		m.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), []byte("10s")))
	}
	message := &headwaterv1.WriteToLogRequest{Namespace: "words", Key: "k", Payload: []byte("x")}
	later(message)
	_, err := r.log.WriteToLog(t.Context(), message)
	if e := apierrors.From(err); err == nil || e.Reason != apierrors.NotOffered || e.Outcome != apierrors.NotApplied {
		t.Errorf("a message with a delay: %v", err)
	}
	group := &headwaterv1.MutateItemsRequest{Mutations: []*headwaterv1.Mutation{{}}}
	later(group.GetMutations()[0])
	_, err = r.kv.MutateItems(t.Context(), group)
	if e := apierrors.From(err); err == nil || e.Reason != apierrors.NotOffered || e.Outcome != apierrors.NotApplied {
		t.Errorf("a group with an add: %v", err)
	}
}
