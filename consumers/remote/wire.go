package remote

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// The domain of errors between processes, and that of the API.
const (
	domain    = "headwater.cluster"
	domainAPI = "headwater"
)

// wrongOwner is the reason of a process that does not hold a partition by the claim that
// the caller knows of.
const wrongOwner = "WRONG_OWNER"

// errWrongOwner refuses a question.
func errWrongOwner(p uint32) error {
	s := status.Newf(codes.FailedPrecondition, "this process does not hold partition %d by that claim", p)
	if d, err := s.WithDetails(&errdetails.ErrorInfo{Reason: wrongOwner, Domain: domain}); err == nil {
		return d.Err()
	}
	return s.Err()
}

func isWrongOwner(err error) bool { return hasInfo(err, domain, wrongOwner) }

// ours reports whether an error was made by the owner, and not on the way to it.
func ours(err error) bool { return hasInfo(err, domainAPI, "") || hasInfo(err, domain, "") }

func hasInfo(err error, domain, reason string) bool {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain && (reason == "" || info.GetReason() == reason) {
			return true
		}
	}
	return false
}

// queueTo is a queue as it is sent; refs bounds how many of its records are named.
func queueTo(q *consumers.ParkedQueue, refs int) *clusterv1.ParkedQueue {
	m := &clusterv1.ParkedQueue{Key: q.Key, Reason: q.Reason, Attempts: int64(q.Attempts), At: int64(q.At), LogTime: q.LogTime}
	for _, r := range q.Refs[:min(refs, len(q.Refs))] {
		m.Refs = append(m.Refs, &clusterv1.Ref{Offset: int64(r.Offset), Index: int64(r.Index)})
	}
	return m
}

// queueFrom reads what queueTo made.
func queueFrom(p wal.Partition, m *clusterv1.ParkedQueue) (q consumers.ParkedQueue, err error) {
	if len(m.GetRefs()) == 0 {
		return q, fmt.Errorf("%w answer: a parked queue without a record", wal.ErrMalformed)
	}
	q.Key = m.GetKey()
	q.ParkedHead = consumers.ParkedHead{Reason: m.GetReason(), Attempts: int(m.GetAttempts()), At: wal.Offset(m.GetAt()), LogTime: m.GetLogTime()}
	for _, r := range m.GetRefs() {
		q.Refs = append(q.Refs, wal.Ref{Partition: p, Offset: wal.Offset(r.GetOffset()), Index: int(r.GetIndex())})
	}
	return q, nil
}

// Left is how long there is until a deadline, in microseconds, at least one; 0: there is none. A
// deadline is sent so, because the clocks of two processes differ.
func Left(deadline time.Time) int64 {
	if deadline.IsZero() {
		return 0
	}
	return max(1, time.Until(deadline).Microseconds())
}

// DeadlineIn is the deadline that Left was told of, by the clock of this process.
func DeadlineIn(left int64) time.Time {
	if left == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(left) * time.Microsecond)
}

// TokenIDFrom reads an identity. wal.ErrMalformed.
func TokenIDFrom(b []byte) (id wal.TokenID, err error) {
	if len(b) != len(id) {
		return id, fmt.Errorf("%w identity: %d bytes", wal.ErrMalformed, len(b))
	}
	copy(id[:], b)
	return id, nil
}

// HashFrom reads the hash of a request. wal.ErrMalformed.
func HashFrom(b []byte) (h wal.Hash, err error) {
	if len(b) != len(h) {
		return h, fmt.Errorf("%w hash: %d bytes", wal.ErrMalformed, len(b))
	}
	copy(h[:], b)
	return h, nil
}
