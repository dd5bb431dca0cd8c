package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/headwater-db/headwater/wal"
)

func TestFormatOfAnEnvelope(t *testing.T) {
	t.Parallel()
	b := Body{Payload: []byte("paid"), Headers: []Header{{"Trace", "7"}, {"empty", ""}}}
	kind, got := b.encode()
	const want = "\x01" + "\x0a\x04paid" + "\x12\x0a\x0a\x05Trace\x12\x017" + "\x12\x09\x0a\x05empty\x12\x00"
	if kind != wal.KindEnvelope || string(got) != want {
		t.Errorf("kind %v, %q, not %q", kind, got, want)
	}
	back, err := DecodeBody(&wal.Record{Kind: kind, Payload: got})
	if err != nil || !bytes.Equal(back.Payload, b.Payload) || !slices.Equal(back.Headers, b.Headers) {
		t.Errorf("%+v, %v", back, err)
	}
	if kind, got := (&Body{Payload: b.Payload}).encode(); kind != wal.KindMessage || string(got) != "paid" {
		t.Errorf("without headers: kind %v, %q", kind, got)
	}
	for what, c := range map[string]struct {
		payload string
		want    error
	}{
		"nothing":           {"", wal.ErrUnknownVersion},
		"a newer version":   {"\x02\x0a\x04paid", wal.ErrUnknownVersion},
		"an unknown field":  {want + "\x7a\x01x", wal.ErrUnknownVersion},
		"a short time":      {want + "\x22\x01x", wal.ErrMalformed},
		"one of a header":   {"\x01\x12\x03\x1a\x01x", wal.ErrUnknownVersion},
		"a cut field":       {want[:len(want)-1], wal.ErrMalformed},
		"a number":          {"\x01\x08\x01", wal.ErrMalformed},
		"a length too long": {"\x01\x0a\xff\xff\xff\xff\x0f", wal.ErrMalformed},
	} {
		if _, err := DecodeBody(&wal.Record{Kind: wal.KindEnvelope, Payload: []byte(c.payload)}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, not %v", what, err, c.want)
		}
	}
}

func FuzzDecodeBody(f *testing.F) {
	_, whole := (&Body{Payload: []byte("paid"), Headers: []Header{{"Trace", "7"}, {"empty", ""}}}).encode()
	f.Add(whole)
	f.Add([]byte("\x01\x12\x03\x1a\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := DecodeBody(&wal.Record{Kind: wal.KindEnvelope, Payload: b})
		if err != nil || len(body.Headers) == 0 {
			return
		}
		kind, again := body.encode()
		back, err := DecodeBody(&wal.Record{Kind: kind, Payload: again})
		if err != nil || !bytes.Equal(back.Payload, body.Payload) || !slices.Equal(back.Headers, body.Headers) {
			t.Errorf("%+v comes back as %+v, %v", body, back, err)
		}
	})
}

func TestHeadersThatAreRefused(t *testing.T) {
	t.Parallel()
	many := make(map[string]string)
	for i := range MaxHeaders {
		many[fmt.Sprintf("h%d", i)] = ""
	}
	large := map[string]string{"a": strings.Repeat("x", MaxHeaderValue), "b": strings.Repeat("x", MaxHeaderValue), "c": strings.Repeat("x", MaxHeaderValue), "d": strings.Repeat("x", MaxHeaderValue-4)}
	for _, good := range []map[string]string{nil, {}, many, large, {strings.Repeat("n", MaxHeaderName): "ü 'quoted'; DROP"}, {"a": "", "A1": ""}} {
		if hs, err := HeadersOf(good); err != nil || len(hs) != len(good) || !slices.IsSortedFunc(hs, func(a, b Header) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("%d headers: %v, %v", len(good), hs, err)
		}
	}
	many["h"], large["e"] = "", ""
	for what, bad := range map[string]map[string]string{
		"no name": {"": "x"}, "a long name": {strings.Repeat("n", MaxHeaderName+1): "x"}, "a blank in the name": {"a b": "x"}, "a colon in the name": {"a:": "x"}, "another script": {"ä": "x"},
		"a long value": {"a": strings.Repeat("x", MaxHeaderValue+1)}, "a line break": {"a": "x\r\nSet-Cookie: y"}, "a zero": {"a": "\x00"}, "not UTF-8": {"a": "\xff"},
		"case alone": {"a": "1", "A": "2"}, "too many": many, "too large": large,
	} {
		var e *HeaderError
		if _, err := HeadersOf(bad); !errors.As(err, &e) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
