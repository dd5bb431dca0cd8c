package delivery

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// DBConfig is what a DB is made of.
type DBConfig struct {
	Stream  *wal.Stream
	Owner   Owner
	Clock   *wal.Clock       // makes generation times
	Now     func() time.Time // the log's clock; see wal.Broker.Now
	Options func() consumers.FrontOptions
}

// DB is a log namespace as the API uses it. Safe for concurrent use.
type DB struct {
	*consumers.Front[TokenEntry]
	owner   Owner
	options func() consumers.FrontOptions
}

// NewDB returns a DB. The namespace must be caught up to the log's end as of
// start before its first write: only then does the owner know every token.
func NewDB(cfg DBConfig) *DB {
	front := &consumers.Front[TokenEntry]{Stream: cfg.Stream, Owner: cfg.Owner, Clock: cfg.Clock, Now: cfg.Now}
	return &DB{front, cfg.Owner, cfg.Options}
}

// Message is a message on its way in.
type Message struct {
	Key  string // "": it is spread by its token, which a copy carries too
	Body        // Headers of HeadersOf
	// Token with a zero Nonce is made by the server, as is a zero GenerationTime.
	Token wal.Token
	// Hash is that of the request, where another form of it than Key and Body tells copies; zero: they do.
	Hash wal.Hash
}

// Written is where a message is.
type Written struct {
	Token     wal.Token
	Partition wal.Partition
	Offset    wal.Offset
	Duplicate bool // an earlier copy put it there
	Unsure    bool // whether it is a copy, or which one came first, is not known; see wal.Stream.Unsure
}

// record is that of a message whose token is complete.
func (db *DB) record(m *Message, opts *consumers.FrontOptions) *wal.Record {
	rec := &wal.Record{
		RoutingKey: routingKey(m.Key, &m.Token.Nonce), Token: m.Token, NamespaceVersion: opts.Version, AcceptedAt: db.Now().UnixMicro(),
	}
	if rec.RequestHash = m.Hash; rec.RequestHash == (wal.Hash{}) {
		rec.RequestHash = hashOf(rec.RoutingKey, &m.Body)
	}
	rec.Kind, rec.Payload = m.encode()
	return rec
}

// routingKey is that of a message with the caller's key; one without is spread by its nonce.
func routingKey(key string, n *wal.Nonce) []byte {
	if key == "" {
		return n[:]
	}
	return []byte(key)
}

// Keyless reports whether the caller gave no key for a message.
func Keyless(rec *wal.Record) bool { return string(rec.RoutingKey) == string(rec.Token.Nonce[:]) }

// Write appends a message and returns when it is durable. Errors that wrap
// wal.ErrUnknown leave open whether it was appended: send it again with the Token
// that is returned. Others say that it was not: wal.ErrTokenReused, *wal.DriftError,
// wal.ErrTokensFull, *consumers.ParkedError, those of wal.Stream.Append.
func (db *DB) Write(ctx context.Context, m *Message) (Written, error) {
	opts := db.options()
	w, ask, rec, err := db.prepare(ctx, m, &opts)
	if err != nil {
		return w, err
	}
	c, unknown, err := db.Claim(ctx, ask.Partition, ask.ID, ask.Generated, ask.Hash, &opts, true)
	switch {
	case err != nil:
		return w, openIf(unknown, err)
	case w.copyOf(db.Stream, &c):
	default:
		w.Offset, err = db.Stream.Append(ctx, w.Partition, rec, c.Own)
		w.Unsure = err == nil && db.Stream.Unsure(w.Partition, c.Own)
	}
	return w, err
}

// prepare completes a message, and makes its record and the question whether it is a copy.
func (db *DB) prepare(ctx context.Context, m *Message, opts *consumers.FrontOptions) (w Written, ask consumers.Asking[TokenEntry], rec *wal.Record, err error) {
	_, err = db.Complete(&m.Token, opts)
	w = Written{Token: m.Token, Offset: wal.NoOffset}
	if err != nil {
		return w, ask, nil, err
	}
	rec = db.record(m, opts)
	w.Partition = db.Stream.PartitionOf(rec.RoutingKey)
	ask.TokenAt = consumers.TokenAt{Partition: w.Partition, ID: wal.IDOf(rec.RoutingKey, m.Token.Nonce)}
	ask.Generated, ask.Hash = m.Token.GenerationTime, rec.RequestHash
	return w, ask, rec, db.QueueFullUnlessKnown(ctx, w.Partition, rec.RoutingKey, ask.ID, ask.Hash, opts)
}

// copyOf notes where an earlier copy is, if a claim has found one.
func (w *Written) copyOf(s *wal.Stream, c *consumers.Claim[TokenEntry]) bool {
	switch {
	case c.First != nil:
		w.Offset, w.Token.GenerationTime, w.Unsure = c.First.Offset, c.First.Time, s.Unsure(w.Partition, c.First)
	case c.Known != nil:
		w.Offset, w.Token.GenerationTime = c.Known.Offset, c.Known.Time
	default:
		return false
	}
	w.Duplicate = true
	return true
}

// Refused returns which messages of from <= o < to do not count: copies of an
// earlier one, what another message's token came with, what came after its token's
// window. It waits until they are applied. Errors: those of Owner.Wait.
func (db *DB) Refused(ctx context.Context, p wal.Partition, from, to wal.Offset) (map[wal.Offset]bool, error) {
	if err := db.owner.Wait(ctx, p, to-1); err != nil {
		return nil, err
	}
	var refused map[wal.Offset]bool
	err := db.owner.Refused(ctx, p, from, to, func(o wal.Offset) {
		if refused == nil {
			refused = make(map[wal.Offset]bool)
		}
		refused[o] = true
	})
	return refused, err
}

// messageForm is the version of the canonical form of a message:
//
//	key blob | payload blob | (header's name blob | header's value blob)...
//	  [ | empty blob | targets | target's name blob... | delay | deliver_at [ | 1 where it replaces others ] ]
//
// where a blob is its length as a varint and its bytes. The key of a message without
// one is its nonce; headers are in order of their names, none of which is empty. What is
// in brackets is there where a message says itself how it is delivered, times in
// microseconds. Nothing else that a message carries belongs to what its token is used for.
const messageForm = 1

func hashOf(key []byte, b *Body) wal.Hash {
	return wal.HashOf(messageForm, func(x *wal.Hasher) {
		x.Blob(key)
		x.Blob(b.Payload)
		for _, h := range b.Headers {
			x.Blob([]byte(h.Name))
			x.Blob([]byte(h.Value))
		}
		if !b.asks() {
			return
		}
		x.Blob(nil)
		x.Uint(uint64(len(b.Targets)))
		for _, t := range b.Targets {
			x.Blob([]byte(t))
		}
		x.Int(b.Delay.Microseconds())
		x.Int(b.DeliverAt)
		if b.Replace {
			x.Int(1)
		}
	})
}
