package httpjson

import (
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// What the plain routes share. A segment of a path is percent-decoded once, so
// that a slash in an id or key is sent as %2F.

// unescape decodes path segments, and refuses text that a proto string cannot
// hold. The one at index raw, a key, may be any bytes.
func unescape(segments []string, raw int) ([]string, error) {
	out := make([]string, len(segments))
	for i, s := range segments {
		v, err := url.PathUnescape(s)
		if err != nil {
			return nil, apierrors.Wrap(apierrors.BadParameter, err, "path segment %s is not percent-encoded; write %% as %%25", clip(s))
		}
		if i != raw && !utf8.ValidString(v) {
			return nil, apierrors.New(apierrors.BadUTF8, "path segment %s is not UTF-8; encode it as UTF-8", clip(v))
		}
		out[i] = v
	}
	return out, nil
}

// query returns the query parameters, which are all in known, and given once
// unless they are in repeatable.
func (x *exchange) query(known []string, repeatable ...string) (url.Values, error) {
	values, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return nil, apierrors.Wrap(apierrors.BadParameter, err, "the query cannot be read; percent-encode its values")
	}
	for name, v := range values {
		if !slices.Contains(known, name) && !slices.Contains(repeatable, name) {
			all := append(slices.Clone(known), repeatable...)
			if len(all) == 0 {
				return nil, apierrors.New(apierrors.BadParameter, "query parameter %s is not known; this route takes none", clip(name))
			}
			return nil, apierrors.New(apierrors.BadParameter, "query parameter %s is not known; use %s", clip(name), strings.Join(all, ", "))
		}
		if len(v) > 1 && !slices.Contains(repeatable, name) {
			return nil, apierrors.New(apierrors.BadParameter, "query parameter %s is given %d times; give it once", clip(name), len(v))
		}
		for _, s := range v {
			if !utf8.ValidString(s) {
				return nil, apierrors.New(apierrors.BadUTF8, "query parameter %s is not UTF-8; encode it as UTF-8", clip(name))
			}
		}
	}
	return values, nil
}

// header returns a header that may be given once; ok is false when it is absent.
func (x *exchange) header(name string) (value string, ok bool, err error) {
	values := x.r.Header.Values(name)
	switch {
	case len(values) == 0:
		return "", false, nil
	case len(values) > 1:
		return "", false, apierrors.New(apierrors.BadParameter, "header %s is given %d times; give it once", name, len(values))
	case !utf8.ValidString(values[0]):
		return "", false, apierrors.New(apierrors.BadUTF8, "header %s is not UTF-8; encode it as UTF-8", name)
	}
	return values[0], true, nil
}

// plainToken is the token of a write: that of Idempotency-Key, nil without it.
func (x *exchange) plainToken() (*headwaterv1.IdempotencyToken, error) {
	key, ok, err := x.header("Idempotency-Key")
	if err != nil || !ok {
		return nil, err
	}
	if key == "" {
		return nil, apierrors.New(apierrors.BadToken, "header Idempotency-Key is empty; send 1 to 128 bytes, or leave it out")
	}
	x.token = &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Key{Key: key}}
	return x.token, nil
}

// deadline is the timeout of a plain call that is not a stream.
func (x *exchange) deadline() (time.Duration, error) {
	timeout, err := x.timeout()
	if timeout == 0 {
		timeout = x.h.cfg.DefaultTimeout
	}
	return timeout, err
}
