package gateway

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// MaxHeaderFilters bounds those of one ReadLog.
const MaxHeaderFilters = 16

// tail is one ReadLog.
type tail struct {
	ns  *Namespace
	req *headwaterv1.ReadLogRequest
	// What is asked for; nil: all.
	key, kind *string
	headers   map[string]string

	mu     sync.Mutex // one message at a time
	stream headwaterv1.LogService_ReadLogServer
	// at is how far this call has read each partition. A message is sent with it as its
	// position, so that a caller who comes back with that position misses nothing.
	at *wal.PositionCursor
}

// filter checks what is asked for.
func (t *tail) filter(f *headwaterv1.LogFilter) error {
	if f == nil {
		return nil
	}
	if t.headers = f.GetHeaders(); len(t.headers) > MaxHeaderFilters {
		return apierrors.New(apierrors.BadSelection, "filter.headers has %d; it may have %d", len(t.headers), MaxHeaderFilters)
	}
	if t.key = f.Key; len(f.GetKey()) > MaxLogKey {
		return apierrors.New(apierrors.BadLogKey, "filter.key has %d bytes; it may have %d", len(f.GetKey()), MaxLogKey)
	}
	if f.Kind == nil {
		return nil
	}
	if !wal.KnownKind(f.GetKind()) || f.GetKind() == wal.KindBarrier.String() {
		return apierrors.New(apierrors.BadSelection, "filter.kind %.32q is not a kind of records; use kv, counter, message or control", f.GetKind())
	}
	t.kind = f.Kind
	return nil
}

// partition streams one partition.
func (t *tail) partition(ctx context.Context, p wal.Partition, from, end wal.Offset) error {
	if from >= end && !t.req.GetFollow() {
		return nil
	}
	r, err := t.ns.Stream.Log().Read(ctx, p, from)
	if err != nil {
		return err
	}
	err = t.copy(ctx, r, p, from, end)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // another partition failed, or the caller left
	}
	return err
}

func (t *tail) copy(ctx context.Context, r wal.Reader, p wal.Partition, next, end wal.Offset) error {
	var rec wal.Record
	for next < end || t.req.GetFollow() {
		entries, err := r.Next(ctx)
		if err != nil {
			return err
		}
		refused, err := t.refused(ctx, entries)
		if err != nil {
			return err
		}
		for i := range entries {
			e := &entries[i]
			if e.Offset >= end && !t.req.GetFollow() {
				return nil
			}
			next = e.Offset + 1
			if err := wal.DecodeRecord(e.Data, &rec); err != nil {
				return &wal.CorruptError{Topic: t.ns.Name, Partition: p, Offset: e.Offset, Detail: err.Error()}
			}
			if refused[e.Offset] || t.skip(&rec) {
				t.pass(e)
				continue
			}
			if err := t.send(e, &rec); err != nil {
				return err
			}
		}
	}
	return nil
}

// refused tells which of entries are messages that do not count, copies of an earlier
// one above all. It waits until that is decided. Of other abstractions it tells nothing.
func (t *tail) refused(ctx context.Context, entries []wal.Entry) (map[wal.Offset]bool, error) {
	if t.ns.Messages == nil || len(entries) == 0 {
		return nil, nil
	}
	first, last := &entries[0], &entries[len(entries)-1]
	return t.ns.Messages.Refused(ctx, first.Partition, first.Offset, last.Offset+1)
}

// skip leaves out what the caller did not ask for, and the log's own records.
func (t *tail) skip(rec *wal.Record) bool {
	return rec.Kind == wal.KindBarrier || rec.Kind == wal.KindDelivery && t.kind == nil || t.kind != nil && rec.Kind.String() != *t.kind || t.key != nil && keyOf(rec) != *t.key
}

// pass leaves a record out. Nobody comes back to it.
func (t *tail) pass(e *wal.Entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at.Move(e.Partition, e.Offset)
}

// keyOf is the key of a record as its writer gave it: none, of a message that was
// written without one and is routed by its token.
func keyOf(rec *wal.Record) string {
	if isMessage(rec) && delivery.Keyless(rec) {
		return ""
	}
	return string(rec.RoutingKey)
}

func isMessage(rec *wal.Record) bool {
	return rec.Kind == wal.KindMessage || rec.Kind == wal.KindEnvelope
}

func (t *tail) send(e *wal.Entry, rec *wal.Record) error {
	m, err := t.message(e, rec)
	if m == nil || err != nil {
		if err == nil {
			t.pass(e)
		}
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at.Move(e.Partition, e.Offset)
	m.Position = t.at.String()
	return t.stream.Send(m)
}

// message is what is sent of a record, without its position; nil: it has not the headers that are asked for.
func (t *tail) message(e *wal.Entry, rec *wal.Record) (*headwaterv1.ReadLogResponse, error) {
	if len(t.headers) > 0 && !isMessage(rec) {
		return nil, nil
	}
	m := &headwaterv1.ReadLogResponse{
		Partition: int32(e.Partition), Offset: int64(e.Offset), Time: timeMessage(e.LogTime), Kind: rec.Kind.String(), Key: keyOf(rec),
	}
	if isMessage(rec) {
		b, err := delivery.DecodeBody(rec)
		if err != nil {
			return nil, &wal.CorruptError{Topic: t.ns.Name, Partition: e.Partition, Offset: e.Offset, Detail: err.Error()}
		}
		for name, value := range t.headers {
			if !slices.Contains(b.Headers, delivery.Header{Name: name, Value: value}) {
				return nil, nil
			}
		}
		m.Payload, m.Headers = bytes.Clone(b.Payload), headersMessage(b.Headers)
	} else {
		m.Payload = bytes.Clone(rec.Payload)
	}
	if !rec.Token.IsZero() {
		m.Token = tokenMessage(rec.Token, nil)
	}
	if t.req.GetDecode() {
		req, err := writeRequest(t.ns.Name, rec)
		if req == nil || err != nil { // what cannot be read is shown as it is
			return m, nil //nolint:nilerr // the payload is there
		}
		if m.Record, m.Method, err = recordStruct(req); err != nil {
			return nil, err
		}
	}
	return m, nil
}
