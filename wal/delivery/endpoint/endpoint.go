// Package endpoint knows what may be sent where, and how: which addresses are of the public internet, which headers a
// caller may set, and how what is sent is signed.
//
// It guarantees that a private, loopback, link-local or reserved address is not called public, also one that is written
// inside of an IPv6 address. It does not look names up.
package endpoint

import (
	"net/http"
	"net/netip"
	"strings"
)

// The headers that a delivery sets itself.
const (
	HeaderID        = "Webhook-Id"
	HeaderTime      = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
	HeaderToken     = "Idempotency-Key"
	HeaderKey       = "Headwater-Key"
	HeaderAttempt   = "Headwater-Attempt"
)

// notSent are the headers that neither a document nor a message may set: they are the delivery's, or the connection's.
var notSent = map[string]bool{
	HeaderID: true, HeaderTime: true, HeaderSignature: true, HeaderToken: true, HeaderKey: true, HeaderAttempt: true,
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Keep-Alive": true, "Te": true, "Trailer": true,
	"Upgrade": true, "Proxy-Connection": true, "Expect": true,
}

// MaySet reports whether a caller may set a header.
func MaySet(name string) bool { return !notSent[http.CanonicalHeaderKey(name)] }

// reserved are ranges that netip does not call private: carriers' own, benchmarks, protocol assignments, what is
// translated to IPv4, and the rest of RFC 6890.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"),
}

// Public reports whether an address is one of the public internet.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range reserved {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// PrivateHost reports whether a host is by its name not of the public internet. Of another name the address is to
// be looked at when it is connected to.
func PrivateHost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && !Public(a)
}
