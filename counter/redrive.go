package counter

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// again applies a parked call from the log, under its own position and tokens
// and by its own log time. Its events stand in the row of the control record
// that asked for it, which is where they were decided.
func (pa *partApplier) again(ctx context.Context, ref wal.Ref) (poison, err error) {
	err = wal.ReadOne(ctx, pa.a.cfg.Log, ref.Partition, ref.Offset, func(e *wal.Entry) (err error) {
		poison, err = pa.entryAgain(ctx, ref, e)
		return err
	})
	return poison, err
}

func (pa *partApplier) entryAgain(ctx context.Context, ref wal.Ref, e *wal.Entry) (poison, err error) {
	var rec wal.Record
	var c Call
	if err := wal.DecodeRecord(e.Data, &rec); err != nil {
		return err, nil
	}
	if rec.Kind != wal.KindCounter {
		return fmt.Errorf("a record of kind %s does not belong here", rec.Kind), nil
	}
	if err := DecodePayload(rec.Payload, &c); err != nil {
		return err, nil
	}
	settings, err := pa.a.cfg.Settings(rec.NamespaceVersion)
	if err != nil {
		return nil, err
	}
	pl := &place{at: at{offset: e.Offset, logTime: e.LogTime, acceptedAt: rec.AcceptedAt, settings: &settings}, entry: e, callTime: rec.Token.GenerationTime, redriven: true}
	if pl.acceptedAt == 0 {
		pl.acceptedAt = e.LogTime
	}
	switch {
	case c.Op != OpAdd:
		return pa.single(ctx, &c, &rec, max(ref.Index, 0), pl)
	case ref.Index == wal.WholeRecord:
		return pa.adds(ctx, &c, &rec, pl)
	default:
		return pa.oneAdd(ctx, &c, ref.Index, pl)
	}
}

// oneAdd applies one add of a record whose others were applied in their time.
// The call's token was taken then; only a token of the add's own is asked.
func (pa *partApplier) oneAdd(ctx context.Context, c *Call, index int, pl *place) (poison, err error) {
	r := NewAddReader(c.Adds)
	var a Add
	for i := 0; i <= index; i++ {
		ok, err := r.Next(&a)
		if err != nil {
			return err, nil
		}
		if !ok {
			return fmt.Errorf("the record has no add %d", index), nil
		}
	}
	s := &pa.scratch
	h, err := pa.find(ctx, a.Counter)
	if err != nil {
		return nil, err
	}
	s.extras = append(s.extras[:0], extraAdd{Add: a})
	s.adds = append(s.adds[:0], pendingAdd{h: h, delta: a.Delta, extra: 0, index: index})
	if cause := pa.cannot(&s.adds[0], pl); cause != nil {
		return cause, nil
	}
	if err := pa.judgeOwn(ctx, pl); err != nil {
		return nil, err
	}
	return nil, pa.decideAdds(pl)
}
