package httpjson

import (
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
)

// What the API describes and this build does not have is refused by its name, and
// not as a mistake of the caller's.

// laterFields are fields of requests, by message.
var laterFields = map[string][]string{
	"WriteToLogRequest": {"target", "originalWriteTime"}, // the last one of its lifecycle
}

// rpcPath reports whether a path has the form of an RPC's.
func rpcPath(path string) bool {
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/headwater.v1."), "/")
	return strings.HasPrefix(path, "/headwater.v1.") && ok && service != "" && method != "" && !strings.Contains(method, "/")
}

// notOffered answers a call of a method that is not served, as over gRPC.
func (x *exchange) notOffered() {
	x.write = !reads(x.r.Method)
	x.fail(apierrors.New(apierrors.NotOffered,
		"this server does not serve %s; check the name, and the server's version with Status", clip(x.r.URL.Path)))
}

// laterField is the error of a field that protojson does not know, nil when it is
// none of laterFields.
func laterField(m proto.Message, err error) error {
	_, name, ok := strings.Cut(err.Error(), "unknown field \"")
	name, _, closed := strings.Cut(name, "\"")
	if !ok || !closed {
		return nil
	}
	for _, f := range laterFields[string(m.ProtoReflect().Descriptor().Name())] {
		if f == name {
			return apierrors.Wrap(apierrors.NotOffered, err, "%s is not in this build; send the request without it, or use a server that has it", name)
		}
	}
	return nil
}
