package apierrors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Outcome says whether a failed write happened. Reads have none.
type Outcome string

// The outcomes of a write that was not acknowledged.
const (
	OutcomeNone Outcome = ""
	// NotApplied: the write is not in the log and will not come to be.
	NotApplied Outcome = "NOT_APPLIED"
	// Unknown: the write may have happened. Send it again with the same token.
	Unknown Outcome = "UNKNOWN"
)

// Error is an error of the API. Make one with New or Wrap, so that the code
// follows from the reason, and change its fields before it is handed on; after
// that it is read by several goroutines and must not change.
type Error struct {
	Code codes.Code
	// Reason is a code of the table, "HW-1001".
	Reason string
	// Message says what happened and, after a semicolon, what to do.
	Message string
	Outcome Outcome
	// Token is that of the write; nil for reads, and where none was made yet.
	Token *headwaterv1.IdempotencyToken
	// RetryAfter above 0 says that a retry helps, and when.
	RetryAfter time.Duration
	Metadata   map[string]string

	cause error
}

// New makes an error of a reason. A reason outside the table is an internal
// error that names it.
func New(reason, format string, args ...any) *Error {
	return Wrap(reason, nil, format, args...)
}

// Wrap is New with a cause, which errors.Is and errors.As see. The caller is
// not told the cause: what it may know belongs into the message.
func Wrap(reason string, cause error, format string, args ...any) *Error {
	r, ok := Lookup(reason)
	if !ok {
		r, _ = Lookup(Internal)
		format = "unlisted reason " + fmt.Sprintf("%.32q", reason) + ": " + format
	}
	return &Error{
		Code: r.Code, Reason: r.ID, Message: fmt.Sprintf(format, args...),
		RetryAfter: r.RetryAfter, cause: cause,
	}
}

func (e *Error) Error() string {
	s := e.Reason + " " + CodeName(e.Code) + ": " + e.Message
	if e.Outcome != OutcomeNone {
		s += " [" + string(e.Outcome) + "]"
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap returns the cause, nil when there is none.
func (e *Error) Unwrap() error { return e.cause }

// With adds one entry of metadata and returns e. Only for an error that was just
// made.
func (e *Error) With(key, value string) *Error {
	if e.Metadata == nil {
		e.Metadata = make(map[string]string, 2)
	}
	e.Metadata[key] = value
	return e
}

// ForWrite sets the outcome and the token and returns e. Only for an error that
// was just made. A nil token keeps the one that e has.
func (e *Error) ForWrite(o Outcome, token *headwaterv1.IdempotencyToken) *Error {
	e.Outcome = o
	if token != nil {
		e.Token = token
	}
	return e
}

// AsWrite returns an error that carries an outcome and, where one is known, a
// token: e itself when it has both, else a copy that is filled up. An outcome
// that nobody stated is read from the code, and is Unknown unless the code rules
// out that the write happened.
func (e *Error) AsWrite(token *headwaterv1.IdempotencyToken) *Error {
	if e.Outcome != OutcomeNone && (e.Token != nil || token == nil) {
		return e
	}
	c := *e
	if c.Outcome == OutcomeNone {
		c.Outcome = outcomeOf(e.Code)
	}
	if c.Token == nil {
		c.Token = token
	}
	return &c
}

func outcomeOf(c codes.Code) Outcome {
	switch c {
	case codes.InvalidArgument, codes.OutOfRange, codes.NotFound, codes.AlreadyExists, codes.Aborted,
		codes.FailedPrecondition, codes.PermissionDenied, codes.Unauthenticated, codes.Unimplemented,
		codes.ResourceExhausted:
		return NotApplied
	default:
		return Unknown
	}
}

// From turns any error into an *Error: an *Error in the chain as it is, a gRPC
// status by FromStatus, with a reason that fits its code where it has none, a done context by its kind, anything else an internal
// error that does not tell the caller its text. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := fromStatusError(err); ok {
		if e.Reason == "" {
			e.Reason = reasonOf(e.Code)
		}
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Wrap(DeadlineExceeded, err, "the deadline passed before the answer; allow more time or ask for less")
	case errors.Is(err, context.Canceled):
		return Wrap(Cancelled, err, "the caller went away before the answer; nothing to do")
	}
	return Wrap(Internal, err, "an internal error; report it with the request id, the server's log has the cause")
}

// reasonOf is the reason of a status that came without one, as those of gRPC's
// own code do.
func reasonOf(c codes.Code) string {
	switch c {
	case codes.Unimplemented:
		return NotOffered
	case codes.Unauthenticated:
		return Unauthenticated
	case codes.PermissionDenied:
		return Forbidden
	case codes.DeadlineExceeded:
		return DeadlineExceeded
	case codes.Canceled:
		return Cancelled
	case codes.ResourceExhausted:
		return Overloaded
	default:
		return Internal
	}
}
