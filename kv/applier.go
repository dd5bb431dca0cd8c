package kv

import (
	"context"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Settings are the parts of a namespace's configuration that decide what a
// record does. A record is applied under the version it was accepted under.
type Settings struct {
	TokenWindow time.Duration
	// DefaultTTL is the time to live that items put without one got, 0 for none.
	// Their expiries are in the record; this is remembered with the token, for the
	// answer to another copy of the request.
	DefaultTTL time.Duration
}

// ApplierConfig is what an Applier is made of.
type ApplierConfig struct {
	consumers.LoopConfig
	Store Store
	// Settings returns the settings of a namespace version. An error is transient:
	// the record waits until the version is known.
	Settings func(version uint64) (Settings, error)
}

// Applier applies the log to the store: the loop that all abstractions share, with
// a machine for each partition. The decision on a call is saved in the same batch
// as its effect.
type Applier struct {
	*consumers.Loop
	cfg ApplierConfig
}

// NewApplier returns an applier that has no partitions yet; see Loop.Assign.
func NewApplier(cfg ApplierConfig) *Applier {
	a := &Applier{cfg: cfg}
	cfg.Kinds = []wal.Kind{wal.KindKV}
	cfg.Machine = a.machine
	a.Loop = consumers.NewLoop(cfg.LoopConfig)
	return a
}

// machine is the rules of one partition.
type machine struct {
	consumers.Batched[TokenEntry, Batch]
	a *Applier
	p wal.Partition
	// uploads of the open batch, which the store does not know yet
	uploads map[UploadID]StoredUpload
	payload Payload
	cursor  []byte // of the sweep
}

func (a *Applier) machine(p *consumers.Part) consumers.Machine {
	m := &machine{a: a, p: p.Partition(), uploads: make(map[UploadID]StoredUpload)}
	m.Batched = consumers.NewBatched(p, a.cfg.Store, a.cfg.Store.Begin, func() { clear(m.uploads) })
	return m
}

// Record implements consumers.Machine: each call is decided by itself.
func (m *machine) Record(ctx context.Context, r *consumers.Run) error {
	if err := DecodePayload(r.Record.Payload, &m.payload); err != nil {
		return consumers.PoisonUnlessNewer(err)
	}
	settings, err := m.a.cfg.Settings(r.Record.NamespaceVersion)
	if err != nil {
		return err
	}
	var ids [][]byte
	for i := range m.payload.Calls {
		if len(m.payload.Calls) > 1 && m.payload.Calls[i].decided() {
			return fmt.Errorf("%w: call %d has a condition and is not alone in its record", consumers.ErrPoison, i)
		}
	}
	for i := range m.payload.Calls {
		c := &m.payload.Calls[i]
		ids = ids[:0]
		for j := range c.Mutations {
			ids = append(ids, c.Mutations[j].ID)
		}
		err := r.Call(ctx, i, ids, func(ctx context.Context) error { return m.call(ctx, r, i, c, &settings) })
		if err != nil {
			return err
		}
	}
	return nil
}

// Again implements consumers.Machine.
func (m *machine) Again(ctx context.Context, r *consumers.Run, index int) error {
	var payload Payload
	if err := DecodePayload(r.Record.Payload, &payload); err != nil {
		return consumers.PoisonUnlessNewer(err)
	}
	settings, err := m.a.cfg.Settings(r.Record.NamespaceVersion)
	if err != nil {
		return err
	}
	from, to := index, index+1
	if index == wal.WholeRecord {
		from, to = 0, len(payload.Calls)
	}
	if to > len(payload.Calls) {
		return fmt.Errorf("%w: the record has no call %d", consumers.ErrPoison, index)
	}
	for i := from; i < to; i++ {
		err := r.Guard(i, func() error { return m.call(ctx, r, i, &payload.Calls[i], &settings) })
		if err != nil {
			return err
		}
	}
	return nil
}

// Sweep frees up to limit keys of what nobody can see any more, by log time. It
// runs in the partition's goroutine, between batches; see consumers.Runner.Do.
// more says that the round is not over.
func (a *Applier) Sweep(ctx context.Context, p wal.Partition, window time.Duration, limit int) (r SweepResult, more bool, err error) {
	part := a.Part(p)
	if part == nil {
		return r, false, consumers.ErrNotAssigned
	}
	m, st := part.Machine().(*machine), part.State()
	req := SweepRequest{Partition: p, LogTime: st.LogTime, Horizon: st.LogTime - window.Microseconds(), Limit: limit, Cursor: m.cursor}
	if part.Parking().Len() > 0 {
		req.Horizon = 0 // a parked record may be older than anything
	}
	if r, err = a.cfg.Store.Sweep(ctx, &req); err != nil {
		return r, false, fmt.Errorf("sweep partition %d: %w", p, err)
	}
	m.cursor = r.Cursor
	return r, r.Cursor != nil, nil
}
