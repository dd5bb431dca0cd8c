package kv

import (
	"bytes"
	"context"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Parked returns the queue of a key, and whether it is parked. It may be called
// at any time.
func (a *Applier) Parked(p wal.Partition, key []byte) (q ParkedQueue, ok bool) {
	return a.parts[p].parking.Find(key)
}

// ParkedKeys returns how many keys of a partition are parked, and the lowest
// offset that only the log still holds for them (wal.NoOffset when none).
func (a *Applier) ParkedKeys(p wal.Partition) (n int, lowest wal.Offset) {
	k := a.parts[p].parking
	return k.Len(), k.Lowest()
}

func (a *Applier) newParking(pa *partApplier) *consumers.Parking {
	return consumers.NewParking(consumers.ParkingConfig{
		Partition: pa.p, Letters: a.cfg.Letters, MaxParked: a.cfg.MaxParked,
		Save:  func(c *consumers.ParkedChange) { pa.batch.SaveParked(c) },
		Log:   a.cfg.Log,
		Again: pa.again,
	})
}

// queueOf returns the queue that a call must wait in, or nil.
func (pa *partApplier) queueOf(c *Call) *ParkedQueue {
	if pa.parking.Len() == 0 {
		return nil
	}
	for i := range c.Mutations {
		if q := pa.parking.Queue(c.Mutations[i].ID); q != nil {
			return q
		}
	}
	return nil
}

// park sets a key aside with the record that cannot be applied at its head.
func (pa *partApplier) park(e *wal.Entry, index int, key []byte, logTime int64, cause error) error {
	isNew := pa.parking.Queue(key) == nil
	if err := pa.parking.Park(e, index, key, logTime, cause); err != nil {
		return err
	}
	if isNew {
		pa.a.stats.Parked.Add(1)
	}
	return nil
}

// refuse keeps the dead letter of a call that was decided against and that nobody
// may be waiting for.
func (pa *partApplier) refuse(c *Call, index int, at place, reason, detail string) {
	pa.parking.Refuse(consumers.DeadLetter{
		Ref: wal.Ref{Offset: at.offset, Index: index}, Key: bytes.Clone(c.Mutations[0].ID),
		Reason: reason, Detail: detail, LogTime: at.logTime,
	})
}

// again applies a parked call from the log, under its own position and tokens
// and by its own log time.
func (pa *partApplier) again(ctx context.Context, r wal.Ref) (poison, err error) {
	err = wal.ReadOne(ctx, pa.a.cfg.Log, r.Partition, r.Offset, func(e *wal.Entry) (err error) {
		poison, err = pa.entryAgain(ctx, r, e)
		return err
	})
	return poison, err
}

func (pa *partApplier) entryAgain(ctx context.Context, r wal.Ref, e *wal.Entry) (poison, err error) {
	var rec wal.Record
	var payload Payload
	if err := wal.DecodeRecord(e.Data, &rec); err != nil {
		return err, nil
	}
	if rec.Kind != wal.KindKV {
		return fmt.Errorf("a record of kind %s does not belong here", rec.Kind), nil
	}
	if err := DecodePayload(rec.Payload, &payload); err != nil {
		return err, nil
	}
	if r.Index == wal.WholeRecord {
		return pa.whole(ctx, &payload, &rec, e)
	}
	if r.Index >= len(payload.Calls) {
		return fmt.Errorf("the record has no call %d", r.Index), nil
	}
	settings, err := pa.a.cfg.Settings(rec.NamespaceVersion)
	if err != nil {
		return nil, err
	}
	return pa.tryCall(ctx, &payload.Calls[r.Index], &rec, r.Index, place{offset: e.Offset, logTime: e.LogTime, acceptedAt: rec.AcceptedAt, settings: settings})
}

// whole applies every call of a record that an earlier build could not read.
func (pa *partApplier) whole(ctx context.Context, payload *Payload, rec *wal.Record, e *wal.Entry) (poison, err error) {
	settings, err := pa.a.cfg.Settings(rec.NamespaceVersion)
	if err != nil {
		return nil, err
	}
	at := place{offset: e.Offset, logTime: e.LogTime, acceptedAt: rec.AcceptedAt, settings: settings}
	for i := range payload.Calls {
		if poison, err := pa.tryCall(ctx, &payload.Calls[i], rec, i, at); poison != nil || err != nil {
			return poison, err
		}
	}
	return nil, nil
}
