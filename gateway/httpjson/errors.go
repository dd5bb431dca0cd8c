package httpjson

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
)

// errorBody is an error as JSON. Outcome and Token are there on every write.
type errorBody struct {
	Code       string            `json:"code"`
	Message    string            `json:"message"`
	Reason     string            `json:"reason"`
	Outcome    apierrors.Outcome `json:"outcome,omitempty"`
	Token      json.RawMessage   `json:"token,omitempty"`
	RetryAfter json.RawMessage   `json:"retryAfter,omitempty"`
	RequestID  string            `json:"requestId"`
	Metadata   map[string]string `json:"metadata"`
	Details    []struct{}        `json:"details"`
}

// reasonHeader has the code of an error, for who does not read the body: a HEAD
// has none.
const reasonHeader = "Headwater-Reason"

// notApplied is the outcome of what is refused before any handler ran.
func (x *exchange) notApplied() apierrors.Outcome {
	if x.write {
		return apierrors.NotApplied
	}
	return apierrors.OutcomeNone
}

func (x *exchange) errorJSON(e *apierrors.Error) []byte {
	b := errorBody{
		Code: apierrors.CodeName(e.Code), Message: strings.ToValidUTF8(e.Message, "\uFFFD"), Reason: e.Reason,
		RequestID: x.id, Details: []struct{}{},
	}
	// The id stands beside the metadata; e is shared with the log, so not changed.
	b.Metadata = make(map[string]string, len(e.Metadata))
	for k, v := range e.Metadata {
		if k != apierrors.MetaRequestID {
			b.Metadata[k] = v
		}
	}
	if x.write {
		b.Outcome, b.Token = e.Outcome, json.RawMessage("null")
		if e.Token != nil {
			if data, err := encode(e.Token); err == nil {
				b.Token = data
			} // else: a key that is not UTF-8, which the caller knows anyway
		}
	}
	if e.RetryAfter > 0 {
		if data, err := protojson.Marshal(durationpb.New(e.RetryAfter)); err == nil {
			b.RetryAfter = data
		}
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(b); err != nil { // strings and valid JSON only
		x.h.cfg.Logger.Error("encode error body", slog.String("request_id", x.id), slog.Any("error", err))
		return []byte(`{"code":"internal","message":"an internal error","reason":"` + apierrors.Internal + `","metadata":{},"details":[]}`)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// fail answers with an error: as the whole answer, as the last line of a stream
// that has begun, or by cutting off a raw body that has.
func (x *exchange) fail(err error) {
	e := apierrors.From(err)
	if x.write {
		e = e.AsWrite(x.token)
	}
	if x.h.cfg.Failed != nil && e.Metadata[apierrors.MetaRequestID] == "" {
		x.h.cfg.Failed(metadata.NewIncomingContext(x.r.Context(), metadata.Pairs("x-request-id", x.id)), x.path, e)
	}
	if x.started {
		if !x.ndjson {
			panic(http.ErrAbortHandler) // the peer must not take half a body for a whole one
		}
		x.send(append(append([]byte(`{"error":`), x.errorJSON(e)...), "}\n"...))
		return
	}
	header := x.w.Header()
	for _, name := range []string{"Etag", "Content-Length", "Content-Security-Policy"} {
		header.Del(name)
	}
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set(reasonHeader, e.Reason)
	if e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if e.HTTPStatus() == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", "Bearer")
	}
	x.started = true
	x.w.WriteHeader(e.HTTPStatus())
	x.send(append(x.errorJSON(e), '\n'))
}

// send writes the end of an answer. A peer that does not take it is logged, for
// nobody is left to be told.
func (x *exchange) send(data []byte) {
	if _, err := x.w.Write(data); err != nil {
		x.h.cfg.Logger.LogAttrs(x.r.Context(), slog.LevelDebug, "answer not taken", slog.String("request_id", x.id), slog.Any("error", err))
	}
}

// answer sends a whole answer as JSON.
func (x *exchange) answer(data []byte) {
	x.w.Header().Set("Content-Type", "application/json")
	x.w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	x.w.Header().Set("Cache-Control", "no-store")
	x.started = true
	x.w.WriteHeader(http.StatusOK)
	x.send(append(data, '\n'))
}
