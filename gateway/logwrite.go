package gateway

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

const (
	// MaxLogKey is the longest key of a message.
	MaxLogKey = 1024
	// MaxMessages bounds WriteToLogBatch.
	MaxMessages = 1000
	// envelopeRoom is what a record has beside a payload of the largest size: its key, token, headers and targets.
	envelopeRoom = 8192 + delivery.MaxHeaderBytes + 16*delivery.MaxHeaders
)

// WriteToLog puts a message into a log namespace. The answer says SUCCEEDED when
// it is durable, UNKNOWN when the log did not say in time (send it again with
// the same token), FAILED when the log did not take it; a request that is bad in
// itself is an error.
func (s *Log) WriteToLog(ctx context.Context, req *headwaterv1.WriteToLogRequest) (*headwaterv1.WriteToLogResponse, error) {
	refuse := func(err error) (*headwaterv1.WriteToLogResponse, error) {
		return nil, forWrite(err, false, req.GetToken())
	}
	ns, err := s.dir.messages(ctx, req.GetNamespace(), "WriteToLog")
	if err != nil {
		return refuse(err)
	}
	if hasUnknown(req) {
		return refuse(laterError("WriteToLog"))
	}
	m, err := message(ns, req)
	if err == nil {
		err = s.dir.checkDelivered(ctx, ns, m)
	}
	if err == nil {
		err = ns.admitWrite(1, len(m.Payload))
	}
	if err != nil {
		return refuse(err)
	}
	w, err := ns.Messages.Write(ctx, m)
	if refusedMessage(err) {
		return nil, forWrite(err, false, tokenMessage(w.Token, req.GetToken()))
	}
	return written(ns, &w, err, req.GetToken()), nil
}

// WriteToLogBatch is WriteToLog of several messages, each with an answer of its own. What
// is bad in itself refuses the call, before any of it.
func (s *Log) WriteToLogBatch(ctx context.Context, req *headwaterv1.WriteToLogBatchRequest) (*headwaterv1.WriteToLogBatchResponse, error) {
	refuse := func(err error) (*headwaterv1.WriteToLogBatchResponse, error) {
		return nil, forWrite(err, false, req.GetToken())
	}
	ns, err := s.dir.messages(ctx, req.GetNamespace(), "WriteToLogBatch")
	if err != nil {
		return refuse(err)
	}
	if n := len(req.GetMessages()); n == 0 || n > MaxMessages {
		return refuse(apierrors.New(apierrors.TooManyItems, "the call has %d messages; it takes 1 to %d", n, MaxMessages))
	}
	tok, err := parseToken(req.GetToken())
	if err != nil {
		return refuse(err)
	}
	if tok.Nonce == (wal.Nonce{}) {
		tok.Nonce = wal.NewNonce()
	}
	ms, size := make([]*delivery.Message, len(req.GetMessages())), 0
	for i, q := range req.GetMessages() {
		if hasUnknown(q) {
			return refuse(laterError("WriteToLogBatch"))
		}
		m, err := message(ns, q)
		if err == nil {
			err = s.dir.checkDelivered(ctx, ns, m)
		}
		if err != nil {
			return refuse(inBatch(i, err))
		}
		if m.Token.Nonce == (wal.Nonce{}) {
			if m.Token.Nonce = delivery.NonceOf(tok.Nonce, i); m.Token.GenerationTime == 0 {
				m.Token.GenerationTime = tok.GenerationTime
			}
		}
		ms[i], size = m, size+len(m.Payload)
	}
	if err := ns.admitWrite(len(ms), size); err != nil {
		return refuse(err)
	}
	out := &headwaterv1.WriteToLogBatchResponse{Results: make([]*headwaterv1.WriteToLogResponse, len(ms))}
	for i, o := range ns.Messages.WriteAll(ctx, ms) {
		out.Results[i] = written(ns, &o.Written, o.Err, req.GetMessages()[i].GetToken())
	}
	return out, nil
}

// inBatch says of an error which message of a call it is about.
func inBatch(i int, err error) error {
	e := apierrors.From(err)
	if e == nil {
		return err
	}
	return apierrors.New(e.Reason, "message %d: %s", i, e.Message)
}

// messageRequest is what WriteToLog and the messages of WriteToLogBatch have alike.
type messageRequest interface {
	GetKey() string
	GetPayload() []byte
	GetHeaders() map[string]string
	GetTargets() []string
	GetLifecycle() *headwaterv1.MessageLifecycle
	GetToken() *headwaterv1.IdempotencyToken
}

// message checks a message.
func message(ns *Namespace, q messageRequest) (*delivery.Message, error) {
	if len(q.GetKey()) > MaxLogKey || !utf8.ValidString(q.GetKey()) {
		return nil, apierrors.New(apierrors.BadLogKey, "key has %d bytes; it may have %d of UTF-8", len(q.GetKey()), MaxLogKey)
	}
	if most := min(ns.Config().Limits.MaxValue, wal.MaxRecordBytes-envelopeRoom); int64(len(q.GetPayload())) > most {
		return nil, apierrors.New(apierrors.ValueTooLarge, "payload has %d bytes; it may have %d", len(q.GetPayload()), most)
	}
	headers, err := delivery.HeadersOf(q.GetHeaders())
	if err != nil {
		return nil, apierrors.New(apierrors.BadHeader, "%s", err)
	}
	tok, err := parseToken(q.GetToken())
	if err != nil {
		return nil, err
	}
	m := &delivery.Message{Key: q.GetKey(), Body: delivery.Body{Payload: q.GetPayload(), Headers: headers, Targets: q.GetTargets()}, Token: tok}
	if err := checkTargets(ns, m.Targets); err != nil {
		return nil, err
	}
	return m, lifecycle(ns, m.Key, q.GetLifecycle(), &m.Body)
}

// written is the answer to a message. sent is the token that came with it.
func written(ns *Namespace, w *delivery.Written, err error, sent *headwaterv1.IdempotencyToken) *headwaterv1.WriteToLogResponse {
	res := &headwaterv1.WriteToLogResponse{Result: &headwaterv1.WriteResult{Token: tokenMessage(w.Token, sent)}}
	switch {
	case err == nil:
		res.Durable = headwaterv1.WriteToLogResponse_SUCCEEDED
		res.MessageId = ns.messageID(w.Partition, w.Offset)
		res.Result.Position, res.Result.Durability, res.Result.Duplicate = ns.Stream.Position(w.Partition, w.Offset), ns.durability(), duplicateOf(w.Duplicate, w.Unsure)
	case errors.Is(err, wal.ErrUnknown):
		res.Durable, res.Result.Duplicate = headwaterv1.WriteToLogResponse_UNKNOWN, headwaterv1.WriteResult_UNKNOWN
		res.Message = "the log did not say whether it has the message; send it again with the same token"
	default:
		e := fromDomain(forWrite(err, false, nil))
		res.Durable, res.Message, res.Reason = headwaterv1.WriteToLogResponse_FAILED, e.Message, e.Reason
		res.Result.Duplicate = headwaterv1.WriteResult_NO
	}
	return res
}

// refusedMessage reports whether a message was refused for what it asks or for what
// waits before it, as opposed to a log that could not take it.
func refusedMessage(err error) bool {
	var drift *wal.DriftError
	var parked *consumers.ParkedError
	return errors.As(err, &drift) || errors.As(err, &parked) || errors.Is(err, wal.ErrTokensFull) ||
		errors.Is(err, wal.ErrTokenReused) || errors.Is(err, wal.ErrUnapplied) || errors.Is(err, wal.ErrOverloaded)
}

// headersMessage are headers as the API tells them.
func headersMessage(hs []delivery.Header) map[string]string {
	if len(hs) == 0 {
		return nil
	}
	m := make(map[string]string, len(hs))
	for _, h := range hs {
		m[h.Name] = h.Value
	}
	return m
}
