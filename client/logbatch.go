package client

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// write sends a message until it has its answer.
func (l *Log) write(ctx context.Context, m *NewMessage, token Token) (res *headwaterv1.WriteToLogResponse, err error) {
	if l.c.cfg.BatchInFlight < 0 {
		err = l.c.call(ctx, writesOnce, token, func(ctx context.Context, opts ...grpc.CallOption) (err error) {
			if res, err = l.c.log.WriteToLog(ctx, m.request(l.namespace, token), opts...); err != nil {
				return err
			}
			if e := notDurable(res); e != nil {
				return e
			}
			return nil
		})
		return res, err
	}
	f, err := frame(messagesField, m.message(token))
	if err != nil {
		return nil, invalid(apierrors.BadUTF8, err.Error())
	}
	return l.c.messages(l.namespace).until(ctx, token, f, 1, notDurable)
}

func (m *NewMessage) request(namespace string, token Token) *headwaterv1.WriteToLogRequest {
	return &headwaterv1.WriteToLogRequest{
		Namespace: namespace, Key: m.Key, Payload: m.Payload, Headers: m.Headers,
		Token: token.message(), Targets: m.Targets, Lifecycle: m.lifecycle(),
	}
}

// message is that of a batch.
func (m *NewMessage) message(token Token) *headwaterv1.LogMessage {
	return &headwaterv1.LogMessage{
		Key: m.Key, Payload: m.Payload, Headers: m.Headers, Token: token.message(), Targets: m.Targets, Lifecycle: m.lifecycle(),
	}
}

// The fields of a WriteToLogBatchRequest.
const (
	namespaceField protowire.Number = 1
	messagesField  protowire.Number = 2
)

type messageAnswer = replied[*headwaterv1.WriteToLogResponse]

// messages lets messages to a namespace share requests.
func (c *Client) messages(namespace string) *batcher[*headwaterv1.WriteToLogResponse] {
	if b, ok := c.logBatchers.Load(namespace); ok {
		return b.(*batcher[*headwaterv1.WriteToLogResponse])
	}
	head := protowire.AppendString(protowire.AppendTag(nil, namespaceField, protowire.BytesType), namespace)
	b, _ := c.logBatchers.LoadOrStore(namespace, &batcher[*headwaterv1.WriteToLogResponse]{
		c: c, inFlight: c.cfg.BatchInFlight,
		exchange: func(ctx context.Context, s *sending[*headwaterv1.WriteToLogResponse]) []messageAnswer {
			s.head = head
			return c.exchangeMessages(ctx, s)
		},
	})
	return b.(*batcher[*headwaterv1.WriteToLogResponse])
}

// refusesAll are the codes of a request that was refused for one of its messages.
var refusesAll = map[codes.Code]bool{
	codes.InvalidArgument: true, codes.FailedPrecondition: true, codes.AlreadyExists: true, codes.OutOfRange: true,
}

// exchangeMessages sends messages. Where one of them is bad in itself, which refuses them all before the log, each is
// sent alone: the others are other callers'.
func (c *Client) exchangeMessages(ctx context.Context, s *sending[*headwaterv1.WriteToLogResponse]) []messageAnswer {
	res := &headwaterv1.WriteToLogBatchResponse{}
	sent, err := c.invoke(ctx, headwaterv1.LogService_WriteToLogBatch_FullMethodName, s, res)
	if err == nil && len(res.GetResults()) != len(s.all) {
		err = corrupt(fmt.Sprintf("the server gave %d answers to %d messages", len(res.GetResults()), len(s.all)), nil)
	}
	if err != nil {
		e := c.failure(err, true, sent)
		if len(s.all) == 1 {
			e.Message = strings.TrimPrefix(e.Message, "message 0: ")
		}
		if len(s.all) == 1 || !refusesAll[e.Code] || e.Outcome != NotApplied {
			return s.failed(e)
		}
		var out []messageAnswer
		for _, p := range s.all {
			one := &sending[*headwaterv1.WriteToLogResponse]{head: s.head, all: []*pending[*headwaterv1.WriteToLogResponse]{p}}
			out = append(out, c.exchangeMessages(ctx, one)...)
		}
		return out
	}
	out := make([]messageAnswer, len(s.all))
	for i, r := range res.GetResults() {
		out[i].res = r
	}
	return out
}
