package apierrors

import (
	"net/http"
	"strconv"

	"google.golang.org/grpc/codes"
)

// StatusClientClosedRequest is the HTTP status of CANCELLED, which net/http does
// not name.
const StatusClientClosedRequest = 499

var codeNames = map[codes.Code]string{
	codes.OK: "ok", codes.Canceled: "cancelled", codes.Unknown: "unknown",
	codes.InvalidArgument: "invalid_argument", codes.DeadlineExceeded: "deadline_exceeded",
	codes.NotFound: "not_found", codes.AlreadyExists: "already_exists",
	codes.PermissionDenied: "permission_denied", codes.ResourceExhausted: "resource_exhausted",
	codes.FailedPrecondition: "failed_precondition", codes.Aborted: "aborted",
	codes.OutOfRange: "out_of_range", codes.Unimplemented: "unimplemented",
	codes.Internal: "internal", codes.Unavailable: "unavailable", codes.DataLoss: "data_loss",
	codes.Unauthenticated: "unauthenticated",
}

// CodeName is the name of a gRPC code in JSON, "invalid_argument".
func CodeName(c codes.Code) string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return "code_" + strconv.FormatUint(uint64(c), 10)
}

// HTTPStatus is the HTTP status that e is answered with: that of its reason
// where the table gives one, else that of its code.
func (e *Error) HTTPStatus() int {
	if r, ok := Lookup(e.Reason); ok && r.HTTP != 0 && r.Code == e.Code {
		return r.HTTP
	}
	return HTTPStatus(e.Code)
}

// HTTPStatus is the HTTP status of a gRPC code.
func HTTPStatus(c codes.Code) int {
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Canceled:
		return StatusClientClosedRequest
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}
