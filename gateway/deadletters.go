package gateway

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/segmentio/ksuid"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

const (
	defaultLetters = 100
	maxLetters     = 1000
)

// selection turns what a caller selects into a test.
func selection(sel *headwaterv1.DeadLetterSelection) (func(*consumers.DeadLetter) bool, error) {
	ids := make(map[wal.Ref]bool, len(sel.GetIds()))
	for _, id := range sel.GetIds() {
		r, err := wal.ParseRef(id)
		if err != nil {
			return nil, apierrors.Wrap(apierrors.BadSelection, err, "selection.ids: %.64q is not a dead letter's id", id)
		}
		ids[r] = true
	}
	if err := parseSince(apierrors.BadSelection, sel.GetSince(), sel.GetUntil()); err != nil {
		return nil, err
	}
	return func(l *consumers.DeadLetter) bool {
		switch {
		case len(ids) > 0 && !ids[l.Ref]:
			return false
		case sel == nil:
			return true
		case sel.Reason != nil && l.Reason != sel.GetReason():
			return false
		case sel.Key != nil && string(l.Key) != sel.GetKey():
			return false
		case sel.Since != nil && l.LogTime < sel.Since.AsTime().UnixMicro():
			return false
		case sel.Until != nil && l.LogTime >= sel.Until.AsTime().UnixMicro():
			return false
		}
		return true
	}, nil
}

// ListDeadLetters lists what was refused or parked, oldest first. The record's
// bytes come along where the selection names ids.
func (s *Log) ListDeadLetters(ctx context.Context, req *headwaterv1.ListDeadLettersRequest) (*headwaterv1.ListDeadLettersResponse, error) {
	ns, err := s.dir.lookup(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	match, err := selection(req.GetSelection())
	if err != nil {
		return nil, err
	}
	size := defaultLetters
	if req.PageSize != nil {
		if size = int(req.GetPageSize()); size < 1 || size > maxLetters {
			return nil, apierrors.New(apierrors.BadPageSize, "page_size is %d; it must be 1 to %d", size, maxLetters)
		}
	}
	skip := 0
	if t := req.GetPageToken(); t != "" {
		if skip, err = strconv.Atoi(t); err != nil || skip < 0 {
			return nil, apierrors.New(apierrors.BadPageToken, "page_token is not one that this request was given; start again without it")
		}
	}
	letters := ns.letters(match)
	out := &headwaterv1.ListDeadLettersResponse{}
	for i := min(skip, len(letters)); i < len(letters); i++ {
		if len(out.DeadLetters) == size {
			out.NextPageToken = strconv.Itoa(i)
			break
		}
		l := &letters[i]
		m := letterMessage(ns.Name, l)
		if len(req.GetSelection().GetIds()) > 0 {
			if m.Payload, err = ns.Letters.Record(ctx, l.Ref); err != nil {
				return nil, fromDomain(err)
			}
		}
		out.DeadLetters = append(out.DeadLetters, m)
	}
	return out, nil
}

func (n *Namespace) letters(match func(*consumers.DeadLetter) bool) []consumers.DeadLetter {
	if n.Letters == nil {
		return nil
	}
	return n.Letters.List(match)
}

func letterMessage(ns string, l *consumers.DeadLetter) *headwaterv1.DeadLetter {
	return &headwaterv1.DeadLetter{
		Id: l.Ref.String(), Namespace: ns, Partition: int32(l.Ref.Partition), Offset: int64(l.Ref.Offset), MutationIndex: int32(l.Ref.Index),
		Key: string(l.Key), Reason: l.Reason, Detail: l.Detail, Attempts: int32(l.Attempts), Time: timeMessage(l.LogTime),
		Disposition: headwaterv1.DeadLetter_Disposition(headwaterv1.DeadLetter_Disposition_value[string(l.Disposition)]),
	}
}

// RedriveDeadLetters tries parked records again, in their partitions, in order.
// It answers when the tries have been made; how each ended is in the list.
func (s *Log) RedriveDeadLetters(ctx context.Context, req *headwaterv1.RedriveDeadLettersRequest) (*headwaterv1.RedriveDeadLettersResponse, error) {
	if req.Rate != nil && req.GetRate() < 1 || req.Max != nil && req.GetMax() < 1 {
		return nil, forWrite(apierrors.New(apierrors.BadSelection, "rate and max must be at least 1"), false, nil)
	}
	ns, parked, err := s.parked(ctx, req.GetNamespace(), req.GetSelection())
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	if req.Max != nil && int64(len(parked)) > req.GetMax() {
		parked = parked[:req.GetMax()]
	}
	out := &headwaterv1.RedriveDeadLettersResponse{JobId: ksuid.New().String(), Matched: int64(len(parked)), DryRun: req.GetDryRun()}
	if req.GetDryRun() {
		return out, nil
	}
	for i := range parked {
		if req.Rate != nil && i > 0 {
			if err := sleep(ctx, time.Second/time.Duration(req.GetRate())); err != nil {
				return nil, forWrite(err, true, nil)
			}
		}
		gone, err := s.control(ctx, ns, consumers.OpRedrive, &parked[i], out.JobId)
		if err != nil {
			return nil, forWrite(err, errors.Is(err, wal.ErrUnknown), nil)
		}
		if gone {
			out.Redriven++
		}
	}
	return out, nil
}

// DropDeadLetters gives parked records up and applies what waited behind them.
func (s *Log) DropDeadLetters(ctx context.Context, req *headwaterv1.DropDeadLettersRequest) (*headwaterv1.DropDeadLettersResponse, error) {
	ns, parked, err := s.parked(ctx, req.GetNamespace(), req.GetSelection())
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	out := &headwaterv1.DropDeadLettersResponse{JobId: ksuid.New().String(), Matched: int64(len(parked)), DryRun: req.GetDryRun()}
	if req.GetDryRun() {
		return out, nil
	}
	for i := range parked {
		if _, err := s.control(ctx, ns, consumers.OpDrop, &parked[i], out.JobId); err != nil {
			return nil, forWrite(err, errors.Is(err, wal.ErrUnknown), nil)
		}
		out.Dropped++
	}
	return out, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// parked lists the parked letters that a selection names.
func (s *Log) parked(ctx context.Context, name string, sel *headwaterv1.DeadLetterSelection) (*Namespace, []consumers.DeadLetter, error) {
	ns, err := s.dir.lookup(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	match, err := selection(sel)
	if err != nil {
		return nil, nil, err
	}
	all := ns.letters(match)
	if len(sel.GetIds()) > 0 && len(all) < len(sel.GetIds()) {
		return nil, nil, apierrors.New(apierrors.DeadLetterNotFound, "of %d ids, %d are dead letters of namespace %s", len(sel.GetIds()), len(all), name)
	}
	parked := all[:0]
	for _, l := range all {
		if l.Disposition == consumers.Parked {
			parked = append(parked, l)
		}
	}
	return ns, parked, nil
}

// control appends a control record, waits for it, and reports whether the letter
// is parked no longer.
func (s *Log) control(ctx context.Context, ns *Namespace, op consumers.ControlOp, l *consumers.DeadLetter, by string) (gone bool, err error) {
	payload, err := consumers.EncodeControl(&consumers.Control{Op: op, Key: l.Key, Ref: l.Ref, By: by})
	if err != nil {
		return false, err
	}
	rec := &wal.Record{Kind: wal.KindControl, RoutingKey: l.Key, AcceptedAt: s.broker.Now().UnixMicro(), NamespaceVersion: ns.Config().Version, Payload: payload}
	// The letter's own partition: a record whose key could not be read is parked
	// where it lies, not where its key would.
	o, err := ns.Stream.Append(ctx, l.Ref.Partition, rec)
	if err != nil {
		return false, err
	}
	if err := ns.Stream.WaitApplied(ctx, l.Ref.Partition, o); err != nil {
		return false, err
	}
	now := ns.letters(func(x *consumers.DeadLetter) bool { return x.Ref == l.Ref })
	return len(now) == 0 || now[0].Disposition != consumers.Parked, nil
}
