// Package apierrors is what an error of the API is: one type, one table of
// reason codes, and the one mapping to gRPC statuses and HTTP.
//
// It guarantees that an *Error survives the trip through a gRPC status and back
// (FromStatus) with its code, reason, message, outcome, token, retry hint and
// metadata, and that every reason of the table has a gRPC code, a title and a
// next step. Codes are stable: a number is never given another meaning.
//
// It does not decide what went wrong; the packages that find out choose the
// reason. It does not log.
package apierrors
