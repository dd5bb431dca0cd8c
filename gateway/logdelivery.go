package gateway

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

const (
	// MaxTargets bounds those of one message.
	MaxTargets = 16
	// MaxDelay bounds how far ahead a message is delivered.
	MaxDelay = 87600 * time.Hour
	// The bounds of a page of ListDelayed.
	DefaultDelayedPage = 100
	MaxDelayedPage     = 1000
)

func checkTargets(ns *Namespace, names []string) error {
	if len(names) > MaxTargets {
		return apierrors.New(apierrors.BadTarget, "the message names %d targets; it may name %d", len(names), MaxTargets)
	}
	have := ns.Config().Delivery.Targets
	for i, name := range names {
		switch {
		case slices.Contains(names[:i], name):
			return apierrors.New(apierrors.BadTarget, "the message names target %.64q twice", name)
		case !slices.ContainsFunc(have, func(t namespace.TargetConfig) bool { return t.Name == name }):
			return apierrors.New(apierrors.BadTarget, "namespace %s has no target %.64q; %s", ns.Name, name, targetsOf(have))
		}
	}
	return nil
}

func targetsOf(ts []namespace.TargetConfig) string {
	if len(ts) == 0 {
		return "its document has no delivery.targets"
	}
	names := make([]string, len(ts))
	for i := range ts {
		names[i] = ts[i].Name
	}
	return "it has " + strings.Join(names, ", ")
}

// lifecycle reads when a message is to be delivered into b, whose targets are known.
func lifecycle(ns *Namespace, key string, l *headwaterv1.MessageLifecycle, b *delivery.Body) error {
	if l == nil {
		return nil
	}
	if hasUnknown(l) {
		return laterError("WriteToLog")
	}
	bad := func(format string, args ...any) error { return apierrors.New(apierrors.BadLifecycle, format, args...) }
	if b.Replace = l.GetReplace(); b.Replace && key == "" {
		return bad("the message is to replace those of its key, and has none")
	}
	now := ns.Messages.Now()
	switch delay, at := l.GetDelay(), l.GetDeliverAt(); {
	case delay == nil && at == nil:
		return nil
	case delay != nil && at != nil:
		return bad("the message has a delay and a deliver_at; send one of them")
	case delay != nil && delay.CheckValid() != nil:
		return bad("delay is not a duration")
	case delay != nil && (delay.AsDuration() < 0 || delay.AsDuration() > MaxDelay):
		return bad("delay is %v; it may be 0 to %v", delay.AsDuration(), MaxDelay)
	case delay != nil:
		b.Delay = delay.AsDuration().Round(time.Microsecond)
	case at.CheckValid() != nil:
		return bad("deliver_at is not a time")
	case at.AsTime().After(now.Add(MaxDelay)):
		return bad("deliver_at is %s, more than ten years ahead", at.AsTime().Format(time.RFC3339))
	case at.AsTime().Before(now.Add(-ns.Config().Tokens.MaxDriftPast)): // a copy may come so much later
		return bad("deliver_at is %s, which has passed by more than tokens.max_drift_past", at.AsTime().Format(time.RFC3339))
	default:
		b.DeliverAt = at.AsTime().UnixMicro()
	}
	if d := ns.Config().Delivery; len(b.Targets) == 0 && !slices.ContainsFunc(d.Targets, func(t namespace.TargetConfig) bool { return t.Default }) {
		return bad("the message is to be delivered later, and goes to no target; %s", targetsOf(d.Targets))
	}
	return nil
}

// messageID names a message, also among those of other namespaces and of an earlier one of this name.
func (n *Namespace) messageID(p wal.Partition, o wal.Offset) string {
	return MessageID(n.Stream.Info().Incarnation, p, o)
}

// MessageID names the message at a place in a topic.
func MessageID(topic wal.Incarnation, p wal.Partition, o wal.Offset) string {
	return fmt.Sprintf("%s-%d-%d", topic.String()[:incarnationChars], p, o)
}

// incarnationChars is how much of a topic's incarnation an id has: enough that those of an installation differ.
const incarnationChars = 12

func (n *Namespace) parseMessageID(id string) (p wal.Partition, o wal.Offset, err error) {
	bad := apierrors.New(apierrors.BadMessageID, "message_id %.64q is not one of a message", id)
	parts := strings.Split(id, "-")
	if len(parts) != 3 || len(parts[0]) != incarnationChars {
		return 0, 0, bad
	}
	part, err1 := strconv.ParseUint(parts[1], 10, 32)
	offset, err2 := strconv.ParseInt(parts[2], 10, 64)
	if err1 != nil || err2 != nil || offset < 0 || id != fmt.Sprintf("%s-%d-%d", parts[0], part, offset) {
		return 0, 0, bad
	}
	info := n.Stream.Info()
	if parts[0] != info.Incarnation.String()[:incarnationChars] || int64(part) >= int64(info.Partitions) {
		return 0, 0, n.unknownMessage(id)
	}
	return wal.Partition(part), wal.Offset(offset), nil
}

func (n *Namespace) unknownMessage(what string) error {
	return apierrors.New(apierrors.MessageNotFound, "namespace %s knows nothing of message %.64s", n.Name, what)
}

// find returns where a message is that is named by its id or by its token.
func (n *Namespace) find(
	ctx context.Context, id string, token *headwaterv1.IdempotencyToken, key *string,
) (p wal.Partition, o wal.Offset, err error) {
	switch {
	case (id == "") == (token == nil):
		return 0, 0, apierrors.New(apierrors.BadMessageID, "set exactly one of message_id and token")
	case id != "" && key != nil:
		return 0, 0, apierrors.New(apierrors.BadMessageID, "key belongs to a token; leave it out beside message_id")
	case id != "":
		return n.parseMessageID(id)
	case key != nil && (len(*key) > MaxLogKey || !utf8.ValidString(*key)):
		return 0, 0, apierrors.New(apierrors.BadLogKey, "key has %d bytes; it may have %d of UTF-8", len(*key), MaxLogKey)
	}
	tok, err := parseToken(token)
	if err != nil {
		return 0, 0, err
	}
	if tok.Nonce == (wal.Nonce{}) {
		return 0, 0, apierrors.New(apierrors.BadToken, "token has neither nonce nor key; send that of the write")
	}
	found, err := n.Messages.Find(ctx, key, tok.Nonce)
	switch {
	case err != nil:
		return 0, 0, err
	case len(found) == 0:
		return 0, 0, n.unknownMessage("with this token")
	case len(found) > 1:
		return 0, 0, apierrors.New(apierrors.BadMessageID, "%d messages have this token; send the key with it", len(found))
	}
	return found[0].Partition, found[0].Offset, nil
}

// GetMessage tells how far a message is.
func (s *Log) GetMessage(
	ctx context.Context, req *headwaterv1.GetMessageRequest,
) (*headwaterv1.GetMessageResponse, error) {
	ns, err := s.dir.messages(ctx, req.GetNamespace(), "GetMessage")
	if err != nil {
		return nil, err
	}
	p, o, err := ns.find(ctx, req.GetMessageId(), req.GetToken(), req.Key)
	if err != nil {
		return nil, fromDomain(err)
	}
	st, known, err := ns.Messages.Status(ctx, p, o)
	if err != nil {
		return nil, fromDomain(err)
	}
	if !known {
		return nil, ns.unknownMessage(ns.messageID(p, o))
	}
	out := &headwaterv1.GetMessageResponse{State: messageState(&st), MessageId: ns.messageID(p, o), Due: timeMessage(st.Due), WrittenAt: timeMessage(st.LogTime)}
	for i := range st.Targets {
		t := &st.Targets[i]
		m := &headwaterv1.GetMessageResponse_Target{Name: t.Target, State: targetState(t), Attempts: int32(t.Attempts), LastError: t.Error}
		if t.State == delivery.Delivered {
			m.DeliveredAt = timeMessage(t.At)
		}
		out.Targets = append(out.Targets, m)
	}
	return out, nil
}

func targetState(t *delivery.TargetStatus) headwaterv1.GetMessageResponse_State {
	switch {
	case t.State == delivery.Delivered:
		return headwaterv1.GetMessageResponse_DELIVERED
	case t.State == delivery.Dead, t.State == delivery.Dropped:
		return headwaterv1.GetMessageResponse_DEAD
	case t.State == delivery.Cancelled:
		return headwaterv1.GetMessageResponse_CANCELLED
	case t.Begun:
		return headwaterv1.GetMessageResponse_DELIVERING
	}
	return headwaterv1.GetMessageResponse_PENDING
}

// messageState is that of all targets together: one that is under way counts before one that has ended, and
// a dead one before those that are delivered.
func messageState(s *delivery.Status) headwaterv1.GetMessageResponse_State {
	has := func(want headwaterv1.GetMessageResponse_State) bool {
		return slices.ContainsFunc(s.Targets, func(t delivery.TargetStatus) bool { return targetState(&t) == want })
	}
	pending, delivered := has(headwaterv1.GetMessageResponse_PENDING), has(headwaterv1.GetMessageResponse_DELIVERED)
	switch {
	case has(headwaterv1.GetMessageResponse_DELIVERING), pending && (delivered || has(headwaterv1.GetMessageResponse_DEAD)):
		return headwaterv1.GetMessageResponse_DELIVERING
	case pending:
		return headwaterv1.GetMessageResponse_PENDING
	case has(headwaterv1.GetMessageResponse_DEAD):
		return headwaterv1.GetMessageResponse_DEAD
	case delivered:
		return headwaterv1.GetMessageResponse_DELIVERED
	}
	return headwaterv1.GetMessageResponse_CANCELLED
}

// delayedPlace is behind the last message of a page: messages come by time, then partition, then offset.
type delayedPlace struct {
	due       int64
	partition wal.Partition
	offset    wal.Offset
}

func (d *delayedPlace) compare(o *delayedPlace) int {
	return cmp.Or(cmp.Compare(d.due, o.due), cmp.Compare(d.partition, o.partition), cmp.Compare(d.offset, o.offset))
}

// in is the place in a partition behind which its messages of the next page are.
func (d *delayedPlace) in(p wal.Partition) (due int64, o wal.Offset) {
	switch {
	case p < d.partition:
		return d.due, math.MaxInt64 - 1
	case p == d.partition:
		return d.due, d.offset
	default:
		return d.due, wal.NoOffset
	}
}

// ListDelayed lists delayed messages, the soonest first.
func (s *Log) ListDelayed(
	ctx context.Context, req *headwaterv1.ListDelayedRequest,
) (*headwaterv1.ListDelayedResponse, error) {
	ns, err := s.dir.messages(ctx, req.GetNamespace(), "ListDelayed")
	if err != nil {
		return nil, err
	}
	size := DefaultDelayedPage
	if req.PageSize != nil {
		if size = int(req.GetPageSize()); size < 1 || size > MaxDelayedPage {
			return nil, apierrors.New(apierrors.BadPageSize, "page_size is %d; it must be 1 to %d", size, MaxDelayedPage)
		}
	}
	if err := parseSince(apierrors.BadSelection, req.GetDueAfter(), req.GetDueBefore()); err != nil {
		return nil, err
	}
	from := delayedPlace{due: max(microsOr(req.GetDueAfter(), 0), 0), offset: wal.NoOffset}
	before := max(microsOr(req.GetDueBefore(), math.MaxInt64), 0)
	if t := req.GetPageToken(); t != "" {
		var ok bool
		if from, ok = parseDelayedPlace(t); !ok {
			return nil, apierrors.New(apierrors.BadPageToken, "page_token is not one that this request was given; start again without it")
		}
	}
	out := &headwaterv1.ListDelayedResponse{}
	if req.Key != nil && req.GetKey() == "" { // which have no order: each is looked at
		return nil, apierrors.New(apierrors.BadLogKey, "key is empty; leave it out for messages of all keys and of none")
	}
	found, err := ns.delayed(ctx, req.Key, &from, before, size+1)
	if err != nil {
		return nil, fromDomain(err)
	}
	for i := range found[:min(len(found), size)] {
		m := &found[i]
		one := &headwaterv1.DelayedMessage{MessageId: ns.messageID(m.partition, m.Offset), Due: timeMessage(m.Due), WrittenAt: timeMessage(m.LogTime)}
		if !m.Keyless {
			one.Key = string(m.Key)
		}
		for _, a := range m.Aims {
			one.Targets = append(one.Targets, a.Target)
		}
		out.Messages = append(out.Messages, one)
	}
	if len(found) > size {
		last := found[size-1].place()
		out.NextPageToken = fmt.Sprintf("%d.%d.%d", last.due, last.partition, last.offset)
	}
	return out, nil
}

func microsOr(t *timestamppb.Timestamp, or int64) int64 {
	if t == nil {
		return or
	}
	return t.AsTime().UnixMicro()
}

func parseDelayedPlace(token string) (d delayedPlace, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return d, false
	}
	due, err1 := strconv.ParseInt(parts[0], 10, 64)
	p, err2 := strconv.ParseUint(parts[1], 10, 32)
	o, err3 := strconv.ParseInt(parts[2], 10, 64)
	return delayedPlace{due, wal.Partition(p), wal.Offset(o)}, err1 == nil && err2 == nil && err3 == nil && due >= 0 && o >= 0 && o < math.MaxInt64-1
}

// placed is a delayed message and its partition.
type placed struct {
	delivery.Pending
	partition wal.Partition
}

func (m *placed) place() *delayedPlace { return &delayedPlace{m.Due, m.partition, m.Offset} }

// delayed returns the first delayed messages behind a place, of all partitions or of that of a key.
func (n *Namespace) delayed(
	ctx context.Context, key *string, from *delayedPlace, before int64, limit int,
) (all []placed, err error) {
	parts, routing := n.partitions(), []byte(nil)
	if key != nil {
		routing = []byte(*key)
		parts = []wal.Partition{n.Stream.PartitionOf(routing)}
	}
	for _, p := range parts {
		due, o := from.in(p)
		ms, err := n.Messages.Delayed(ctx, p, routing, due, o, before, limit)
		if err != nil {
			return nil, err
		}
		for i := range ms {
			all = append(all, placed{ms[i], p})
		}
	}
	slices.SortFunc(all, func(a, b placed) int { return a.place().compare(b.place()) })
	return all[:min(len(all), limit)], nil
}

func (n *Namespace) partitions() (all []wal.Partition) {
	for p := range wal.Partition(n.Stream.Info().Partitions) {
		all = append(all, p)
	}
	return all
}

// CancelDelayed cancels delayed messages. Its record decides: what it came too late for is delivered.
func (s *Log) CancelDelayed(
	ctx context.Context, req *headwaterv1.CancelDelayedRequest,
) (*headwaterv1.CancelDelayedResponse, error) {
	ns, err := s.dir.messages(ctx, req.GetNamespace(), "CancelDelayed")
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	sel := req.GetSelection()
	if sel.GetMessageId() == "" && sel.GetToken() == nil && sel != nil && sel.Key != nil {
		return s.cancelKey(ctx, ns, sel.GetKey())
	}
	p, o, err := ns.find(ctx, sel.GetMessageId(), sel.GetToken(), selectedKey(sel))
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	st, known, err := ns.Messages.Status(ctx, p, o)
	switch {
	case err != nil:
		return nil, forWrite(err, false, nil)
	case !known:
		return nil, forWrite(ns.unknownMessage(ns.messageID(p, o)), false, nil)
	case st.Ended(): // nothing more comes of it
		if messageState(&st) == headwaterv1.GetMessageResponse_CANCELLED {
			return &headwaterv1.CancelDelayedResponse{Cancelled: 1}, nil
		}
		return &headwaterv1.CancelDelayedResponse{TooLate: 1}, nil
	}
	return cancelled(ns.Messages.Cancel(ctx, p, o, nil))
}

// selectedKey is nil where none is given.
func selectedKey(sel *headwaterv1.CancelDelayedRequest_Selection) *string {
	if sel == nil {
		return nil
	}
	return sel.Key
}

func (s *Log) cancelKey(ctx context.Context, ns *Namespace, key string) (*headwaterv1.CancelDelayedResponse, error) {
	if key == "" || len(key) > MaxLogKey || !utf8.ValidString(key) {
		return nil, forWrite(apierrors.New(apierrors.BadLogKey, "key has %d bytes; it takes 1 to %d of UTF-8", len(key), MaxLogKey), false, nil)
	}
	return cancelled(ns.Messages.Cancel(ctx, ns.Stream.PartitionOf([]byte(key)), wal.NoOffset, []byte(key)))
}

func cancelled(done, late int64, err error) (*headwaterv1.CancelDelayedResponse, error) {
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	return &headwaterv1.CancelDelayedResponse{Cancelled: done, TooLate: late}, nil
}
