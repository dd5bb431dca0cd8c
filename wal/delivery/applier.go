package delivery

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// ApplierConfig is what an Applier is made of.
type ApplierConfig struct {
	consumers.LoopConfig
	Store Store
	// Rules returns those of a namespace version. An error is transient: the record
	// waits until the version is known.
	Rules func(version uint64) (*Rules, error)
	// Accepted is told of the version that a record was accepted under before the record is applied; nil: nobody
	// delivers.
	Accepted func(version uint64)
	// Next is told of deliveries that may begin now, or have another time than before. In the
	// goroutine of the partition; nil: nobody delivers.
	Next func(p wal.Partition, next []Delivery)
}

// Rules are what a version of a namespace's document says of its messages. They are not changed.
type Rules struct {
	Window  time.Duration // of tokens
	Targets []Target
}

// Target is where messages may go, by a name of its own.
type Target struct {
	Name    string
	Ordered bool // the messages of a key one after the other
	Default bool // those too that name no target
	Parks   bool // see Aim
}

func (t *Target) aim() Aim { return Aim{Target: t.Name, Ordered: t.Ordered, Parks: t.Parks} }

// Aims are the targets of a message. names are known.
func (r *Rules) Aims(names []string) (as []Aim, err error) {
	for i := range r.Targets {
		if t := &r.Targets[i]; len(names) == 0 && t.Default {
			as = append(as, t.aim())
		}
	}
	for _, name := range names {
		i := slices.IndexFunc(r.Targets, func(t Target) bool { return t.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("the namespace has no target %.64q", name)
		}
		as = append(as, r.Targets[i].aim())
	}
	return as, nil
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
	cfg.Kinds = []wal.Kind{wal.KindMessage, wal.KindEnvelope, wal.KindDelivery}
	cfg.Machine = func(p *consumers.Part) consumers.Machine {
		m := &machine{a: a, p: p.Partition()}
		m.Batched = consumers.NewBatched(p, cfg.Store, cfg.Store.Begin, func() { m.used = nil })
		return m
	}
	a.Loop = consumers.NewLoop(cfg.LoopConfig)
	return a
}

// machine is the rules of one partition: a message counts unless its token was
// used before, and goes into the outbox where it has targets.
type machine struct {
	consumers.Batched[TokenEntry, Batch]
	a    *Applier
	p    wal.Partition
	used Batch // the open batch, where it has changed what waits
}

// outbox is the open batch, to change what waits.
func (m *machine) outbox() Batch {
	m.used = m.Open()
	return m.used
}

// Commit implements consumers.Machine.
func (m *machine) Commit(ctx context.Context, st *consumers.State) error {
	used := m.used
	err := m.Batched.Commit(ctx, st)
	if err == nil && used != nil && m.a.cfg.Next != nil {
		m.a.cfg.Next(m.p, used.Next())
	}
	return err
}

// Save implements consumers.Machine.
func (m *machine) Save(ctx context.Context, st *consumers.State) error { return m.Commit(ctx, st) }

// Record implements consumers.Machine.
func (m *machine) Record(ctx context.Context, r *consumers.Run) error {
	if m.a.cfg.Accepted != nil {
		m.a.cfg.Accepted(r.Record.NamespaceVersion)
	}
	if r.Record.Kind == wal.KindDelivery {
		return m.event(ctx, r)
	}
	keys := [1][]byte{r.Record.RoutingKey}
	return r.Call(ctx, 0, keys[:], func(ctx context.Context) error { return m.message(ctx, r) })
}

// Again implements consumers.Machine.
func (m *machine) Again(ctx context.Context, r *consumers.Run, _ int) error {
	return r.Guard(0, func() error { return m.message(ctx, r) })
}

func (m *machine) message(ctx context.Context, r *consumers.Run) error {
	rec := &r.Record
	body, err := DecodeBody(rec)
	if err != nil {
		return consumers.PoisonUnlessNewer(err)
	}
	rules, err := m.a.cfg.Rules(rec.NamespaceVersion)
	if err != nil {
		return err
	}
	aims, err := rules.Aims(body.Targets)
	if err != nil {
		return fmt.Errorf("%w: %w", consumers.ErrPoison, err)
	}
	if rec.Token.IsZero() { // it can have no copies
		m.add(r, &body, aims)
		return nil
	}
	id := wal.IDOf(rec.RoutingKey, rec.Token.Nonce)
	if rec.Origin == "" { // else its place has told, and it keeps the token that it was written with
		v, err := r.Judge(ctx, 0, rec.RoutingKey, rec.Token, id, rec.RequestHash, rules.Window.Microseconds())
		if err != nil || v != consumers.Fresh {
			return err
		}
	}
	if err := m.replace(ctx, r, &body); err != nil {
		return err
	}
	r.Changed()
	r.Observe(rec.Token.GenerationTime)
	m.SaveToken(id, &TokenEntry{ID: id, Hash: rec.RequestHash, Offset: r.Entry.Offset, LogTime: r.LogTime, Time: rec.Token.GenerationTime})
	r.CountApplied(1)
	m.add(r, &body, aims)
	return nil
}

// replace cancels what waits of the key of a message that comes in its place. The record must not have changed anything
// yet.
func (m *machine) replace(ctx context.Context, r *consumers.Run, body *Body) error {
	if !body.Replace {
		return nil
	}
	if err := r.Settled(ctx); err != nil { // what it replaces may be in the open batch
		return err
	}
	r.Changed()
	_, _, err := m.cancelAll(ctx, r, r.Record.RoutingKey)
	return err
}

// add puts a message that counts into the outbox.
func (m *machine) add(r *consumers.Run, body *Body, aims []Aim) {
	if len(aims) == 0 {
		return
	}
	r.Changed()
	rec := &r.Record
	p := &Pending{
		Offset: r.Entry.Offset, LogTime: r.LogTime, Due: body.Due(r.LogTime), Key: rec.RoutingKey, Keyless: Keyless(rec),
		Token: rec.Token, Payload: body.Payload, Headers: body.Headers, Aims: aims,
	}
	if from, is := r.Source(); is {
		p.Hops = from.Hops
	}
	m.outbox().Add(p)
}

// Sweep forgets the tokens that are out of the window, by log time, what ended before
// ended, in microseconds since 1970, and what died before dead. more: there is more of that. It runs in the
// partition's goroutine, between batches; see consumers.Runner.Do.
func (a *Applier) Sweep(
	ctx context.Context, p wal.Partition, window time.Duration, ended, dead int64,
) (more bool, err error) {
	part := a.Part(p)
	if part == nil {
		return false, consumers.ErrNotAssigned
	}
	horizon := part.State().LogTime - window.Microseconds()
	if part.Parking().Len() > 0 { // a parked record may be older than anything
		horizon = math.MinInt64
	}
	_, more, err = a.cfg.Store.Sweep(ctx, p, horizon, ended, dead)
	return more, err
}
