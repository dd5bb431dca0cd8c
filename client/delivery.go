package client

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// MessageStatus is how far a message is that targets are to get.
type MessageStatus struct {
	ID string
	// State is PENDING, DELIVERING, DELIVERED, DEAD or CANCELLED; see headwater.v1.GetMessageResponse.
	State     string
	WrittenAt time.Time
	Due       time.Time
	Targets   []MessageTarget
}

// MessageTarget is how far a message is at one target.
type MessageTarget struct {
	Name, State string
	Attempts    int
	LastError   string    // of the last attempt, where it failed
	DeliveredAt time.Time // zero while it is not
}

// Message tells how far a message is, by the id that its write was answered with. It is an *Error with reason HW-1111
// where nothing is known of it.
func (l *Log) Message(ctx context.Context, id string) (MessageStatus, error) {
	var res *headwaterv1.GetMessageResponse
	err := l.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = l.c.log.GetMessage(ctx, &headwaterv1.GetMessageRequest{Namespace: l.namespace, MessageId: id}, opts...)
		return err
	})
	if err != nil {
		return MessageStatus{}, err
	}
	out := MessageStatus{ID: res.GetMessageId(), State: res.GetState().String(), WrittenAt: res.GetWrittenAt().AsTime(), Due: res.GetDue().AsTime()}
	for _, t := range res.GetTargets() {
		one := MessageTarget{Name: t.GetName(), State: t.GetState().String(), Attempts: int(t.GetAttempts()), LastError: t.GetLastError()}
		if at := t.GetDeliveredAt(); at != nil {
			one.DeliveredAt = at.AsTime()
		}
		out.Targets = append(out.Targets, one)
	}
	return out, nil
}

// DelayedMessage is one that waits for its time.
type DelayedMessage struct {
	ID, Key   string
	Due       time.Time
	WrittenAt time.Time
	Targets   []string
}

// DelayedSelection says which delayed messages are meant; the zero value: all.
type DelayedSelection struct {
	DueAfter  time.Time // included
	DueBefore time.Time // excluded
	Key       *string
}

// Delayed lists messages that wait for their time, the soonest first. A failure ends it, as its last pair.
func (l *Log) Delayed(ctx context.Context, s DelayedSelection) iter.Seq2[DelayedMessage, error] {
	return func(yield func(DelayedMessage, error) bool) {
		req := &headwaterv1.ListDelayedRequest{Namespace: l.namespace, Key: s.Key}
		if !s.DueAfter.IsZero() {
			req.DueAfter = timestamppb.New(s.DueAfter)
		}
		if !s.DueBefore.IsZero() {
			req.DueBefore = timestamppb.New(s.DueBefore)
		}
		for {
			var res *headwaterv1.ListDelayedResponse
			err := l.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
				res, err = l.c.log.ListDelayed(ctx, req, opts...)
				return err
			})
			if err != nil {
				yield(DelayedMessage{}, err)
				return
			}
			for _, m := range res.GetMessages() {
				if !yield(DelayedMessage{
					ID: m.GetMessageId(), Key: m.GetKey(), Due: m.GetDue().AsTime(), WrittenAt: m.GetWrittenAt().AsTime(), Targets: m.GetTargets(),
				}, nil) {
					return
				}
			}
			if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
				return
			}
		}
	}
}

// Cancelled is what a cancel came to.
type Cancelled struct {
	Cancelled int64
	// TooLate is how many messages were not cancelled, since an attempt had begun or they had ended.
	TooLate int64
}

// Cancel has a delayed message not delivered, if no attempt has begun.
func (l *Log) Cancel(ctx context.Context, id string) (Cancelled, error) {
	return l.cancel(ctx, &headwaterv1.CancelDelayedRequest_Selection{MessageId: id})
}

// CancelKey is Cancel of all delayed messages of a key.
func (l *Log) CancelKey(ctx context.Context, key string) (Cancelled, error) {
	return l.cancel(ctx, &headwaterv1.CancelDelayedRequest_Selection{Key: &key})
}

func (l *Log) cancel(ctx context.Context, s *headwaterv1.CancelDelayedRequest_Selection) (c Cancelled, err error) {
	err = l.c.call(ctx, writesOnce, Token{}, func(ctx context.Context, opts ...grpc.CallOption) error {
		res, err := l.c.log.CancelDelayed(ctx, &headwaterv1.CancelDelayedRequest{Namespace: l.namespace, Selection: s}, opts...)
		c = Cancelled{res.GetCancelled(), res.GetTooLate()}
		return err
	})
	return c, err
}
