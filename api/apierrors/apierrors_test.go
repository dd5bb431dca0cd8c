package apierrors

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func TestTableIsWellFormed(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^HW-1[0-9]{3}$`)
	last := ""
	for _, r := range Reasons() {
		if !form.MatchString(r.ID) || r.ID <= last {
			t.Errorf("reason %q after %q: not HW-1###, or out of order, or twice", r.ID, last)
		}
		last = r.ID
		if r.Title == "" || r.Do == "" || r.Code == codes.OK {
			t.Errorf("%s: incomplete: %+v", r.ID, r)
		}
		if e := New(r.ID, "x"); e.HTTPStatus() < 400 {
			t.Errorf("%s: HTTP status %d is not an error", r.ID, e.HTTPStatus())
		}
	}
}

func TestHTTPStatuses(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]int{
		BadID: 400, TokenDrift: 400, Parked: 400, CountOverflow: 400, Insufficient: 400, ReservationEnded: 400, ReservationNotFound: 404, TooManyReservations: 429, Reloading: 503, Unauthenticated: 401, Forbidden: 403, NamespaceNotFound: 404,
		BadMethod: 405, TokenReused: 409, ConditionFailed: 409, RequestTooLarge: 413, Overloaded: 429, Cancelled: 499,
		Internal: 500, Corrupt: 500, NotOffered: 501, NotCaughtUp: 503, OutcomeUnknown: 504,
	} {
		if got := New(reason, "x").HTTPStatus(); got != want {
			t.Errorf("%s: HTTP status %d, want %d", reason, got, want)
		}
	}
	// A status of another server, whose reason we do not know.
	if got := (&Error{Code: codes.Unavailable, Reason: "OTHER"}).HTTPStatus(); got != http.StatusServiceUnavailable {
		t.Errorf("unknown reason: %d", got)
	}
}

func TestErrorSurvivesTheWire(t *testing.T) {
	t.Parallel()
	tokens := map[string]*headwaterv1.IdempotencyToken{
		"none": nil,
		"nonce": {
			GenerationTime: timestamppb.New(time.Unix(1700000000, 123456000)),
			Identity:       &headwaterv1.IdempotencyToken_Nonce{Nonce: []byte("0123456789abcdef")},
		},
		"key": {Identity: &headwaterv1.IdempotencyToken_Key{Key: "order 17"}},
	}
	for name, token := range tokens {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := New(NotCaughtUp, "not yet; retry").With("wanted", "a").With("applied", "b").ForWrite(Unknown, token)
			// As an RPC returns it: the status only, no Go value.
			got := FromStatus(status.FromProto(e.GRPCStatus().Proto()).Err())
			if got.Code != e.Code || got.Reason != e.Reason || got.Message != e.Message || got.Outcome != e.Outcome ||
				got.RetryAfter != e.RetryAfter || !proto.Equal(got.Token, e.Token) || len(got.Metadata) != 2 ||
				got.Metadata["wanted"] != "a" || got.Metadata["applied"] != "b" {
				t.Errorf("got %+v, want %+v", got, e)
			}
		})
	}
}

func TestFromKeepsWhatItCanAndHidesTheRest(t *testing.T) {
	t.Parallel()
	own := New(BadID, "id is empty; send one")
	if From(fmt.Errorf("wrapped: %w", own)) != own {
		t.Error("an *Error in the chain is not found")
	}
	if From(nil) != nil || FromStatus(nil) != nil {
		t.Error("nil is an error")
	}
	if got := From(fmt.Errorf("read: %w", context.DeadlineExceeded)); got.Reason != DeadlineExceeded {
		t.Errorf("deadline: %v", got)
	}
	if got := From(context.Canceled); got.Code != codes.Canceled {
		t.Errorf("cancel: %v", got)
	}
	if got := From(status.Error(codes.Unavailable, "elsewhere")); got.Code != codes.Unavailable || got.Message != "elsewhere" {
		t.Errorf("foreign status: %v", got)
	}
	secret := From(fmt.Errorf("password 123: %w", io.ErrUnexpectedEOF))
	if secret.Reason != Internal || !errors.Is(secret, io.ErrUnexpectedEOF) {
		t.Errorf("unknown error: %v", secret)
	}
	if regexp.MustCompile("password").MatchString(secret.GRPCStatus().Message()) {
		t.Error("the text of an unknown error reaches the caller")
	}
	if got := New("HW-0000", "x"); got.Reason != Internal {
		t.Errorf("unlisted reason: %v", got)
	}
}

func TestEveryFailedWriteHasAnOutcome(t *testing.T) {
	t.Parallel()
	token := &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Key{Key: "k"}}
	for reason, want := range map[string]Outcome{
		BadID: NotApplied, TokenReused: NotApplied, ConditionFailed: NotApplied, Overloaded: NotApplied,
		LogUnavailable: Unknown, OutcomeUnknown: Unknown, Internal: Unknown, Cancelled: Unknown,
	} {
		e := New(reason, "x")
		if got := e.AsWrite(token); got.Outcome != want || got.Token != token {
			t.Errorf("%s: %q %v, want %q", reason, got.Outcome, got.Token, want)
		}
		if e.Outcome != OutcomeNone {
			t.Errorf("%s: AsWrite changed its receiver", reason)
		}
	}
	stated := New(LogUnavailable, "x").ForWrite(NotApplied, nil)
	if got := stated.AsWrite(token); got.Outcome != NotApplied {
		t.Errorf("a stated outcome was replaced by %q", got.Outcome)
	}
}
