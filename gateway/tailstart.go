package gateway

import (
	"context"
	"errors"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// starts is where each partition is read from, and up to where without follow.
// A partition that the read does not touch has Start equal to End.
func (t *tail) starts(ctx context.Context) ([]wal.Bounds, error) {
	bounds, err := t.ns.starts(ctx, t.req.GetFrom())
	if err != nil {
		return nil, err
	}
	behind := make([]wal.Offset, len(bounds))
	for i, b := range bounds {
		behind[i] = b.Start - 1
	}
	t.at = wal.NewPositionCursor(t.ns.Name, t.ns.Stream.Info().Incarnation, behind)
	return bounds, nil
}

// starts is where each partition begins that is read from a place on, and where it ends.
func (n *Namespace) starts(ctx context.Context, from *headwaterv1.LogStart) ([]wal.Bounds, error) {
	log := n.Stream.Log()
	bounds := make([]wal.Bounds, log.Info().Partitions)
	for i := range bounds {
		b, err := log.Bounds(ctx, wal.Partition(i))
		if err != nil {
			return nil, fromDomain(err)
		}
		b.End = max(b.End, log.LastEnd(wal.Partition(i)).End) // what was acknowledged since is read too
		bounds[i] = b
	}
	var err error
	switch from := from.GetStart().(type) {
	case *headwaterv1.LogStart_Earliest_:
	case *headwaterv1.LogStart_Latest_:
		for i := range bounds {
			bounds[i].Start = bounds[i].End
		}
	case *headwaterv1.LogStart_Time:
		if from.Time.CheckValid() != nil {
			return nil, apierrors.New(apierrors.BadLogStart, "from.time is not a time")
		}
		err = n.startAt(ctx, bounds, nil, from.Time.AsTime().UnixMicro())
	case *headwaterv1.LogStart_Position:
		err = n.startBehind(ctx, bounds, from.Position)
	default:
		err = apierrors.New(apierrors.BadLogStart, "from is missing; say earliest, latest, a position or a time")
	}
	return bounds, err
}

// startAt begins the partitions that are not in but at the first record that was
// appended at a time or after it, microseconds since 1970.
func (n *Namespace) startAt(ctx context.Context, bounds []wal.Bounds, but map[wal.Partition]wal.Offset, at int64) error {
	for i := range bounds {
		p := wal.Partition(i)
		if _, ok := but[p]; ok {
			continue
		}
		o, err := n.Stream.Log().OffsetAt(ctx, p, at)
		if err != nil {
			return fromDomain(err)
		}
		bounds[i].Start = max(o, bounds[i].Start)
	}
	return nil
}

// startBehind begins the partitions that a position names behind what it names,
// and the others at the first record that was appended at or after the time of
// the newest record of the position: one that a write answered names the
// partitions of that write, and older records of others are not meant. Where that
// time is not known any more, they begin at their beginning.
func (n *Namespace) startBehind(ctx context.Context, bounds []wal.Bounds, text string) error {
	pos, err := wal.ParsePosition(text)
	if err == nil && pos.Namespace != n.Name {
		return apierrors.New(apierrors.BadPosition, "from.position is of namespace %.64q; read that one, or give a position of %s", pos.Namespace, n.Name)
	}
	if err == nil {
		pos, err = n.Stream.MergeAfter([]string{text})
	}
	switch {
	case errors.Is(err, wal.ErrMalformed):
		return apierrors.Wrap(apierrors.BadPosition, err, "from.position is not one that an answer gave")
	case err != nil:
		return fromDomain(err)
	case len(pos.Offsets) == 0:
		return apierrors.New(apierrors.BadPosition, "from.position names no partition; start from earliest")
	}
	for p, o := range pos.Offsets {
		b := &bounds[p]
		switch {
		case o+1 < b.Start:
			return apierrors.New(apierrors.Trimmed, "partition %d of the position is not in the log any more; start from earliest", p)
		case o >= b.End:
			return apierrors.New(apierrors.BeyondEnd, "partition %d of the position is beyond the end of the log; give one that an answer gave", p)
		}
	}
	if len(pos.Offsets) < len(bounds) {
		newest, err := n.newest(ctx, bounds, pos.Offsets)
		if err != nil {
			return err
		}
		if err := n.startAt(ctx, bounds, pos.Offsets, newest); err != nil {
			return err
		}
	}
	for p, o := range pos.Offsets {
		bounds[p].Start = o + 1
	}
	return nil
}

// newest is the latest append time of the records at offsets, microseconds since
// 1970, as far as they are still there; 0 when none is.
func (n *Namespace) newest(ctx context.Context, bounds []wal.Bounds, offsets map[wal.Partition]wal.Offset) (at int64, err error) {
	for p, o := range offsets {
		if o < bounds[p].Start {
			continue
		}
		err := wal.ReadOne(ctx, n.Stream.Log(), p, o, func(e *wal.Entry) error {
			at = max(at, e.LogTime)
			return nil
		})
		if err != nil {
			return 0, fromDomain(err)
		}
	}
	return at, nil
}
