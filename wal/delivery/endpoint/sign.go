package endpoint

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrPrivate is why a connection is not made.
var ErrPrivate = errors.New(
	"the address is private, loopback or link-local, and the namespace's document does not allow it (delivery.allow)")

// CheckPublic refuses the address of a connection, host and port, that is not of the public internet: ErrPrivate.
func CheckPublic(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !Public(ap.Addr()) {
		return fmt.Errorf("%s: %w", ap.Addr(), ErrPrivate)
	}
	return nil
}

// GRPCAddress takes the address of a gRPC service apart: host:port, or http://host:port, is in the clear,
// https://host:port is TLS.
func GRPCAddress(address string) (hostPort string, secure bool, err error) {
	hostPort = strings.TrimPrefix(address, "http://")
	if s, is := strings.CutPrefix(address, "https://"); is {
		hostPort, secure = s, true
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil || host == "" || port == "" || strings.ContainsAny(hostPort, "/@?# ") {
		const wrong = "%.200q is not the address of a gRPC service; write host:port, or https://host:port"
		return "", false, fmt.Errorf(wrong, address)
	}
	return hostPort, secure, nil
}

// Text is a value as a header has it: percent-encoded where it has bytes that a header may not.
func Text(s string) string {
	if strings.IndexFunc(s, func(c rune) bool { return c < ' ' || c > '~' || c == '%' }) < 0 {
		return s
	}
	return url.PathEscape(s)
}

// Sign is the signature of a message: the base64 of HMAC-SHA256 over "id.timestamp.payload".
func Sign(secret []byte, id, timestamp string, payload []byte) string {
	mac := hmac.New(sha256.New, secret)
	_, _ = io.WriteString(mac, id+"."+timestamp+".") // a hash takes everything
	_, _ = mac.Write(payload)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// Secret reads one as a file has it: bytes, or "whsec_" and their base64. Space around it does not count.
func Secret(file []byte) ([]byte, error) {
	file = bytes.TrimSpace(file)
	b64, coded := bytes.CutPrefix(file, []byte("whsec_"))
	if !coded {
		if len(file) == 0 {
			return nil, errors.New("the secret is empty")
		}
		return file, nil
	}
	secret, err := base64.StdEncoding.DecodeString(string(b64))
	if err != nil || len(secret) == 0 {
		return nil, errors.New(`the secret is not base64 behind "whsec_"`)
	}
	return secret, nil
}

// Told is what every attempt tells of a message beside its payload and its own headers.
type Told struct {
	ID, Key string // Key is "" of a message without one
	Nonce   []byte // of its token
	Number  int    // of the attempt
	Time    time.Time
}

// Set gives it to set, header by header, with a signature of the payload where there is a secret.
func (t *Told) Set(payload, secret []byte, set func(name, value string)) {
	at := strconv.FormatInt(t.Time.Unix(), 10)
	set(HeaderID, t.ID)
	set(HeaderTime, at)
	set(HeaderToken, base64.StdEncoding.EncodeToString(t.Nonce))
	set(HeaderAttempt, strconv.Itoa(t.Number))
	if t.Key != "" {
		set(HeaderKey, Text(t.Key))
	}
	if secret != nil {
		set(HeaderSignature, "v1,"+Sign(secret, t.ID, at, payload))
	}
}
