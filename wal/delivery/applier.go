package delivery

import (
	"context"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// ApplierConfig is what an Applier is made of.
type ApplierConfig struct {
	consumers.LoopConfig
	Store Store
	// Window returns the token window of a namespace version. An error is transient:
	// the record waits until the version is known.
	Window func(version uint64) (time.Duration, error)
}

// Applier decides which messages count: the loop that all abstractions share, with
// a machine for each partition.
type Applier struct {
	*consumers.Loop
	cfg ApplierConfig
}

// NewApplier returns an applier that has no partitions yet; see Loop.Assign.
func NewApplier(cfg ApplierConfig) *Applier {
	a := &Applier{cfg: cfg}
	cfg.Kinds = []wal.Kind{wal.KindMessage, wal.KindEnvelope}
	cfg.Machine = func(p *consumers.Part) consumers.Machine {
		return &machine{consumers.NewBatched(p, cfg.Store, cfg.Store.Begin, nil), a}
	}
	a.Loop = consumers.NewLoop(cfg.LoopConfig)
	return a
}

// machine is the rules of one partition: a message counts unless its token was
// used before.
type machine struct {
	consumers.Batched[TokenEntry, Batch]
	a *Applier
}

// Record implements consumers.Machine.
func (m *machine) Record(ctx context.Context, r *consumers.Run) error {
	keys := [1][]byte{r.Record.RoutingKey}
	return r.Call(ctx, 0, keys[:], func(ctx context.Context) error { return m.message(ctx, r) })
}

// Again implements consumers.Machine.
func (m *machine) Again(ctx context.Context, r *consumers.Run, _ int) error {
	return r.Guard(0, func() error { return m.message(ctx, r) })
}

func (m *machine) message(ctx context.Context, r *consumers.Run) error {
	rec := &r.Record
	if _, err := DecodeBody(rec); err != nil {
		return consumers.PoisonUnlessNewer(err)
	}
	if rec.Token.IsZero() { // it can have no copies
		return nil
	}
	window, err := m.a.cfg.Window(rec.NamespaceVersion)
	if err != nil {
		return err
	}
	id := wal.IDOf(rec.RoutingKey, rec.Token.Nonce)
	v, err := r.Judge(ctx, 0, rec.RoutingKey, rec.Token, id, rec.RequestHash, window.Microseconds())
	if err != nil || v != consumers.Fresh {
		return err
	}
	r.Changed()
	r.Observe(rec.Token.GenerationTime)
	m.SaveToken(id, &TokenEntry{ID: id, Hash: rec.RequestHash, Offset: r.Entry.Offset, LogTime: r.LogTime, Time: rec.Token.GenerationTime})
	r.CountApplied(1)
	return nil
}

// Sweep forgets the tokens that are out of the window, by log time. It runs in the
// partition's goroutine, between batches; see consumers.Runner.Do.
func (a *Applier) Sweep(ctx context.Context, p wal.Partition, window time.Duration) error {
	part := a.Part(p)
	if part == nil {
		return consumers.ErrNotAssigned
	}
	if part.Parking().Len() > 0 { // a parked record may be older than anything
		return nil
	}
	_, err := a.cfg.Store.Sweep(ctx, p, part.State().LogTime-window.Microseconds())
	return err
}
