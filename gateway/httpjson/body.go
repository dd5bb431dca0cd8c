package httpjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// firstRead is what a body gets before its length is believed.
const firstRead = 64 << 10

// openBody checks what can be checked before the body is read, and returns it
// unpacked, bounded in bytes and in time.
func (x *exchange) openBody(limit int64, timeout time.Duration) (io.Reader, error) {
	encoding, err := x.encoding()
	if err != nil {
		return nil, err
	}
	if x.r.ContentLength > limit {
		x.w.Header().Set("Connection", "close") // rather than read the rest for nothing
		return nil, x.tooLarge(limit)
	}
	// A peer that stops sending must not hold the request beyond its deadline.
	if err := http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(timeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, fmt.Errorf("set read deadline: %w", err)
	}
	return x.unpack(http.MaxBytesReader(x.w, x.r.Body, limit), encoding, limit)
}

// closeBody takes the read deadline back, which would otherwise end the
// request's context while a handler runs.
func (x *exchange) closeBody() error {
	if err := http.NewResponseController(x.w).SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("reset read deadline: %w", err)
	}
	return nil
}

// readBody returns a body of at most limit bytes.
func (x *exchange) readBody(limit int64, timeout time.Duration) ([]byte, error) {
	body, err := x.openBody(limit, timeout)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	if n := x.r.ContentLength; n > 0 {
		buf.Grow(int(min(n, firstRead)) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(body); err != nil {
		return nil, x.bodyError(err, limit)
	}
	return buf.Bytes(), x.closeBody()
}

// bodyError says why a body could not be read.
func (x *exchange) bodyError(err error, limit int64) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok || unpackedTooLarge(err) {
		return x.tooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return apierrors.Wrap(apierrors.DeadlineExceeded, err, "the request's body did not arrive before the deadline; send it faster or allow more time").ForWrite(x.notApplied(), nil)
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return apierrors.Wrap(apierrors.Cancelled, err, "the connection ended within the body; send it again").
			ForWrite(x.notApplied(), nil)
	}
	// Who ended only its own side of the connection reads this.
	why := strings.TrimPrefix(err.Error(), "http: ")
	return apierrors.Wrap(apierrors.MalformedRequest, err,
		"the request's body is not what its headers say (%.100s); send it whole, with its length or in chunks", why)
}

func (x *exchange) tooLarge(limit int64) error {
	return apierrors.New(apierrors.RequestTooLarge, "the request's body is above %s; split the call, or send large values through BeginUpload", bytesText(limit))
}

func bytesText(n int64) string {
	if n >= 1<<20 && n%(1<<20) == 0 {
		return strconv.FormatInt(n>>20, 10) + " MiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}

// decode reads the JSON of one message, strictly.
func (x *exchange) decode(data []byte, m proto.Message) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return apierrors.New(apierrors.MalformedRequest, "the request's body is empty; send one JSON object, {} for a request without fields")
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		if later := laterField(m, err); later != nil {
			return later
		}
		return apierrors.Wrap(apierrors.MalformedRequest, err, "the request's body cannot be read: %s; see /openapi.json for its fields", jsonErrorText(err))
	}
	if t, ok := m.(interface {
		GetToken() *headwaterv1.IdempotencyToken
	}); ok {
		x.token = t.GetToken()
	}
	if limit := x.h.cfg.MaxMessageBytes; int64(len(data)) > limit/4 && int64(proto.Size(m)) > limit {
		return x.tooLarge(limit)
	}
	return nil
}

// encode is the JSON of an answer, on one line, with zeros and empty fields.
// protojson varies its spaces from build to build on purpose; scripts that look
// at text get one form.
func encode(m proto.Message) ([]byte, error) {
	data, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	var buf bytes.Buffer
	buf.Grow(len(data) + 1)
	if err := json.Compact(&buf, data); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return buf.Bytes(), nil
}

// jsonErrorText is protojson's message without its prefix, and with little
// enough of the input in it.
func jsonErrorText(err error) string {
	s := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	s = strings.TrimSpace(strings.TrimPrefix(s, "proto:"))
	place := ""
	if strings.HasPrefix(s, "(") || strings.HasPrefix(s, "syntax error (") {
		if i := strings.Index(s, "): "); i >= 0 {
			place, s = s[:i+3], s[i+3:]
		}
	}
	const most = 72
	if len(s) > most {
		s = s[:most] + "…"
	}
	return place + strings.ToValidUTF8(s, "\uFFFD")
}

// clip quotes input for a message: at most 64 bytes of it.
func clip(s string) string {
	if len(s) > 64 {
		return strconv.Quote(s[:64]) + "…"
	}
	return strconv.Quote(s)
}
