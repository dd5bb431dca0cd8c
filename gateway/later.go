package gateway

import (
	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
)

// hasUnknown reports whether a message has fields that this build does not know.
// JSON refuses them. Over gRPC they are passed over, which must not happen to what
// changes the meaning of a write, as the targets of a message would.
func hasUnknown(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) > 0 }

func laterError(method string) error {
	return apierrors.New(apierrors.NotOffered, "the request of %s has fields that are not in this build; leave them out, or use a server that has them", method)
}
