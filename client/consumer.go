package client

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// FetchedMessage is a record of a log that was handed to this caller.
type FetchedMessage struct {
	Message // without a Position
	// Attempt is 1 the first time that it is handed out, as far as is remembered.
	Attempt int
	// Outcome is what the record of a kv, counter or time-series namespace did: APPLIED, REFUSED, PARKED or DROPPED;
	// "" of a message. Reason says why it, or the first of Refused, had no effect; Refused are the indexes of those
	// mutations, adds or events.
	Outcome, Reason string
	Refused         []int

	ackID string
}

// FetchOptions say what a fetch asks for. The zero value asks for up to 100 messages, at once.
type FetchOptions struct {
	Max            int           // at most 1,000; 0: 100
	Wait           time.Duration // for a first message, at most a minute, and Config.AttemptTimeout
	AckWait        time.Duration // how long they are the caller's; 0: as the consumer has it
	IncludeRefused bool          // records without effect too
}

// Fetch hands out messages of the log that a named consumer has not acknowledged, to this one of its callers. Each is
// to be acknowledged with Ack within the time, or is handed out again. A consumer that does not exist is made, from the
// log's beginning.
func (l *Log) Fetch(ctx context.Context, consumer string, o FetchOptions) ([]FetchedMessage, error) {
	req := &headwaterv1.FetchMessagesRequest{Namespace: l.namespace, Consumer: consumer, IncludeRefused: o.IncludeRefused}
	if o.Max != 0 {
		req.MaxMessages = proto.Int32(int32(min(max(o.Max, -1), 1<<30)))
	}
	if o.Wait != 0 {
		req.Wait = durationpb.New(o.Wait)
	}
	if o.AckWait != 0 {
		req.AckWait = durationpb.New(o.AckWait)
	}
	var res *headwaterv1.FetchMessagesResponse
	err := l.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = l.c.log.FetchMessages(ctx, req, opts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]FetchedMessage, 0, len(res.GetMessages()))
	for _, m := range res.GetMessages() {
		one, err := fetchedOf(m)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

func fetchedOf(m *headwaterv1.FetchedMessage) (FetchedMessage, error) {
	f := FetchedMessage{
		Message: Message{
			Partition: int(m.GetPartition()), Offset: m.GetOffset(), Time: m.GetTime().AsTime(), Kind: m.GetKind(), Key: m.GetKey(),
			Token: tokenOf(m.GetToken()), Payload: m.GetPayload(), Headers: m.GetHeaders(),
			Method: m.GetMethod(),
		},
		Attempt: int(m.GetAttempt()), Reason: m.GetDecision().GetReason(), ackID: m.GetAckId(),
	}
	if d := m.GetDecision(); d != nil {
		f.Outcome = d.GetOutcome().String()
		for _, i := range d.GetRefused() {
			f.Refused = append(f.Refused, int(i))
		}
	}
	var err error
	f.Record, err = recordOf(m.GetRecord())
	return f, err
}

// Acknowledgement says what became of a fetched message. Make it with the methods of FetchedMessage.
type Acknowledgement struct{ m *headwaterv1.MessageAck }

func (f *FetchedMessage) says(k headwaterv1.MessageAck_Kind, delay time.Duration) Acknowledgement {
	m := &headwaterv1.MessageAck{AckId: f.ackID, Kind: k}
	if delay != 0 {
		m.Delay = durationpb.New(delay)
	}
	return Acknowledgement{m}
}

// Ack says that the message is done.
func (f *FetchedMessage) Ack() Acknowledgement { return f.says(headwaterv1.MessageAck_ACK, 0) }

// Nak has the message handed out again after a delay.
func (f *FetchedMessage) Nak(delay time.Duration) Acknowledgement {
	return f.says(headwaterv1.MessageAck_NAK, delay)
}

// Term says that the message cannot be processed: it is a dead letter.
func (f *FetchedMessage) Term() Acknowledgement { return f.says(headwaterv1.MessageAck_TERM, 0) }

// Progress says that the message takes longer: it is the caller's for d from now, or for another AckWait where d is 0.
func (f *FetchedMessage) Progress(d time.Duration) Acknowledgement {
	return f.says(headwaterv1.MessageAck_PROGRESS, d)
}

// Acknowledge says what became of up to 1,000 messages, durably when it returns. late are the indexes of those that came
// too late: the message was another caller's by then, or will be. Sent again after a failure it does the same.
func (l *Log) Acknowledge(ctx context.Context, consumer string, acks ...Acknowledgement) (late []int, err error) {
	req := &headwaterv1.AckMessagesRequest{Namespace: l.namespace, Consumer: consumer}
	index := make(map[string]int, len(acks))
	for i, a := range acks {
		req.Acks = append(req.Acks, a.m)
		index[a.m.GetAckId()] = i
	}
	var res *headwaterv1.AckMessagesResponse
	err = l.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = l.c.log.AckMessages(ctx, req, opts...)
		return err
	})
	for _, id := range res.GetExpired() {
		if i, ok := index[id]; ok {
			late = append(late, i)
		}
	}
	return late, err
}

// ConsumerOptions are those of ApplyConsumer. What is zero stays as it is, or as a new consumer has it.
type ConsumerOptions struct {
	// From is where it begins, also anew; nil: at the log's beginning, or where it is.
	From        *TailOptions
	MaxInFlight int           // 1,000 of a new one
	AckWait     time.Duration // 30 s of a new one
	MaxAttempts *int          // 0: without an end, as a new one
}

// ApplyConsumer makes a consumer, changes its settings, or has it begin elsewhere.
func (l *Log) ApplyConsumer(ctx context.Context, consumer string, o ConsumerOptions) (*headwaterv1.Consumer, error) {
	req := &headwaterv1.ApplyConsumerRequest{Namespace: l.namespace, Consumer: consumer}
	if o.From != nil {
		req.From = o.From.start()
	}
	if o.MaxInFlight != 0 {
		req.MaxInFlight = proto.Int32(int32(min(max(o.MaxInFlight, -1), 1<<30)))
	}
	if o.AckWait != 0 {
		req.AckWait = durationpb.New(o.AckWait)
	}
	if o.MaxAttempts != nil {
		req.MaxAttempts = proto.Int32(int32(min(max(*o.MaxAttempts, -1), 1<<30)))
	}
	var res *headwaterv1.ApplyConsumerResponse
	err := l.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = l.c.log.ApplyConsumer(ctx, req, opts...)
		return err
	})
	return res.GetConsumer(), err
}

// DeleteConsumer forgets a consumer. One that does not exist is no error.
func (l *Log) DeleteConsumer(ctx context.Context, consumer string) error {
	return l.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) error {
		_, err := l.c.log.DeleteConsumer(ctx, &headwaterv1.DeleteConsumerRequest{Namespace: l.namespace, Consumer: consumer}, opts...)
		return err
	})
}

// Consumers tells how far the named consumers of the log are, by name. The messages are those of the API.
func (l *Log) Consumers(ctx context.Context) ([]*headwaterv1.Consumer, error) {
	var res *headwaterv1.ListConsumersResponse
	err := l.c.call(ctx, reads, Token{}, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
		res, err = l.c.log.ListConsumers(ctx, &headwaterv1.ListConsumersRequest{Namespace: l.namespace}, opts...)
		return err
	})
	return res.GetConsumers(), err
}
