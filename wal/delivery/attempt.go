package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// Attempt is a message as a receiver gets it.
type Attempt struct {
	ID      string // of the message: the same in every attempt
	Key     string
	Token   wal.Token
	Headers []Header
	Payload []byte
	Number  int // of the attempt, from 1
	Time    time.Time
	Source  wal.Source // of one to a namespace; Topic and After are the Forwarder's to set

	key []byte // the record's routing key
}

// IsJSON reports whether a payload is meant as JSON of a request: no protobuf of one begins with "{".
func IsJSON(payload []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeft(payload, " \t\r\n"), []byte("{"))
}

// Forwarder brings the messages of one partition to another log, many at once. Used by one goroutine.
type Forwarder interface {
	// Forward appends messages that follow each other in the order of their places, and returns how many, from the first
	// on, are in the other log. An error is of the next one: it and those behind it are sent again, unless it
	// is a *PermanentError, whose message alone is given up.
	Forward(ctx context.Context, ms []*Attempt) (n int, err error)
}

// Forwarders are those of one target.
type Forwarders interface {
	Forwarder(p wal.Partition) Forwarder
	// Close gives up what is kept between attempts. None is under way.
	Close() error
}

// Receiver makes attempts at one target. Safe for concurrent use.
type Receiver interface {
	// Deliver makes one attempt. An error is tried again, unless it is a *PermanentError.
	Deliver(ctx context.Context, a *Attempt) error
	// Close gives up what is kept between attempts.
	Close() error
}

// PermanentError is one that another attempt would meet too.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// RetryAfterError is one that is not to be tried again before After has passed.
type RetryAfterError struct {
	After time.Duration
	Err   error
}

func (e *RetryAfterError) Error() string { return e.Err.Error() }
func (e *RetryAfterError) Unwrap() error { return e.Err }

// Retry is how often and how fast an attempt is made again.
type Retry struct {
	Initial    time.Duration // before the second attempt
	Multiplier float64
	Max        time.Duration // between two attempts
	Attempts   int           // 0: without end
	Age        time.Duration // from when the message is due; 0: without end
}

// maxRetryAfter bounds what a receiver asks for.
const maxRetryAfter = 24 * time.Hour

// jitter is by how much of itself a pause is made shorter at random, so that what failed together does not come back
// together.
const jitter = 0.2

// pause is how long after attempt number n the next one is made.
func (r *Retry) pause(n int) time.Duration {
	d := float64(r.Initial) * math.Pow(max(r.Multiplier, 1), float64(n-1))
	d = min(d, float64(r.Max))
	return time.Duration(d * (1 - jitter*rand.Float64()))
}

// after says what is to be done about an attempt that failed at now: when it is tried again, or why it is not.
func (r *Retry) after(d *Delivery, err error, now time.Time) (next time.Time, giveUp string) {
	n := d.Attempts + 1
	if _, is := errors.AsType[*PermanentError](err); is {
		return next, err.Error()
	}
	pause := r.pause(n)
	if e, is := errors.AsType[*RetryAfterError](err); is {
		pause = max(pause, min(e.After, maxRetryAfter))
	}
	next = now.Add(pause)
	switch {
	case r.Attempts > 0 && n >= r.Attempts:
		return next, fmt.Sprintf("%d of %d attempts have failed; the last one: %v", n, r.Attempts, err)
	case r.Age > 0 && next.Sub(time.UnixMicro(d.Due)) > r.Age:
		return next, fmt.Sprintf("it is older than %v after %d attempts; the last one: %v", r.Age, n, err)
	}
	return next, ""
}

// maxError bounds what is kept of an error.
const maxError = 512

func clipError(s string) string {
	if len(s) > maxError {
		return s[:maxError] + "..."
	}
	return s
}
