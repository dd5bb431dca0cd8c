package wal

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Messages is a log namespace: the log offered as a product. Its records are the
// callers' own; what it adds is that a token puts a message into the log once.
// It keeps the tokens of one window in memory, read back from the log's tail
// when it starts: there is no store that could fall behind. It is the Applier of
// its own runner. Safe for concurrent use.
type Messages struct {
	stream *Stream
	now    func() time.Time
	window func() time.Duration
	parts  []messagePart
}

type messagePart struct {
	mu      sync.Mutex // guards all
	tokens  map[TokenID]MessageToken
	order   []TokenID // by offset
	logTime int64
	next    Offset
	resumed bool
}

// MessageToken is what is remembered of a message's token.
type MessageToken struct {
	Hash           Hash
	Offset         Offset
	LogTime        int64
	GenerationTime int64
}

// NewMessages returns a log namespace over stream. window is its token window.
func NewMessages(stream *Stream, now func() time.Time, window func() time.Duration) *Messages {
	m := &Messages{stream: stream, now: now, window: window, parts: make([]messagePart, stream.Info().Partitions)}
	for i := range m.parts {
		m.parts[i].tokens = make(map[TokenID]MessageToken)
	}
	return m
}

// Stream is the log of the namespace.
func (m *Messages) Stream() *Stream { return m.stream }

// Resume implements the runner's applier: the first time from one window ago,
// then from where it was.
func (m *Messages) Resume(ctx context.Context, p Partition) (Offset, error) {
	part := &m.parts[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.resumed {
		return part.next, nil
	}
	from, err := m.stream.Log().OffsetAt(ctx, p, m.now().Add(-m.window()).UnixMicro())
	if err != nil {
		return NoOffset, fmt.Errorf("find the start of the token window: %w", err)
	}
	part.next, part.resumed = from, true
	m.stream.Progress().Advance(p, from-1, 0)
	return from, nil
}

// Apply implements the runner's applier: it remembers tokens.
func (m *Messages) Apply(_ context.Context, p Partition, entries []Entry) (int, error) {
	part := &m.parts[p]
	var rec Record
	for i := range entries {
		e := &entries[i]
		if err := DecodeRecord(e.Data, &rec); err != nil {
			return i, fmt.Errorf("partition %d offset %d: %w", p, e.Offset, err)
		}
		part.mu.Lock()
		part.logTime = max(part.logTime, e.LogTime)
		if rec.Kind == KindMessage && !rec.Token.IsZero() {
			m.remember(part, &rec, e.Offset)
		}
		part.next = e.Offset + 1
		part.mu.Unlock()
	}
	last := &entries[len(entries)-1]
	m.stream.Progress().Advance(p, last.Offset, last.LogTime)
	return len(entries), nil
}

// Assign implements the runner's applier.
func (m *Messages) Assign(context.Context, Partition) error { return nil }

// Ready implements the runner's applier.
func (m *Messages) Ready(_ Partition, entries []Entry) (int, <-chan struct{}) {
	return len(entries), nil
}

// Revoke implements the runner's applier.
func (m *Messages) Revoke(context.Context, Partition) error { return nil }

// remember keeps the first message of a token and forgets what is out of the
// window. The caller holds part.mu.
func (m *Messages) remember(part *messagePart, rec *Record, o Offset) {
	oldest := part.logTime - m.window().Microseconds()
	for len(part.order) > 0 {
		id := part.order[0]
		if t := part.tokens[id]; t.LogTime >= oldest {
			break
		}
		delete(part.tokens, id)
		part.order = part.order[1:]
	}
	id := IDOf(rec.RoutingKey, rec.Token.Nonce)
	if _, ok := part.tokens[id]; ok {
		return
	}
	part.tokens[id] = MessageToken{Hash: rec.RequestHash, Offset: o, LogTime: part.logTime, GenerationTime: rec.Token.GenerationTime}
	part.order = append(part.order, id)
}

// Live is the number of tokens that are remembered.
func (m *Messages) Live() int64 {
	var n int64
	for i := range m.parts {
		m.parts[i].mu.Lock()
		n += int64(len(m.parts[i].tokens))
		m.parts[i].mu.Unlock()
	}
	return n
}

func (m *Messages) token(p Partition, id TokenID) (MessageToken, bool) {
	part := &m.parts[p]
	part.mu.Lock()
	defer part.mu.Unlock()
	t, ok := part.tokens[id]
	return t, ok && t.LogTime >= part.logTime-m.window().Microseconds()
}

// First reports whether the message rec at o is the one that its token put there,
// and not a copy of it. The partition must be applied up to o.
func (m *Messages) First(p Partition, o Offset, rec *Record) bool {
	t, ok := m.token(p, IDOf(rec.RoutingKey, rec.Token.Nonce))
	return !ok || t.Offset >= o
}

// Written is what became of a message.
type Written struct {
	Partition Partition
	Offset    Offset
	Token     Token
	Duplicate bool
}

// messageForm is the version of the canonical form of a message:
//
//	key blob | payload blob
//
// where a blob is its length as a varint and its bytes. The key of a message without
// one is its nonce. Nothing else that a message carries belongs to what its token is
// used for.
const messageForm = 1

func hashOfMessage(rec *Record) Hash {
	return HashOf(messageForm, func(x *Hasher) {
		x.Blob(rec.RoutingKey)
		x.Blob(rec.Payload)
	})
}

// Write appends a message and returns when it is durable. rec carries routing
// key, token, payload and version; hash and kind are filled in. Errors:
// ErrTokenReused; otherwise as in Result.
func (m *Messages) Write(ctx context.Context, rec *Record) (Written, error) {
	rec.Kind = KindMessage
	rec.RequestHash = hashOfMessage(rec)
	p, id := m.stream.PartitionOf(rec.RoutingKey), IDOf(rec.RoutingKey, rec.Token.Nonce)
	for {
		r, owner, err := m.stream.Reserve(ctx, p, id, rec.RequestHash)
		if err != nil {
			return Written{}, err
		}
		if owner {
			return m.append(ctx, p, id, rec, r)
		}
		if err := r.Wait(ctx); err == nil {
			return Written{p, r.Offset, Token{r.Time, rec.Token.Nonce}, true}, nil
		} else if ctx.Err() != nil {
			return Written{}, err
		}
	}
}

func (m *Messages) append(ctx context.Context, p Partition, id TokenID, rec *Record, r *Reservation) (Written, error) {
	if t, ok := m.token(p, id); ok {
		if !t.Hash.Same(rec.RequestHash) {
			m.stream.Release(r, ErrTokenReused)
			return Written{}, ErrTokenReused
		}
		m.stream.Release(r, ErrNotAppended)
		return Written{p, t.Offset, Token{t.GenerationTime, rec.Token.Nonce}, true}, nil
	}
	r.Time = rec.Token.GenerationTime
	o, err := m.stream.Append(ctx, p, rec, r)
	if err != nil {
		return Written{}, err
	}
	return Written{p, o, rec.Token, false}, nil
}
