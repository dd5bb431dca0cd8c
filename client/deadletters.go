package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// DeadLetters is what was refused after the log, or could not be applied, of a
// namespace of any abstraction.
type DeadLetters struct {
	c         *Client
	namespace string
}

// DeadLetters returns a handle on the dead letters of a namespace.
func (c *Client) DeadLetters(namespace string) *DeadLetters {
	return &DeadLetters{c: c, namespace: namespace}
}

// DeadLetter is one mutation that had no effect and whose caller may not know.
type DeadLetter struct {
	ID        string
	Partition int
	Offset    int64
	// Index is which mutation of its record, -1 for the whole record.
	Index int
	Key   string
	// Reason is a word: poison, bad_control, bound, overflow, token_conflict, too_old or undeliverable.
	Reason string
	// Disposition is REFUSED, PARKED, REDRIVEN or DROPPED.
	Disposition string
	Detail      string
	Attempts    int
	Time        time.Time
	// Payload is the record. It comes only when the selection names ids, and while
	// the letter or the log has it.
	Payload []byte
	Target  string // of a delivery
}

// DeadLetterSelection selects the dead letters that match every field that is
// set. The zero value selects all.
type DeadLetterSelection struct {
	IDs []string
	// Key selects by key; nil: any. "" is that of messages without one.
	Key    *string
	Reason string
	Target string // of deliveries
	// Since is included, Until is not.
	Since, Until time.Time
}

func (s *DeadLetterSelection) message() *headwaterv1.DeadLetterSelection {
	m := &headwaterv1.DeadLetterSelection{Ids: s.IDs}
	m.Key = s.Key
	if s.Reason != "" {
		m.Reason = &s.Reason
	}
	if s.Target != "" {
		m.Target = &s.Target
	}
	if !s.Since.IsZero() {
		m.Since = timestamppb.New(s.Since)
	}
	if !s.Until.IsZero() {
		m.Until = timestamppb.New(s.Until)
	}
	return m
}

// List reads dead letters, oldest first. A failure ends it, as its last pair.
func (d *DeadLetters) List(ctx context.Context, s DeadLetterSelection) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		req := &headwaterv1.ListDeadLettersRequest{Namespace: d.namespace, Selection: s.message()}
		for {
			var res *headwaterv1.ListDeadLettersResponse
			err := d.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
				res, err = d.c.log.ListDeadLetters(ctx, req, opts...)
				return err
			})
			if err != nil {
				yield(DeadLetter{}, err)
				return
			}
			for _, m := range res.GetDeadLetters() {
				if !yield(deadLetterOf(m), nil) {
					return
				}
			}
			if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

func deadLetterOf(m *headwaterv1.DeadLetter) DeadLetter {
	l := DeadLetter{
		ID: m.GetId(), Partition: int(m.GetPartition()), Offset: m.GetOffset(), Index: int(m.GetMutationIndex()), Key: m.GetKey(),
		Reason: m.GetReason(), Disposition: m.GetDisposition().String(), Detail: m.GetDetail(), Attempts: int(m.GetAttempts()), Payload: m.GetPayload(), Target: m.GetTarget(),
	}
	if t := m.GetTime(); t != nil {
		l.Time = t.AsTime()
	}
	return l
}

// RedriveOptions say how dead letters are redriven.
type RedriveOptions struct {
	// DryRun counts what matches and changes nothing.
	DryRun bool
	// Rate is how many a second; 0: as fast as they apply.
	Rate int
	// Max stops after so many; 0: all that match.
	Max int
}

// Disposal is what a Redrive or Drop did.
type Disposal struct {
	Job string
	// Matched is how many parked letters the selection names, Done how many of
	// them were redriven or dropped.
	Matched, Done int64
	DryRun        bool
	// Running: the call's time was over before all were tried, and the job goes on. Admin.Job tells its end.
	Running bool
}

// Redrive applies parked records again, in order, under their original position
// and token. It answers when it has tried all, or when an attempt's time is over. It carries no token: where its
// outcome is unknown, List says how far it came, and it may be called again.
func (d *DeadLetters) Redrive(ctx context.Context, s DeadLetterSelection, o RedriveOptions) (Disposal, error) {
	req := &headwaterv1.RedriveDeadLettersRequest{Namespace: d.namespace, Selection: s.message(), DryRun: o.DryRun}
	if o.Rate != 0 {
		n := int32(o.Rate)
		req.Rate = &n
	}
	if o.Max != 0 {
		n := int64(o.Max)
		req.Max = &n
	}
	var res *headwaterv1.RedriveDeadLettersResponse
	err := d.c.call(ctx, disposal(o.DryRun), Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = d.c.log.RedriveDeadLetters(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Disposal{}, err
	}
	return Disposal{Job: res.GetJob(), Matched: res.GetMatched(), Done: res.GetRedriven(), DryRun: res.GetDryRun(), Running: res.GetRunning()}, nil
}

// Drop gives parked records up, so that their keys flow again. As with Redrive,
// it may be called again where its outcome is unknown.
func (d *DeadLetters) Drop(ctx context.Context, s DeadLetterSelection, dryRun bool) (Disposal, error) {
	req := &headwaterv1.DropDeadLettersRequest{Namespace: d.namespace, Selection: s.message(), DryRun: dryRun}
	var res *headwaterv1.DropDeadLettersResponse
	err := d.c.call(ctx, disposal(dryRun), Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = d.c.log.DropDeadLetters(ctx, req, opts...)
		return err
	})
	if err != nil {
		return Disposal{}, err
	}
	return Disposal{Job: res.GetJob(), Matched: res.GetMatched(), Done: res.GetDropped(), DryRun: res.GetDryRun(), Running: res.GetRunning()}, nil
}

func disposal(dryRun bool) effect {
	if dryRun {
		return reads
	}
	return writesBare
}
