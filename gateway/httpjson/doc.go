// Package httpjson serves gRPC services over HTTP with JSON, in process: every
// RPC as POST /headwater.v1.<Service>/<Method>, the plain routes of key-value
// and log, and GET /openapi.json.
//
// It is a small transcoder over grpc.ServiceDesc instead of grpc-gateway or
// connect: both would need the strict body, the error body, the streams and the
// zero values of answers to be replaced, which is all that they would be used
// for. Calls go through the same interceptors as gRPC's, without a network hop.
//
// # What it guarantees
//
//   - Strict requests: unknown and repeated fields, trailing data, bodies above
//     the limit, a bad deadline or request id never reach a handler as something
//     else. Answers hold every scalar field, zeros too.
//   - Every error that it or a handler causes has the one error body, with a
//     request id; on a write also the outcome, and the token where one is known
//     (else null). So has what net/http says of a request that it cannot read,
//     where the server listens through Handler.Listen. A panic is an error of its
//     request only.
//   - A unary call has a deadline (Request-Timeout-Ms, default 5 s). A server
//     stream has one only when the header asks for it; a peer that does not take
//     its messages is cut off after Config.WriteTimeout.
//   - A body that is packed (Content-Encoding gzip or zstd) counts as what is in it,
//     and no more of it than the limit is unpacked.
//   - It holds at most one request message and one answer message of a call in
//     memory, and starts no goroutine.
//
// # What it does not
//
// It does not authenticate, limit or validate: interceptors and services do. It
// does not bound header sizes or the number of connections: http.Server does.
// Bidirectional streams are not served.
package httpjson
