package gateway

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// The bounds of a list of dead letters.
const (
	DefaultLetterPage = 100
	MaxLetterPage     = 1000
	MaxLetterIDs      = 1000 // of a selection
	// A page ends at MaxPageBytes of keys and records, or when LetterScanBytes were
	// read for it.
	LetterScanBytes = 32 << 20
)

// letterSelection is what a caller selects.
type letterSelection struct {
	ids   map[wal.Ref]bool
	match func(*consumers.DeadLetter) bool
}

func parseSelection(sel *headwaterv1.DeadLetterSelection) (*letterSelection, error) {
	if n := len(sel.GetIds()); n > MaxLetterIDs {
		return nil, apierrors.New(apierrors.BadSelection, "selection.ids has %d ids; it may have %d", n, MaxLetterIDs)
	}
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
	return &letterSelection{ids: ids, match: func(l *consumers.DeadLetter) bool {
		switch {
		case len(ids) > 0 && !ids[l.Ref]:
			return false
		case sel == nil:
			return true
		case sel.Reason != nil && l.Reason != sel.GetReason():
			return false
		case sel.Key != nil && string(l.Key) != sel.GetKey():
			return false
		case sel.Target != nil && l.Target != sel.GetTarget():
			return false
		case sel.Since != nil && l.LogTime < sel.Since.AsTime().UnixMicro():
			return false
		case sel.Until != nil && l.LogTime >= sel.Until.AsTime().UnixMicro():
			return false
		}
		return true
	}}, nil
}

// ListDeadLetters lists what was refused or parked, oldest first. The record's
// bytes come along where the selection names ids.
func (s *Log) ListDeadLetters(ctx context.Context, req *headwaterv1.ListDeadLettersRequest) (*headwaterv1.ListDeadLettersResponse, error) {
	ns, err := s.dir.lookup(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	sel, err := parseSelection(req.GetSelection())
	if err != nil {
		return nil, err
	}
	size := DefaultLetterPage
	if req.PageSize != nil {
		if size = int(req.GetPageSize()); size < 1 || size > MaxLetterPage {
			return nil, apierrors.New(apierrors.BadPageSize, "page_size is %d; it must be 1 to %d", size, MaxLetterPage)
		}
	}
	q := ns.letterQuery(sel, size)
	if req.Selection != nil && req.Selection.Since != nil {
		q.Since = req.Selection.Since.AsTime().UnixMicro()
	}
	if len(sel.ids) > 0 {
		q.Record = ns.record
	}
	if t := req.GetPageToken(); t != "" {
		var ok bool
		if q.From, ok = parseLetterPlace(t); !ok {
			return nil, apierrors.New(apierrors.BadPageToken, "page_token is not one that this request was given; start again without it")
		}
		q.Enough = 0 // what earlier pages had is not known
	}
	out := &headwaterv1.ListDeadLettersResponse{}
	if ns.Letters == nil {
		return out, nil
	}
	letters, next, more, err := ns.Letters.List(ctx, q)
	if err != nil {
		return nil, fromDomain(err)
	}
	for i := range letters {
		out.DeadLetters = append(out.DeadLetters, letterMessage(ns.Name, &letters[i]))
	}
	if more {
		out.NextPageToken = strconv.FormatInt(int64(next.Offset), 10) + "." + strconv.Itoa(next.N)
	}
	return out, nil
}

func parseLetterPlace(token string) (p consumers.LetterPlace, ok bool) {
	offset, n, _ := strings.Cut(token, ".")
	o, err := strconv.ParseUint(offset, 10, 63)
	i, err2 := strconv.ParseUint(n, 10, 31)
	return consumers.LetterPlace{Offset: wal.Offset(o), N: int(i)}, err == nil && err2 == nil
}

// letterQuery finds the letters of a selection that say what became of their
// mutations: not that one was parked which was tried again, or is no longer.
func (n *Namespace) letterQuery(sel *letterSelection, size int) *consumers.LetterQuery {
	q := &consumers.LetterQuery{
		Limit: size, Bytes: MaxPageBytes, Scan: LetterScanBytes,
		Match: sel.match, Stands: n.stands,
	}
	for r := range sel.ids {
		q.Refs = append(q.Refs, r)
	}
	if len(q.Refs) <= size {
		q.Enough = len(q.Refs)
	}
	return q
}

// stands reports whether nothing came of a letter that a later one tells.
func (n *Namespace) stands(ctx context.Context, l *consumers.DeadLetter) (bool, error) {
	if l.Disposition == consumers.Parked && strings.HasPrefix(l.Target, ConsumerTarget) {
		return n.isDead(ctx, l)
	}
	if l.Disposition != consumers.Parked || n.Applier == nil || l.At > n.Stream.Progress().Applied(l.Ref.Partition) {
		return true, nil
	}
	if l.Target != "" {
		return n.isDead(ctx, l)
	}
	q, ok, err := n.parkedQueue(ctx, l.Ref.Partition, l.Key)
	return ok && q.Refs[0] == l.Ref && q.At == l.At, err
}

func (n *Namespace) parkedQueue(ctx context.Context, p wal.Partition, key []byte) (consumers.ParkedQueue, bool, error) {
	if int64(p) >= int64(n.Stream.Info().Partitions) {
		return consumers.ParkedQueue{}, false, nil
	}
	return n.Applier.Parked(ctx, p, key)
}

// record returns a record from the log, nil where it has been trimmed.
func (n *Namespace) record(ctx context.Context, r wal.Ref) (record []byte, err error) {
	err = wal.ReadOne(ctx, n.Stream.Log(), r.Partition, r.Offset, func(e *wal.Entry) error {
		record = bytes.Clone(e.Data)
		return nil
	})
	if errors.Is(err, wal.ErrTrimmed) {
		return nil, nil
	}
	return record, err
}

func letterMessage(ns string, l *consumers.DeadLetter) *headwaterv1.DeadLetter {
	return &headwaterv1.DeadLetter{
		Id: l.Ref.String(), Namespace: ns, Partition: int32(l.Ref.Partition), Offset: int64(l.Ref.Offset), MutationIndex: int32(l.Ref.Index),
		Key: string(l.Key), Reason: l.Reason, Detail: l.Detail, Attempts: int32(l.Attempts), Time: timeMessage(l.LogTime), Payload: l.Record, Target: l.Target,
		Disposition: headwaterv1.DeadLetter_Disposition(headwaterv1.DeadLetter_Disposition_value[string(l.Disposition)]), Job: l.By,
	}
}

// RedriveDeadLetters tries parked records again, in their partitions, in order, as a job. It answers when that has ended,
// or shortly before the call's deadline: then the job goes on.
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
	out := &headwaterv1.RedriveDeadLettersResponse{Matched: int64(len(parked)), DryRun: req.GetDryRun(), Samples: samples(ns.Name, parked)}
	if req.GetDryRun() {
		return out, nil
	}
	c, err := s.dispose(ctx, ns, &Disposal{Rate: req.GetRate(), Limited: req.Max != nil}, req.GetSelection(), parked)
	if err != nil {
		return nil, err
	}
	out.Job, out.Redriven, out.Running = c.id, c.gone.Load(), c.running()
	return out, nil
}

// DropDeadLetters gives parked records up and applies what waited behind them, as a job like that of RedriveDeadLetters.
func (s *Log) DropDeadLetters(ctx context.Context, req *headwaterv1.DropDeadLettersRequest) (*headwaterv1.DropDeadLettersResponse, error) {
	ns, parked, err := s.parked(ctx, req.GetNamespace(), req.GetSelection())
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	out := &headwaterv1.DropDeadLettersResponse{Matched: int64(len(parked)), DryRun: req.GetDryRun(), Samples: samples(ns.Name, parked)}
	if req.GetDryRun() {
		return out, nil
	}
	c, err := s.dispose(ctx, ns, &Disposal{Drop: true}, req.GetSelection(), parked)
	if err != nil {
		return nil, err
	}
	out.Job, out.Dropped, out.Running = c.id, c.done.Load(), c.running()
	return out, nil
}

// maxSamples is how many letters an answer about many shows.
const maxSamples = 10

func samples(ns string, letters []consumers.DeadLetter) (out []*headwaterv1.DeadLetter) {
	for i := range letters[:min(len(letters), maxSamples)] {
		out = append(out, letterMessage(ns, &letters[i]))
	}
	return out
}

// parked lists what is parked of a selection, oldest first. What is parked is known
// without the letters: each heads a queue.
func (s *Log) parked(ctx context.Context, name string, selected *headwaterv1.DeadLetterSelection) (*Namespace, []consumers.DeadLetter, error) {
	ns, err := s.dir.lookup(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	sel, err := parseSelection(selected)
	if err != nil {
		return nil, nil, err
	}
	var parked []consumers.DeadLetter
	if ns.Applier != nil {
		for i := range ns.Stream.Info().Partitions {
			err := ns.Applier.ParkedHeads(ctx, wal.Partition(i), func(q *consumers.ParkedQueue) {
				l := consumers.DeadLetter{
					Ref: q.Refs[0], Key: q.Key, Reason: consumers.ReasonPoison, Disposition: consumers.Parked,
					Detail: q.Reason, Attempts: q.Attempts, LogTime: q.LogTime, At: q.At,
				}
				if sel.match(&l) {
					parked = append(parked, l)
				}
			})
			if err != nil {
				return nil, nil, err
			}
		}
	}
	dead, err := ns.deadDeliveries(ctx, sel)
	if err != nil {
		return nil, nil, fromDomain(err)
	}
	given, err := ns.givenUp(ctx, sel)
	if err != nil {
		return nil, nil, fromDomain(err)
	}
	parked = slices.Concat(parked, dead, given)
	slices.SortFunc(parked, func(a, b consumers.DeadLetter) int {
		return cmp.Or(cmp.Compare(a.LogTime, b.LogTime), a.Ref.Compare(b.Ref), cmp.Compare(a.Target, b.Target))
	})
	if err := s.known(ctx, ns, sel, parked); err != nil {
		return nil, nil, err
	}
	return ns, parked, nil
}

// known refuses a selection with ids that are not those of letters.
func (s *Log) known(ctx context.Context, ns *Namespace, sel *letterSelection, parked []consumers.DeadLetter) error {
	if len(sel.ids) == 0 {
		return nil
	}
	found := make(map[wal.Ref]bool, len(sel.ids))
	for i := range parked {
		found[parked[i].Ref] = true
	}
	for q, more := ns.letterQuery(sel, MaxLetterIDs), ns.Letters != nil; more && len(found) < len(sel.ids); {
		letters, next, m, err := ns.Letters.List(ctx, q)
		if err != nil {
			return fromDomain(err)
		}
		for i := range letters {
			found[letters[i].Ref] = true
		}
		q.From, more = next, m
	}
	if len(found) < len(sel.ids) {
		return apierrors.New(apierrors.DeadLetterNotFound, "of %d ids, %d are dead letters of namespace %s", len(sel.ids), len(found), ns.Name)
	}
	return nil
}
