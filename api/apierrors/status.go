package apierrors

import (
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Domain is the domain of every ErrorInfo of ours.
const Domain = "headwater"

// Keys of ErrorInfo.metadata that carry fields of Error beside its metadata.
const (
	metaOutcome   = "outcome"
	metaToken     = "token"      // the nonce in hex
	metaTokenKey  = "token_key"  // the business key
	metaTokenTime = "token_time" // RFC 3339
)

// MetaRequestID is the key of Error.Metadata, and of ErrorInfo.metadata, that has
// the request's id. Over HTTP the id is a field of its own.
const MetaRequestID = "requestId"

// GRPCStatus is the status that e is on the wire: ErrorInfo with the reason and
// the metadata, where outcome and token are too, and RetryInfo where a retry
// helps.
func (e *Error) GRPCStatus() *status.Status {
	info := &errdetails.ErrorInfo{Reason: e.Reason, Domain: Domain, Metadata: make(map[string]string, len(e.Metadata)+3)}
	for k, v := range e.Metadata {
		info.Metadata[k] = strings.ToValidUTF8(v, "\uFFFD")
	}
	if e.Outcome != OutcomeNone {
		info.Metadata[metaOutcome] = string(e.Outcome)
	}
	if t := e.Token; t != nil {
		switch id := t.GetIdentity().(type) {
		case *headwaterv1.IdempotencyToken_Nonce:
			info.Metadata[metaToken] = hex.EncodeToString(id.Nonce)
		case *headwaterv1.IdempotencyToken_Key:
			info.Metadata[metaTokenKey] = strings.ToValidUTF8(id.Key, "\uFFFD")
		}
		if g := t.GetGenerationTime(); g != nil {
			info.Metadata[metaTokenTime] = g.AsTime().Format(time.RFC3339Nano)
		}
	}
	details := []protoadapt.MessageV1{info}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	s := status.New(e.Code, strings.ToValidUTF8(e.Message, "\uFFFD"))
	withDetails, err := s.WithDetails(details...)
	if err != nil { // only for codes.OK, which no reason of the table has
		return s
	}
	return withDetails
}

// FromStatus reads an *Error back from what a gRPC call returned. An error of
// another server, or of the transport itself, keeps its code and message and
// has no reason. An error that is no status at all is From(err).
func FromStatus(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := fromStatusError(err); ok {
		return e
	}
	return From(err)
}

// fromStatusError is FromStatus for errors that carry a status.
func fromStatusError(err error) (*Error, bool) {
	g, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	if !ok {
		return nil, false
	}
	if e, ok := g.(*Error); ok {
		return e, true
	}
	s := g.GRPCStatus()
	if s.Code() == codes.OK { // an error must not read as success
		return Wrap(Internal, err, "an internal error without a status; report it with the request id"), true
	}
	e := &Error{Code: s.Code(), Message: s.Message(), cause: err}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				e.readInfo(d)
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	return e, true
}

func (e *Error) readInfo(info *errdetails.ErrorInfo) {
	e.Reason = info.GetReason()
	token := &headwaterv1.IdempotencyToken{}
	for k, v := range info.GetMetadata() {
		switch k {
		case metaOutcome:
			e.Outcome = Outcome(v)
		case metaToken:
			if nonce, err := hex.DecodeString(v); err == nil {
				token.Identity = &headwaterv1.IdempotencyToken_Nonce{Nonce: nonce}
			}
		case metaTokenKey:
			token.Identity = &headwaterv1.IdempotencyToken_Key{Key: v}
		case metaTokenTime:
			if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
				token.GenerationTime = timestamppb.New(t)
			}
		default:
			e = e.With(k, v)
		}
	}
	if !proto.Equal(token, &headwaterv1.IdempotencyToken{}) {
		e.Token = token
	}
}
