package gateway

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/durable"
)

// Limits of FetchMessages and AckMessages.
const (
	MaxConsumerName = 64
	MaxFetch        = 1000
	DefaultFetch    = 100
	MaxFetchWait    = time.Minute
)

// consumers finds a namespace whose log has consumers.
func (s *Log) consumers(ctx context.Context, name string) (*Namespace, error) {
	ns, err := s.dir.lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := ns.Failed(); err != nil {
		return nil, fromDomain(err)
	}
	return ns, nil
}

func checkConsumer(name string) error {
	if name == "" || len(name) > MaxConsumerName || strings.IndexFunc(name, delivery.NotInName) >= 0 {
		return apierrors.New(apierrors.BadConsumer, `consumer %.80q is not a name; use 1 to %d letters, digits, "-", "_" and "."`, name, MaxConsumerName)
	}
	return nil
}

// parseAckWait reads how long a message is a caller's; 0: it does not say.
func parseAckWait(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if w := d.AsDuration(); d.CheckValid() == nil && w >= durable.MinAckWait && w <= durable.MaxAckWait {
		return w, nil
	}
	return 0, apierrors.New(apierrors.BadConsumer, "ack_wait is %v; it may be %v to %v", d.AsDuration(), durable.MinAckWait, durable.MaxAckWait)
}

// FetchMessages hands out messages to one of those that share a consumer. It waits for a first one as long as the
// request says, and not up to the call's deadline.
func (s *Log) FetchMessages(ctx context.Context, req *headwaterv1.FetchMessagesRequest) (*headwaterv1.FetchMessagesResponse, error) {
	if err := checkConsumer(req.GetConsumer()); err != nil {
		return nil, err
	}
	limit := int(req.GetMaxMessages())
	if req.MaxMessages == nil {
		limit = DefaultFetch
	}
	if limit < 1 || limit > MaxFetch {
		return nil, apierrors.New(apierrors.BadConsumer, "max_messages is %d; it may be 1 to %d", limit, MaxFetch)
	}
	wait := req.GetWait().AsDuration()
	if w := req.GetWait(); w != nil && w.CheckValid() != nil || wait < 0 || wait > MaxFetchWait {
		return nil, apierrors.New(apierrors.BadConsumer, "wait is %v; it may be 0 to %v", wait, MaxFetchWait)
	}
	ackWait, err := parseAckWait(req.GetAckWait())
	if err != nil {
		return nil, err
	}
	ns, err := s.consumers(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	f := &fetching{
		ns: ns, shared: ns.fetches.of(req.GetConsumer(), ns.Stream.Info().Partitions),
		ask: durable.Fetch{Consumer: req.GetConsumer(), Limit: limit, Bytes: MaxPageBytes, AckWait: ackWait, Refused: req.GetIncludeRefused()},
	}
	out, err := f.run(ctx, wait)
	if err != nil {
		return nil, fromDomain(err)
	}
	return out, nil
}

// AckMessages takes what callers say of messages that they were handed.
func (s *Log) AckMessages(ctx context.Context, req *headwaterv1.AckMessagesRequest) (*headwaterv1.AckMessagesResponse, error) {
	if err := checkConsumer(req.GetConsumer()); err != nil {
		return nil, err
	}
	if n := len(req.GetAcks()); n == 0 || n > MaxFetch {
		return nil, apierrors.New(apierrors.TooManyItems, "the call has %d acks; it takes 1 to %d", n, MaxFetch)
	}
	ns, err := s.consumers(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	byPartition, index := make(map[wal.Partition][]durable.Ack), make(map[wal.Partition][]int)
	for i, m := range req.GetAcks() {
		p, a, err := parseAck(m)
		if err == nil && int(p) >= ns.Stream.Info().Partitions {
			err = errBadAck
		}
		if err != nil {
			return nil, apierrors.New(apierrors.BadAck, "acks[%d] %s", i, err)
		}
		byPartition[p], index[p] = append(byPartition[p], a), append(index[p], i)
	}
	out := &headwaterv1.AckMessagesResponse{}
	var late []int
	for p, acks := range byPartition {
		expired, err := ns.Consumers.Ack(ctx, p, req.GetConsumer(), acks)
		if err != nil { // those that were taken may be sent again
			return nil, fromDomain(err)
		}
		for _, k := range expired {
			late = append(late, index[p][k])
		}
	}
	slices.Sort(late)
	for _, i := range late {
		out.Expired = append(out.Expired, req.GetAcks()[i].GetAckId())
	}
	ns.fetches.wake(req.GetConsumer())
	return out, nil
}

// An ack id is the URL-safe base64, without padding, of the uvarints of partition, offset, life, lease and until.

func ackID(p wal.Partition, life int64, m *durable.Message) string {
	b := binary.AppendUvarint(make([]byte, 0, 40), uint64(p))
	for _, v := range [...]int64{int64(m.Offset), life, m.Lease, m.Until} {
		b = binary.AppendUvarint(b, uint64(v))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

var errBadAck = errors.New("has an ack_id that FetchMessages did not give; send it unchanged")

func parseAck(m *headwaterv1.MessageAck) (p wal.Partition, a durable.Ack, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(m.GetAckId())
	if err != nil || len(b) > 64 || len(b) == 0 {
		return p, a, errBadAck
	}
	var v [5]uint64
	for i := range v {
		n := 0
		if v[i], n = binary.Uvarint(b); n <= 0 || v[i] > 1<<62 {
			return p, a, errBadAck
		}
		b = b[n:]
	}
	if len(b) > 0 || v[0] > 1<<31 {
		return p, a, errBadAck
	}
	a = durable.Ack{Offset: wal.Offset(v[1]), Life: int64(v[2]), Lease: int64(v[3]), Until: int64(v[4])}
	switch m.GetKind() {
	case headwaterv1.MessageAck_KIND_UNSPECIFIED, headwaterv1.MessageAck_ACK:
		a.Kind = durable.Done
	case headwaterv1.MessageAck_NAK:
		a.Kind = durable.Nak
	case headwaterv1.MessageAck_TERM:
		a.Kind = durable.Term
	case headwaterv1.MessageAck_PROGRESS:
		a.Kind = durable.Progress
	default:
		return p, a, errors.New("has a kind that is not known; use ACK, NAK, TERM or PROGRESS")
	}
	if d := m.GetDelay(); d != nil {
		a.Delay = d.AsDuration()
		if d.CheckValid() != nil || a.Delay < 0 || a.Delay > durable.MaxAckWait {
			return p, a, errors.New("has a delay that is not 0 to " + durable.MaxAckWait.String())
		}
		if a.Delay > 0 && a.Kind != durable.Nak && a.Kind != durable.Progress {
			return p, a, errors.New("has a delay, which NAK and PROGRESS take")
		}
	}
	return wal.Partition(v[0]), a, nil
}

// ApplyConsumer makes or changes a consumer. Sent again it does the same; where it fails on the way, send it again.
func (s *Log) ApplyConsumer(ctx context.Context, req *headwaterv1.ApplyConsumerRequest) (*headwaterv1.ApplyConsumerResponse, error) {
	if err := checkConsumer(req.GetConsumer()); err != nil {
		return nil, err
	}
	var c durable.Change
	if req.MaxInFlight != nil {
		n := int(req.GetMaxInFlight())
		if c.MaxInFlight = &n; n < 1 || n > durable.MaxInFlight {
			return nil, apierrors.New(apierrors.BadConsumer, "max_in_flight is %d; it may be 1 to %d", n, durable.MaxInFlight)
		}
	}
	if req.MaxAttempts != nil {
		n := int(req.GetMaxAttempts())
		if c.MaxAttempts = &n; n < 0 {
			return nil, apierrors.New(apierrors.BadConsumer, "max_attempts is %d; it may be 0, for no end, and more", n)
		}
	}
	wait, err := parseAckWait(req.GetAckWait())
	if err != nil {
		return nil, err
	}
	if wait != 0 {
		c.AckWait = &wait
	}
	ns, err := s.consumers(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	var starts []wal.Bounds
	if req.GetFrom() != nil {
		if starts, err = ns.starts(ctx, req.GetFrom()); err != nil {
			return nil, err
		}
	}
	for i := range ns.Stream.Info().Partitions {
		one := c
		if starts != nil {
			one.From = &starts[i].Start
		}
		if err := ns.Consumers.Apply(ctx, wal.Partition(i), req.GetConsumer(), &one); err != nil {
			return nil, fromDomain(err)
		}
	}
	ns.fetches.forget(req.GetConsumer())
	all, err := ns.listConsumers(ctx)
	if err != nil {
		return nil, fromDomain(err)
	}
	i := slices.IndexFunc(all, func(m *headwaterv1.Consumer) bool { return m.GetConsumer() == req.GetConsumer() })
	if i < 0 {
		return nil, apierrors.New(apierrors.NotCaughtUp, "the consumer was deleted meanwhile; apply it again")
	}
	return &headwaterv1.ApplyConsumerResponse{Consumer: all[i]}, nil
}

// DeleteConsumer forgets a consumer in all partitions.
func (s *Log) DeleteConsumer(ctx context.Context, req *headwaterv1.DeleteConsumerRequest) (*headwaterv1.DeleteConsumerResponse, error) {
	if err := checkConsumer(req.GetConsumer()); err != nil {
		return nil, err
	}
	ns, err := s.consumers(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	for i := range ns.Stream.Info().Partitions {
		if err := ns.Consumers.Delete(ctx, wal.Partition(i), req.GetConsumer()); err != nil {
			return nil, fromDomain(err)
		}
	}
	ns.fetches.forget(req.GetConsumer())
	return &headwaterv1.DeleteConsumerResponse{}, nil
}

// ListConsumers tells how far the consumers are.
func (s *Log) ListConsumers(ctx context.Context, req *headwaterv1.ListConsumersRequest) (*headwaterv1.ListConsumersResponse, error) {
	ns, err := s.consumers(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	all, err := ns.listConsumers(ctx)
	if err != nil {
		return nil, fromDomain(err)
	}
	return &headwaterv1.ListConsumersResponse{Consumers: all}, nil
}

// listConsumers are those of all partitions, by name.
func (n *Namespace) listConsumers(ctx context.Context) ([]*headwaterv1.Consumer, error) {
	var all []durable.Info
	for i := range n.Stream.Info().Partitions {
		infos, err := n.Consumers.List(ctx, wal.Partition(i))
		if err != nil {
			return nil, err
		}
		all = append(all, infos...)
	}
	return consumerMessages(all), nil
}

// consumerMessages puts the parts of each consumer together, by name.
func consumerMessages(parts []durable.Info) []*headwaterv1.Consumer {
	out := []*headwaterv1.Consumer{}
	for _, i := range durable.Sum(parts) {
		m := &headwaterv1.Consumer{
			Consumer: i.Name, MaxInFlight: int32(i.MaxInFlight), AckWait: durationpb.New(i.AckWait), MaxAttempts: int32(i.MaxAttempts),
			LagRecords: i.Lag, InFlight: i.InFlight, Redelivering: i.Redelivering, Missed: i.Missed, GivenUp: i.GivenUp,
		}
		if i.Oldest != 0 {
			m.OldestPending = timeMessage(i.Oldest)
		}
		out = append(out, m)
	}
	return out
}

// fetchedMessage is a record as it is handed out.
func (n *Namespace) fetchedMessage(p wal.Partition, life int64, m *durable.Message) (*headwaterv1.FetchedMessage, error) {
	var rec wal.Record
	if err := wal.DecodeRecord(m.Record, &rec); err != nil {
		return nil, &wal.CorruptError{Topic: n.Name, Partition: p, Offset: m.Offset, Detail: err.Error()}
	}
	out := &headwaterv1.FetchedMessage{
		AckId: ackID(p, life, m), Partition: int32(p), Offset: int64(m.Offset), Time: timeMessage(m.LogTime), Key: keyOf(&rec),
		Attempt: int32(m.Attempt), Kind: rec.Kind.String(), Payload: rec.Payload,
	}
	if !rec.Token.IsZero() {
		out.Token = tokenMessage(rec.Token, nil)
	}
	if isMessage(&rec) {
		b, err := delivery.DecodeBody(&rec)
		if err != nil {
			return nil, &wal.CorruptError{Topic: n.Name, Partition: p, Offset: m.Offset, Detail: err.Error()}
		}
		out.Payload, out.Headers = b.Payload, headersMessage(b.Headers)
		return out, nil
	}
	out.Decision = decisionMessage(&m.Verdict)
	req, err := writeRequest(n.Name, &rec)
	if req == nil || err != nil { // what cannot be read was not applied: the payload is there
		return out, nil //nolint:nilerr // the decision says so
	}
	out.Record, out.Method, err = recordStruct(req)
	return out, err
}

func decisionMessage(v *durable.Verdict) *headwaterv1.RecordDecision {
	d := &headwaterv1.RecordDecision{Outcome: headwaterv1.RecordDecision_APPLIED, Reason: v.Reason}
	switch v.Outcome {
	case durable.Refused:
		d.Outcome = headwaterv1.RecordDecision_REFUSED
	case durable.Parked:
		d.Outcome = headwaterv1.RecordDecision_PARKED
	case durable.Dropped:
		d.Outcome = headwaterv1.RecordDecision_DROPPED
	case durable.Applied:
	}
	for _, i := range v.Partly {
		d.Refused = append(d.Refused, int32(i))
	}
	return d
}
