package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// Log is the log of a namespace: messages can be written to one whose
// abstraction is log, and read from any. It costs nothing to make and needs no
// closing.
type Log struct {
	c         *Client
	namespace string
}

// Log returns a handle on the log of a namespace. It does not ask the server
// whether there is one.
func (c *Client) Log(namespace string) *Log { return &Log{c: c, namespace: namespace} }

// Namespace is the name of the namespace.
func (l *Log) Namespace() string { return l.namespace }

// Write appends a message. Messages of one key stay in order, those of an empty
// key go anywhere. Durable on return as WriteResult.Durability says. Messages that several goroutines write
// at once share requests; see Config.BatchInFlight.
func (l *Log) Write(ctx context.Context, key string, payload []byte) (WriteResult, error) {
	return l.WriteToken(ctx, key, payload, Token{})
}

// WriteToken is Write under a token of the caller's.
func (l *Log) WriteToken(ctx context.Context, key string, payload []byte, token Token) (WriteResult, error) {
	return l.WriteMessage(ctx, NewMessage{Key: key, Payload: payload, Token: token})
}

// NewMessage is a message on its way into a log.
type NewMessage struct {
	Key     string
	Payload []byte
	// Headers are what readers are told beside the payload: see headwater.v1.WriteToLogRequest for what they may be.
	Headers map[string]string
	// Targets are names of the namespace's document; none: those that are default there.
	Targets []string
	// Delay is how long after the log has it a message is delivered, DeliverAt when. One of them at most is set; none:
	// at once.
	Delay     time.Duration
	DeliverAt time.Time
	// Replace: it comes in place of those of its key that wait for their time, which are cancelled.
	Replace bool
	Token   Token // the zero Token has the client make one
}

// WriteMessage is Write of a message with all that it may have.
func (l *Log) WriteMessage(ctx context.Context, m NewMessage) (WriteResult, error) {
	token := l.c.complete(m.Token)
	res, err := l.write(ctx, &m, token)
	if err != nil {
		return WriteResult{}, err
	}
	out := l.c.result(l.namespace, res.GetResult(), token, nil)
	out.MessageID = res.GetMessageId()
	return out, nil
}

// lifecycle is when the message is delivered.
func (m *NewMessage) lifecycle() *headwaterv1.MessageLifecycle {
	if m.Delay == 0 && m.DeliverAt.IsZero() && !m.Replace {
		return nil
	}
	out := &headwaterv1.MessageLifecycle{Replace: m.Replace}
	if m.Delay != 0 {
		out.Delay = durationpb.New(m.Delay)
	}
	if !m.DeliverAt.IsZero() {
		out.DeliverAt = timestamppb.New(m.DeliverAt)
	}
	return out
}

// notDurable is why a message is not in the log, or may not be.
func notDurable(res *headwaterv1.WriteToLogResponse) *Error {
	switch res.GetDurable() {
	case headwaterv1.WriteToLogResponse_SUCCEEDED:
		return nil
	case headwaterv1.WriteToLogResponse_FAILED:
		e := &Error{Code: codes.Unavailable, Reason: res.GetReason(), Message: res.GetMessage(), Outcome: NotApplied}
		if r, ok := apierrors.Lookup(e.Reason); ok {
			e.Code = r.Code
		}
		return e
	default:
		return &Error{Code: codes.Unavailable, Message: res.GetMessage(), Outcome: Unknown}
	}
}

// MessageResult is what became of one message of WriteMessages.
type MessageResult struct {
	WriteResult
	Err error // nil: it is durable
}

// WriteMessages appends up to 1,000 messages in one request, those of one key in their order. What did not reach the log is
// sent again, under the same tokens, until ctx ends. The error is that of a request that was refused as a whole, or the first of
// the messages'; the results say which are durable all the same, and are nil where none was sent.
func (l *Log) WriteMessages(ctx context.Context, ms []NewMessage) ([]MessageResult, error) {
	out := make([]MessageResult, len(ms))
	all := make([]*headwaterv1.LogMessage, len(ms))
	left := make([]int, len(ms)) // what is to be sent
	tokens := make([]Token, len(ms))
	for i, m := range ms {
		tokens[i], left[i] = l.c.complete(m.Token), i
		all[i] = m.message(tokens[i])
	}
	sent := false
	err := l.c.call(ctx, writesOnce, Token{}, func(ctx context.Context, opts ...grpc.CallOption) error {
		req := &headwaterv1.WriteToLogBatchRequest{Namespace: l.namespace}
		for _, i := range left {
			req.Messages = append(req.Messages, all[i])
		}
		res, err := l.c.log.WriteToLogBatch(ctx, req, opts...)
		if err != nil {
			return err
		}
		if len(res.GetResults()) != len(left) {
			return &Error{Code: codes.Internal, Message: "the answer is not that of the messages that were sent", Outcome: Unknown}
		}
		sent = true
		var first *Error
		again := left[:0]
		for k, i := range left {
			r := res.GetResults()[k]
			e := notDurable(r)
			if e == nil {
				out[i] = MessageResult{WriteResult: l.c.result(l.namespace, r.GetResult(), tokens[i], nil)}
				out[i].MessageID = r.GetMessageId()
				continue
			}
			if out[i].Err, again = e, append(again, i); first == nil {
				first = e
			}
		}
		if left = again; first != nil {
			return first
		}
		return nil
	})
	if err != nil && !sent {
		return nil, err
	}
	return out, err
}

// TailOptions say what is read of a log. The zero value reads all of it, from
// the earliest record that is kept to the last one there is.
type TailOptions struct {
	// At most one of the three says where to begin: at the end, behind a position,
	// or with the first record appended at a time or after it.
	Latest   bool
	Position string
	Since    time.Time
	// Follow waits for what is written later; the loop ends by its context or by
	// leaving it.
	Follow bool
	// Key leaves out the records of other keys; nil: none. "" is that of messages
	// without one.
	Key *string
	// Kind leaves out the records of other kinds; "": none.
	Kind string
	// Headers leave out what is not a message with each of them.
	Headers map[string]string
	// Decode has records of kv, counter and time-series namespaces come as requests: Message.Method and Record.
	Decode bool
}

func (o *TailOptions) start() *headwaterv1.LogStart {
	switch {
	case o.Position != "":
		return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Position{Position: o.Position}}
	case o.Latest:
		return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Latest_{Latest: &headwaterv1.LogStart_Latest{}}}
	case !o.Since.IsZero():
		return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Time{Time: timestamppb.New(o.Since)}}
	}
	return &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Earliest_{Earliest: &headwaterv1.LogStart_Earliest{}}}
}

// positionHeader is that of the position behind which a read of a log begins.
const positionHeader = "headwater-position"

// Message is one record of a log.
type Message struct {
	Partition int
	Offset    int64
	// Time is when the log appended it.
	Time time.Time
	// Kind is "message" for what Write wrote.
	Kind    string
	Key     string
	Token   Token
	Payload []byte
	Headers map[string]string
	// Method is that of the write request that a record of a kv, counter or time-series namespace was made of, as
	// "PutItems", and Record its JSON: of what is fetched, and with TailOptions.Decode.
	Method string
	Record json.RawMessage
	// Position goes on behind this message; see TailOptions.Position.
	Position string
}

// Tail reads a log, each partition in order and the partitions side by side. A
// failure ends it, as its last pair, unless it passes: then the reading goes on
// behind the last message that was seen, or where it began.
func (l *Log) Tail(ctx context.Context, o TailOptions) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		req := &headwaterv1.ReadLogRequest{Namespace: l.namespace, From: o.start(), Follow: o.Follow, Decode: o.Decode}
		if o.Key != nil || o.Kind != "" || len(o.Headers) > 0 {
			req.Filter = &headwaterv1.LogFilter{Key: o.Key, Headers: o.Headers}
			if o.Kind != "" {
				req.Filter.Kind = &o.Kind
			}
		}
		last := "" // behind what was seen, of all partitions
		follow(ctx, l.c, o.Follow,
			func(ctx context.Context, opts ...grpc.CallOption) (grpc.ServerStreamingClient[headwaterv1.ReadLogResponse], error) {
				if last != "" {
					req.From = &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Position{Position: last}}
				}
				stream, err := l.c.log.ReadLog(ctx, req, opts...)
				if err != nil {
					return nil, err
				}
				// The server tells at once where the read begins. An error comes with Recv.
				if md, err := stream.Header(); err == nil && len(md.Get(positionHeader)) == 1 {
					last = md.Get(positionHeader)[0]
				}
				return stream, nil
			},
			func(m *headwaterv1.ReadLogResponse) bool {
				last = m.GetPosition()
				return yield(messageOf(m))
			},
			func(err error) { yield(Message{}, err) })
	}
}

func messageOf(m *headwaterv1.ReadLogResponse) (Message, error) {
	record, err := recordOf(m.GetRecord())
	return Message{
		Partition: int(m.GetPartition()), Offset: m.GetOffset(), Time: m.GetTime().AsTime(), Kind: m.GetKind(), Key: m.GetKey(),
		Token: tokenOf(m.GetToken()), Payload: m.GetPayload(), Headers: m.GetHeaders(), Position: m.GetPosition(),
		Method: m.GetMethod(), Record: record,
	}, err
}

// recordOf is the JSON of a record, nil where there is none.
func recordOf(s *structpb.Struct) (json.RawMessage, error) {
	if s == nil {
		return nil, nil
	}
	b, err := protojson.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("the record of a message: %w", err)
	}
	return b, nil
}

func tokenOf(m *headwaterv1.IdempotencyToken) Token {
	t := Token{Key: m.GetKey()}
	copy(t.Nonce[:], m.GetNonce())
	if g := m.GetGenerationTime(); g != nil {
		t.Time = g.AsTime()
	}
	return t
}

// follow reads a stream and opens it again after a failure that passes; open
// says where to go on by what got was given. It ends when the stream does, when
// got says false, and with fail when a failure does not pass: for ever, when
// endless, else within the client's time after the last message.
func follow[M any](ctx context.Context, c *Client, endless bool, open func(context.Context, ...grpc.CallOption) (grpc.ServerStreamingClient[M], error), got func(*M) bool, fail func(error)) {
	a := c.attempts(ctx, reads, Token{})
	_, bounded := ctx.Deadline()
	for {
		seen, err := drain(ctx, c, open, got)
		if err == nil {
			return
		}
		if seen {
			a = c.attempts(ctx, reads, Token{})
		}
		if endless && !bounded {
			a.end = time.Now().Add(endlessTime)
		}
		if err := a.next(ctx, err); err != nil {
			fail(err)
			return
		}
	}
}

// endlessTime is the time that one wait of an endless stream is bounded by: not.
const endlessTime = 365 * 24 * time.Hour

// drain reads one stream to its end. It returns nil when there is nothing more
// to do, and whether any message came.
func drain[M any](ctx context.Context, c *Client, open func(context.Context, ...grpc.CallOption) (grpc.ServerStreamingClient[M], error), got func(*M) bool) (seen bool, _ *Error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var p peer.Peer
	stream, err := open(ctx, grpc.Peer(&p))
	if err != nil {
		return false, c.failure(err, false, p.Addr != nil)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return seen, nil
		}
		if err != nil {
			return seen, c.failure(err, false, p.Addr != nil || seen)
		}
		seen = true
		if !got(m) {
			return seen, nil
		}
	}
}
