package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Errors to tell by errors.Is what went wrong. More than one can be true of an
// error: one that is unavailable may also be of unknown outcome.
var (
	// ErrNotFound: there is no such item, namespace, upload, reservation or dead
	// letter.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the token was used for another request. Nothing was changed.
	ErrConflict = errors.New("token conflict")
	// ErrConditionFailed: if_absent or if_version does not hold, or a namespace is
	// at another version than the change was based on. Error.CurrentVersion says
	// what is there. Nothing was changed.
	ErrConditionFailed = errors.New("condition failed")
	// ErrParked: a mutation of the key cannot be applied, and what follows waits
	// behind it.
	ErrParked = errors.New("parked")
	// ErrUnavailable: the server cannot be reached or cannot serve this now.
	ErrUnavailable = errors.New("unavailable")
	// ErrOverloaded: the server sheds load or a limit is reached.
	ErrOverloaded = errors.New("overloaded")
	// ErrInvalid: the request is at fault and fails again if it is sent again.
	ErrInvalid = errors.New("invalid request")
	// ErrUnknownOutcome: the write may have happened. Send it again with
	// Error.Token to know.
	ErrUnknownOutcome = errors.New("unknown outcome")
	// ErrCorrupt: a value is not what was written.
	ErrCorrupt = errors.New("corrupt value")
	// ErrOverflow: a count would leave int64. Nothing was changed.
	ErrOverflow = errors.New("overflow")
	// ErrInsufficient: less is available of a counter than was to be reserved.
	// Nothing was changed.
	ErrInsufficient = errors.New("insufficient")
	// ErrQueueFull: the call ended while as many adds to counters were on their way
	// as the client queues. Nothing was changed.
	ErrQueueFull = errors.New("queue is full")
	// ErrClosed: the client is closed.
	ErrClosed = errors.New("client is closed")
)

// Outcome says whether a failed write happened.
type Outcome = apierrors.Outcome

// The outcomes of a failed write; a failed read has none ("").
const (
	NotApplied = apierrors.NotApplied
	Unknown    = apierrors.Unknown
)

// Error is what every method of this package returns when a call fails; find it
// with errors.As. It wraps the context's error when that is why the call ended.
type Error struct {
	Code codes.Code
	// Reason is the stable code, "HW-1202". Empty where no server of ours answered.
	Reason string
	// Message says what happened and, after a semicolon, what to do.
	Message string
	// Outcome is that of a write over all its attempts; empty for reads.
	Outcome Outcome
	// Token is that of the write; zero for reads.
	Token Token
	// RetryAfter above 0: the server said that a retry helps, and when.
	RetryAfter time.Duration
	Metadata   map[string]string
	// RequestID finds the request in the server's log; may be empty.
	RequestID string

	cause   error
	noRetry bool
}

func (e *Error) Error() string {
	s := e.Message
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	if e.Outcome == Unknown {
		s += " [the write may have happened]"
	}
	return s
}

// Unwrap returns the context's error when it ended the call, or what failed on
// this side; nil for an error of the server.
func (e *Error) Unwrap() error { return e.cause }

// CurrentVersion is the version that a condition found, "" when nothing is there
// or the error is of another kind.
func (e *Error) CurrentVersion() string { return e.Metadata["currentVersion"] }

// Is reports whether e is of the kind that one of this package's errors names.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Code == codes.NotFound
	case ErrConflict:
		return e.Code == codes.AlreadyExists
	case ErrConditionFailed:
		return e.Code == codes.Aborted
	case ErrParked:
		return e.Reason == apierrors.Parked
	case ErrUnavailable:
		return e.Code == codes.Unavailable
	case ErrOverloaded:
		return e.Code == codes.ResourceExhausted && e.Reason != apierrors.RequestTooLarge
	case ErrInvalid:
		return e.Code == codes.InvalidArgument || e.Code == codes.OutOfRange || e.Reason == apierrors.RequestTooLarge
	case ErrOverflow:
		return e.Reason == apierrors.CountOverflow
	case ErrInsufficient:
		return e.Reason == apierrors.Insufficient
	case ErrUnknownOutcome:
		return e.Outcome == Unknown
	case ErrCorrupt:
		return e.Code == codes.DataLoss
	}
	return false
}

// invalid is a request that this side refuses.
func invalid(reason, message string) *Error {
	return &Error{Code: codes.InvalidArgument, Reason: reason, Message: message}
}

// fromRPC turns the error of one attempt into an Error. sent is false when no
// connection took the request. A write's outcome is that of this attempt alone.
func fromRPC(err error, write, sent bool) *Error {
	a := apierrors.FromStatus(err)
	if write {
		if a.Reason == "" && !sent {
			a.Outcome = apierrors.NotApplied
		}
		a = a.AsWrite(nil)
	}
	e := &Error{Code: a.Code, Reason: a.Reason, Message: a.Message, RetryAfter: a.RetryAfter, Metadata: a.Metadata, RequestID: a.Metadata["requestId"]}
	if write {
		e.Outcome = a.Outcome
	}
	return e
}

// fromItem is fromRPC for one element of a batch.
func fromItem(m *headwaterv1.ItemError) *Error {
	e := &Error{
		Code: codes.Code(m.GetCode()), Reason: m.GetReason(), Message: m.GetMessage(), Metadata: m.GetMetadata(),
		RetryAfter: m.GetRetryAfter().AsDuration(), Outcome: Unknown,
	}
	if m.GetOutcome() == headwaterv1.ItemError_NOT_APPLIED {
		e.Outcome = NotApplied
	}
	return e
}

// retryable reports whether the same request may end otherwise when it is sent
// again. A server of ours says so by its hint; where none answered, the code
// tells.
func (e *Error) retryable() bool {
	switch {
	case e.noRetry, e.Code == codes.DataLoss, e.Code == codes.Unimplemented:
		return false
	case e.Metadata["add"] != "" && e.RetryAfter == 0: // what is wrong with one add stays so
		return false
	}
	if e.Outcome == Unknown || e.RetryAfter > 0 {
		return true
	}
	return e.Reason == "" && (e.Code == codes.Unavailable || e.Code == codes.DeadlineExceeded)
}

// decides reports whether e, as the answer to a later attempt, says what became
// of the token, so that an earlier attempt's unknown outcome is known now: the
// decision of a token is one for all its copies.
func (e *Error) decides() bool {
	if e.Outcome != NotApplied {
		return false
	}
	switch e.Reason {
	case apierrors.ConditionFailed, apierrors.TokenReused, apierrors.CountOverflow, apierrors.Insufficient,
		apierrors.ReservationNotFound, apierrors.ReservationEnded, apierrors.SettledTooMuch, apierrors.TooManyReservations:
		return true
	}
	return false
}

// ended is the error of a call whose context is done.
func ended(ctx context.Context, last *Error) *Error {
	cause := context.Cause(ctx)
	e := &Error{Code: codes.Canceled, Message: "the call was cancelled", cause: cause}
	if errors.Is(cause, context.DeadlineExceeded) {
		e.Code, e.Message = codes.DeadlineExceeded, "the deadline passed"
	}
	if last != nil {
		e.Message += "; the last attempt: " + last.Message
		e.Reason, e.Metadata, e.RequestID, e.RetryAfter = last.Reason, last.Metadata, last.RequestID, last.RetryAfter
	}
	return e
}
