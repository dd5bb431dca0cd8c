// Package deliverygrpc brings messages to unary methods of gRPC services.
//
// # What it guarantees
//
// An attempt is one call: the payload is its request, as it is, or, where it begins with "{", JSON of the request,
// whose type the receiver tells by server reflection. What an HTTP endpoint gets as headers is metadata. OK is done.
// INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION, OUT_OF_RANGE, UNIMPLEMENTED,
// UNAUTHENTICATED and DATA_LOSS are permanent; every other status, and no answer in time, is tried again, not before
// a RetryInfo says. The address is looked at when a connection is made: a private one is refused, unless the document
// allows it.
//
// # What it does not
//
// It does not look at what the method answers.
package deliverygrpc
