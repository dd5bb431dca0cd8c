package deliveryhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/endpoint"
)

// Config is what a Receiver is made of.
type Config struct {
	URL     string
	Method  string // "": POST
	Headers map[string]string
	// Secret signs what is sent; nil: nothing is signed.
	Secret []byte
	// AnyAddress reports whether the host may have a private, loopback or link-local address; nil: it may not.
	AnyAddress  func(host string) bool
	Connections int // at a time; 0: no limit
}

// Receiver is a delivery.Receiver on one endpoint. Safe for concurrent use.
type Receiver struct {
	cfg    Config
	client *http.Client
	idle   *http.Transport
}

var _ delivery.Receiver = (*Receiver)(nil)

const (
	connectTimeout = 5 * time.Second
	keepIdle       = 90 * time.Second
	// readMost is how much of an answer is read: what is not read cannot be waited for.
	readMost = 64 << 10
	// tellMost is how much of it an error tells.
	tellMost = 200
	// headersMost bounds the head of an answer.
	headersMost = 64 << 10
)

// New returns a receiver. It connects when it delivers.
func New(cfg Config) (*Receiver, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%.200q is not the URL of an HTTP endpoint", cfg.URL)
	}
	dialer := &net.Dialer{Timeout: connectTimeout}
	if cfg.AnyAddress == nil || !cfg.AnyAddress(u.Hostname()) {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return endpoint.CheckPublic(address) }
	}
	t := &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: connectTimeout, IdleConnTimeout: keepIdle,
		MaxConnsPerHost: cfg.Connections, MaxIdleConnsPerHost: max(cfg.Connections, 16), MaxResponseHeaderBytes: headersMost, DisableCompression: true,
	}
	return &Receiver{cfg: cfg, idle: t, client: &http.Client{
		Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close implements delivery.Receiver.
func (r *Receiver) Close() error {
	r.idle.CloseIdleConnections()
	return nil
}

// Deliver implements delivery.Receiver.
func (r *Receiver) Deliver(ctx context.Context, a *delivery.Attempt) error {
	method := r.cfg.Method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, r.cfg.URL, bytes.NewReader(a.Payload))
	if err != nil {
		return &delivery.PermanentError{Err: err}
	}
	r.setHeaders(req.Header, a)
	resp, err := r.client.Do(req)
	if err != nil {
		return r.unanswered(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()                   // nothing more is read
	body, _ := io.ReadAll(io.LimitReader(resp.Body, readMost)) // as far as it comes: the status is what counts
	if resp.StatusCode/100 == 2 {                              //nolint:mnd // the class of success
		return nil // what the body says, or that it breaks off, changes nothing
	}
	told := fmt.Errorf("it answered %s%s", resp.Status, says(body))
	switch {
	case resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode == http.StatusTooEarly, resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= http.StatusInternalServerError:
		if after := retryAfter(resp.Header.Get("Retry-After"), time.Now()); after > 0 {
			return &delivery.RetryAfterError{After: after, Err: told}
		}
		return told
	default:
		return &delivery.PermanentError{Err: told}
	}
}

// unanswered is the error of an attempt that has no answer.
func (r *Receiver) unanswered(ctx context.Context, err error) error {
	if u, is := errors.AsType[*url.Error](err); is { // which repeats the URL
		err = u.Err
	}
	switch {
	case errors.Is(err, endpoint.ErrPrivate):
		return &delivery.PermanentError{Err: err}
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return errors.New("it did not answer in time")
	}
	return fmt.Errorf("no answer: %w", err)
}

func (r *Receiver) setHeaders(h http.Header, a *delivery.Attempt) {
	h.Set("Content-Type", "application/octet-stream")
	h.Set("User-Agent", "headwater")
	for name, value := range r.cfg.Headers {
		h.Set(name, value)
	}
	for _, x := range a.Headers {
		if endpoint.MaySet(x.Name) {
			h.Set(x.Name, x.Value)
		}
	}
	told := endpoint.Told{ID: a.ID, Key: a.Key, Nonce: a.Token.Nonce[:], Number: a.Number, Time: a.Time}
	told.Set(a.Payload, r.cfg.Secret, h.Set)
}

// says is what an answer says of itself, for an error.
func says(body []byte) string {
	body = bytes.TrimSpace(body)
	if len(body) == 0 || !utf8.Valid(body[:min(len(body), tellMost)]) {
		return ""
	}
	if len(body) > tellMost {
		body = body[:tellMost]
	}
	return fmt.Sprintf(": %q", body)
}

// retryAfter reads the header Retry-After: seconds or a date. 0: it asks for nothing.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
