package gateway

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
)

// writeRequest is the request that a record of a kv, counter or time-series namespace was made of, nil where it is of
// another kind or cannot be read. A time to live is what was left of it when the write was accepted.
func writeRequest(namespace string, rec *wal.Record) (proto.Message, error) {
	tok := tokenMessage(rec.Token, nil)
	switch rec.Kind {
	case wal.KindKV:
		return kvRequestOf(namespace, rec, tok)
	case wal.KindCounter:
		return counterRequestOf(namespace, rec, tok)
	case wal.KindTimeSeries:
		var c timeseries.Call
		if err := timeseries.DecodePayload(rec.Payload, &c); err != nil {
			return nil, err
		}
		if c.Op == timeseries.OpDelete {
			return &headwaterv1.DeleteTimeSeriesRequest{Namespace: namespace, TimeSeriesId: string(c.Series), Token: tok}, nil
		}
		req := &headwaterv1.WriteEventRecordsSyncRequest{Namespace: namespace, Token: tok}
		err := c.Events(func(e *timeseries.Event) { req.Events = append(req.Events, eventMessage(e)) })
		return req, err
	}
	return nil, nil
}

func kvRequestOf(namespace string, rec *wal.Record, tok *headwaterv1.IdempotencyToken) (proto.Message, error) {
	var p kv.Payload
	if err := kv.DecodePayload(rec.Payload, &p); err != nil {
		return nil, err
	}
	group := &headwaterv1.MutateItemsRequest{Token: tok}
	for i := range p.Calls {
		own := tok
		if t := p.Calls[i].Token; !t.IsZero() {
			own = tokenMessage(t, nil)
		}
		for j := range p.Calls[i].Mutations {
			m := &p.Calls[i].Mutations[j]
			switch {
			case m.Op == kv.OpPut:
				group.Mutations = append(group.Mutations, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Put{Put: putOf(namespace, m, rec.AcceptedAt, own)}})
			case m.Op == kv.OpCommitUpload:
				return &headwaterv1.CommitUploadRequest{
					Namespace: namespace, UploadId: m.Upload.ID.String(), Chunks: int32(m.Upload.Chunks), Size: m.Upload.Size,
					Sha256: m.Upload.SHA256[:], Token: own, Condition: conditionOf(&m.Condition),
				}, nil
			case changesItems(*m):
				group.Mutations = append(group.Mutations, &headwaterv1.Mutation{Mutation: &headwaterv1.Mutation_Delete{Delete: deleteOf(namespace, m, own)}})
			}
		}
	}
	if len(group.Mutations) == 1 {
		if put := group.Mutations[0].GetPut(); put != nil {
			return put, nil
		}
		return group.Mutations[0].GetDelete(), nil
	}
	return group, nil
}

func putOf(namespace string, m *kv.Mutation, acceptedAt int64, tok *headwaterv1.IdempotencyToken) *headwaterv1.PutItemsRequest {
	req := &headwaterv1.PutItemsRequest{Namespace: namespace, Id: string(m.ID), Token: tok, Condition: conditionOf(&m.Condition)}
	for i := range m.Items {
		it := &m.Items[i]
		put := &headwaterv1.PutItem{Key: it.Key, Value: it.Value, Compression: it.Compression, ContentType: it.ContentType}
		if it.Expiry != 0 {
			put.Ttl = durationpb.New(time.Duration(it.Expiry-acceptedAt) * time.Microsecond)
		}
		req.Items = append(req.Items, put)
	}
	return req
}

func conditionOf(c *kv.Condition) *headwaterv1.Condition {
	switch c.Kind {
	case kv.IfAbsent:
		return &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfAbsent{IfAbsent: true}}
	case kv.IfVersion:
		return &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfVersion{IfVersion: c.Version.String()}}
	}
	return nil
}

func deleteOf(namespace string, m *kv.Mutation, tok *headwaterv1.IdempotencyToken) *headwaterv1.DeleteItemsRequest {
	req := &headwaterv1.DeleteItemsRequest{Namespace: namespace, Id: string(m.ID), Token: tok, Condition: conditionOf(&m.Condition)}
	switch m.Op {
	case kv.OpDeleteKeys:
		req.Predicate = &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: &headwaterv1.Predicate_MatchKeys{Keys: m.Keys}}}
	case kv.OpDeleteRange:
		r := &headwaterv1.Predicate_MatchRange{Start: m.Range.Start}
		if !m.Range.Open {
			r.End = m.Range.End
		}
		req.Predicate = &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchRange_{MatchRange: r}}
	default:
		req.Predicate = &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}
	}
	return req
}

func counterRequestOf(namespace string, rec *wal.Record, tok *headwaterv1.IdempotencyToken) (proto.Message, error) {
	var c counter.Call
	if err := counter.DecodePayload(rec.Payload, &c); err != nil {
		return nil, err
	}
	name := string(c.Add.Counter)
	switch c.Op {
	case counter.OpAdd:
		return addsOf(namespace, &c, tok)
	case counter.OpAddAndGet:
		a := addOf(&c.Add)
		return &headwaterv1.AddAndGetCountRequest{
			Namespace: namespace, Counter: name, Delta: a.GetDelta(), EventTime: a.GetEventTime(), Ttl: a.GetTtl(), Token: tok, Bounds: boundsOf(&c.Bounds),
		}, nil
	case counter.OpClear:
		return &headwaterv1.ClearCountRequest{Namespace: namespace, Counter: name, Token: tok}, nil
	case counter.OpReserve:
		return &headwaterv1.ReserveCountRequest{Namespace: namespace, Counter: name, Amount: c.Amount, Lease: durationpb.New(c.Lease), Token: tok}, nil
	case counter.OpSettle:
		req := &headwaterv1.SettleReservationRequest{Namespace: namespace, ReservationId: reservationID(c.Reservation, name), Token: tok}
		if !c.All {
			req.Amount = proto.Int64(c.Amount)
		}
		return req, nil
	}
	return &headwaterv1.CancelReservationRequest{Namespace: namespace, ReservationId: reservationID(c.Reservation, name), Token: tok}, nil
}

// addsOf is AddCount of one add, else AddCounts.
func addsOf(namespace string, c *counter.Call, tok *headwaterv1.IdempotencyToken) (proto.Message, error) {
	req := &headwaterv1.AddCountsRequest{Namespace: namespace, Token: tok}
	r := counter.NewAddReader(c.Adds)
	for {
		var a counter.Add
		ok, err := r.Next(&a)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		req.Adds = append(req.Adds, addOf(&a))
	}
	if len(req.Adds) != 1 {
		return req, nil
	}
	a := req.Adds[0]
	if a.GetToken() != nil {
		tok = a.GetToken()
	}
	return &headwaterv1.AddCountRequest{
		Namespace: namespace, Counter: a.GetCounter(), Delta: a.GetDelta(), EventTime: a.GetEventTime(), Ttl: a.GetTtl(), Token: tok,
	}, nil
}

func addOf(a *counter.Add) *headwaterv1.CounterAdd {
	m := &headwaterv1.CounterAdd{Counter: string(a.Counter), Delta: a.Delta}
	if a.EventTime != 0 {
		m.EventTime = timestamppb.New(time.UnixMicro(a.EventTime))
	}
	if a.TTL != 0 {
		m.Ttl = durationpb.New(time.Duration(a.TTL) * time.Microsecond)
	}
	if !a.Token.IsZero() {
		m.Token = tokenMessage(a.Token, nil)
	}
	return m
}

func boundsOf(b *counter.Bounds) *headwaterv1.Bounds {
	if !b.HasFloor && !b.HasCeiling {
		return nil
	}
	m := &headwaterv1.Bounds{}
	if b.HasFloor {
		m.Floor = proto.Int64(b.Floor)
	}
	if b.HasCeiling {
		m.Ceiling = proto.Int64(b.Ceiling)
	}
	if b.Saturate {
		m.OnViolation = headwaterv1.Bounds_SATURATE
	}
	return m
}

// recordStruct is the JSON of a request, and its method.
func recordStruct(req proto.Message) (s *structpb.Struct, method string, err error) {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(req)
	if err != nil {
		return nil, "", fmt.Errorf("write a request as JSON: %w", err)
	}
	s = &structpb.Struct{}
	if err := protojson.Unmarshal(b, s); err != nil {
		return nil, "", fmt.Errorf("read a request as JSON: %w", err)
	}
	return s, strings.TrimSuffix(string(req.ProtoReflect().Descriptor().Name()), "Request"), nil
}
