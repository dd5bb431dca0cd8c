// Package gateway is the API: it checks requests, refuses what is bad before the
// log sees it, hands the rest to the namespaces, and answers over gRPC and
// HTTP+JSON from one implementation of each service.
//
// # What it guarantees
//
// A write that is answered with success is durable as its reply says. A write
// that fails says whether it was not applied or may have been (outcome), and
// carries the token to send it again with. Every error has a stable code
// (HW-####), says what happened and what to do. Requests are bounded in size,
// count and time before any of them costs more than its reading. Over HTTP a web
// page reaches nothing, neither from another origin nor under a name of its own
// that resolves to this machine; see Hosts.
//
// # What it does not
//
// What grpc-go refuses by the headers of a call alone, it refuses without a code:
// another content type, a malformed grpc-timeout, a grpc-encoding other than gzip.
// It keeps no data and applies nothing. It does not authenticate callers yet:
// it listens on loopback unless it is told otherwise.
package gateway
