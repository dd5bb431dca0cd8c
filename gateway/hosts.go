package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"

	"github.com/headwater-db/headwater/api/apierrors"
)

// Hosts are the names that this process answers to over HTTP. A page of the web can
// have its own name resolve to this machine; its browser then takes the server for
// the page's own, and lets it read and write. The name in the Host header, which a
// page cannot choose, is what is left to tell it by. An IP address is nobody's name.
//
// gRPC needs none of it: browsers do not speak HTTP/2 without TLS.
type Hosts struct {
	names map[string]bool
	// listed: there are names beside the machine's own.
	listed bool
}

// hostName is a DNS name in small letters, or one as containers have them.
var hostName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

const maxHostName = 253

// NewHosts returns localhost, the machine's name, and those of allowed, which are
// names without a port.
func NewHosts(allowed []string) (*Hosts, error) {
	own, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("read the machine's name: %w", err)
	}
	h := &Hosts{names: map[string]bool{"localhost": true, plainHost(own): true}, listed: len(allowed) > 0}
	for _, name := range allowed {
		plain := plainHost(name)
		if len(plain) > maxHostName || !hostName.MatchString(plain) {
			return nil, fmt.Errorf("allowed host %.64q is no host name; give it as in db.example.com, "+
				"without scheme, port and wildcards (IP addresses are always served)", name)
		}
		h.names[plain] = true
	}
	return h, nil
}

// plainHost is a name in small letters without the dot that may end it.
func plainHost(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// At returns what checks the Host of requests to a listener: nil, which refuses
// none, off the loopback interface unless names are listed. Who listens on a
// network is reached under names that this process cannot know.
func (h *Hosts) At(l net.Listener) func(host string) error {
	if addr, ok := l.Addr().(*net.TCPAddr); !h.listed && (!ok || !addr.IP.IsLoopback()) {
		return nil
	}
	return h.check
}

// check takes a Host with or without a port. An empty one names nothing, and no
// browser sends it.
func (h *Hosts) check(host string) error {
	name, ok := withoutPort(host)
	if ok && (name == "" || h.names[plainHost(name)] || isAddress(name)) {
		return nil
	}
	return apierrors.New(apierrors.BadHost, "the request is for host %.64q, which this server does not answer to; "+
		"add it to allowed_hosts (--allowed-hosts), or use localhost or an IP address", host)
}

// withoutPort cuts a port off; ok is false where what follows the name is none.
func withoutPort(host string) (name string, ok bool) {
	if isAddress(host) { // an IPv6 address without brackets has colons too
		return host, true
	}
	end := strings.LastIndexByte(host, ':')
	if end < strings.LastIndexByte(host, ']') {
		end = -1
	}
	if end < 0 {
		return host, true
	}
	return host[:end], strings.Trim(host[end+1:], "0123456789") == ""
}

// isAddress also takes the zone of an IPv6 address, and its brackets.
func isAddress(name string) bool {
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		a, err := netip.ParseAddr(inner)
		return ok && err == nil && a.Is6()
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}
