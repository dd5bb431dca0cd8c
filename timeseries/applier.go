package timeseries

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// grace is how much later than the gateway log time may judge an event: the longest that
// a write is under way. Only what stood still for longer is refused after the log.
const grace = time.Minute

// refusedEvent is the exception of an event that log time refused. It has no Data.
const refusedEvent = consumers.FirstOwn

// ApplierConfig is what an Applier is made of.
type ApplierConfig struct {
	consumers.LoopConfig
	Store Store
	// Settings returns the settings of a namespace version. An error is transient: the
	// record waits until the version is known.
	Settings func(version uint64) (*Settings, error)
}

// Applier applies the log to the store: the loop that all abstractions share, with a
// machine for each partition.
type Applier struct {
	*consumers.Loop
	cfg ApplierConfig
}

// NewApplier returns an applier that has no partitions yet; see Loop.Assign.
func NewApplier(cfg ApplierConfig) *Applier {
	a := &Applier{cfg: cfg}
	cfg.Kinds = []wal.Kind{wal.KindTimeSeries}
	cfg.Machine = a.machine
	a.Loop = consumers.NewLoop(cfg.LoopConfig)
	return a
}

// machine is the rules of one partition.
type machine struct {
	consumers.Batched[TokenEntry, Batch]
	a *Applier
	p wal.Partition
	// slices are those of the store and of the open batch; nil: as the store has them.
	slices Slices
	call   Call
	items  []Item // scratch
	cursor []byte // of the sweep
}

func (a *Applier) machine(p *consumers.Part) consumers.Machine {
	m := &machine{a: a, p: p.Partition()}
	m.Batched = consumers.NewBatched(p, a.cfg.Store, a.cfg.Store.Begin, func() { m.slices = nil })
	return m
}

// known are the slices as of the record in hand.
func (m *machine) known() Slices {
	if m.slices == nil {
		m.slices = m.a.cfg.Store.Slices(m.p)
	}
	return m.slices
}

// Record implements consumers.Machine.
func (m *machine) Record(ctx context.Context, r *consumers.Run) error {
	set, err := m.open(r, &m.call)
	if err != nil {
		return err
	}
	if c := &m.call; c.Op == OpDelete {
		return r.Call(ctx, 0, [][]byte{c.Series}, func(ctx context.Context) error { return m.remove(ctx, r, c, set) })
	}
	return m.write(ctx, r, &m.call, set)
}

// Again implements consumers.Machine. Of a write that was parked in part the token was
// taken when the rest was applied.
func (m *machine) Again(ctx context.Context, r *consumers.Run, index int) error {
	var c Call
	set, err := m.open(r, &c)
	switch {
	case err != nil:
		return err
	case c.Op == OpDelete:
		return r.Guard(0, func() error { return m.remove(ctx, r, &c, set) })
	case index == wal.WholeRecord:
		return m.write(ctx, r, &c, set)
	case index >= len(c.events):
		return fmt.Errorf("%w: the record has no event %d", consumers.ErrPoison, index)
	}
	return r.Guard(index, func() error {
		m.event(r, index, &c.events[index], set)
		return nil
	})
}

// open decodes the record in hand, all of it, so that what follows cannot fail on its
// bytes.
func (m *machine) open(r *consumers.Run, c *Call) (*Settings, error) {
	err := DecodePayload(r.Record.Payload, c)
	for i := 0; err == nil && i < len(c.events); i++ {
		err = m.check(&c.events[i])
	}
	if errors.Is(err, wal.ErrUnknownVersion) {
		return nil, err
	}
	if err == nil && r.Record.Token.IsZero() {
		err = errors.New("a call without a token")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", consumers.ErrPoison, err)
	}
	return m.a.cfg.Settings(r.Record.NamespaceVersion)
}

// check refuses what the store's layout cannot hold.
func (m *machine) check(e *encoded) (err error) {
	if len(e.series) == 0 || len(e.series) > MaxSeriesBytes || len(e.id) == 0 || len(e.id) > MaxIDBytes {
		return fmt.Errorf("an event with a series of %d bytes and an id of %d", len(e.series), len(e.id))
	}
	m.items, err = DecodeItems(m.items[:0], e.items)
	return err
}

// write applies a call of events.
func (m *machine) write(ctx context.Context, r *consumers.Run, c *Call, set *Settings) (err error) {
	rec := &r.Record
	id := wal.CallIDOf(rec.RoutingKey, rec.Token.Nonce)
	v, err := r.Judge(ctx, wal.WholeRecord, rec.RoutingKey, rec.Token, id, rec.RequestHash, set.TokenWindow.Microseconds())
	if err != nil || v != consumers.Fresh {
		return err
	}
	index := wal.WholeRecord
	defer r.Recover(&index, &err)
	r.Changed()
	park, taken, refused := r.MayPark(), 0, 0
	for i := range c.events {
		e := &c.events[i]
		index = i
		if park {
			aside, err := m.aside(r, i, e)
			if err != nil {
				return err
			}
			if aside {
				continue
			}
		}
		if r.Omitted(rec.Token.Nonce) {
			continue
		}
		if m.event(r, i, e, set) {
			taken++
		} else {
			refused++
		}
	}
	r.Observe(rec.Token.GenerationTime)
	m.SaveToken(id, &TokenEntry{
		ID: id, Hash: rec.RequestHash, Offset: r.Entry.Offset, LogTime: r.LogTime, Time: rec.Token.GenerationTime, Refused: string(c.Refused),
	})
	r.CountApplied(int64(taken))
	r.CountRefused(int64(refused))
	return nil
}

// aside puts an event behind what is parked of its series, or parks it where it made
// this build panic.
func (m *machine) aside(r *consumers.Run, i int, e *encoded) (bool, error) {
	if aside, err := r.Aside(i, e.series); aside || err != nil {
		return aside, err
	}
	cause := r.Poisoned(i)
	if cause == nil {
		return false, nil
	}
	cause = fmt.Errorf("%w: %w", consumers.ErrPoison, cause)
	if r.Redriven {
		return false, cause
	}
	return true, r.Park(i, e.series, cause)
}

// event adds one event, or does not where log time says that it came too late: the
// gateway let it pass long ago.
func (m *machine) event(r *consumers.Run, i int, e *encoded, set *Settings) bool {
	in, found := m.known().Of(e.time)
	if !found {
		in = m.known().New(e.time, set)
	}
	why := Why(0)
	switch {
	case !r.Follows():
		why = set.judge(e.series, e.time, r.LogTime, r.SentAt(), in, grace)
	case r.Decision(i, refusedEvent) != nil:
		why = TooOld // whatever it was
	}
	if why != 0 {
		r.Except(i, refusedEvent, nil)
		r.Letter(i, e.series, "not_accepted", "the event reached the log outside of what the namespace accepts: "+why.String())
		return false
	}
	b := m.Open()
	if !found {
		b.AddSlice(in)
		m.slices = m.known().With(in)
	}
	b.AddEvent(Order{r.DecidedAt(), r.Entry.Offset, i}, in, e.series, e.time, e.id, e.items)
	return true
}

// remove deletes a series.
func (m *machine) remove(ctx context.Context, r *consumers.Run, c *Call, set *Settings) error {
	rec := &r.Record
	if len(c.Series) == 0 || len(c.Series) > MaxSeriesBytes {
		return fmt.Errorf("%w: a series of %d bytes", consumers.ErrPoison, len(c.Series))
	}
	id := wal.IDOf(c.Series, rec.Token.Nonce)
	v, err := r.Judge(ctx, 0, c.Series, rec.Token, id, rec.RequestHash, set.TokenWindow.Microseconds())
	if err != nil || v != consumers.Fresh {
		return err
	}
	r.Changed()
	if !r.Omitted(rec.Token.Nonce) {
		for _, x := range m.known() {
			m.Open().DeleteSeries(Order{r.DecidedAt(), r.Entry.Offset, 0}, x, c.Series)
		}
	}
	r.Observe(rec.Token.GenerationTime)
	m.SaveToken(id, &TokenEntry{ID: id, Hash: rec.RequestHash, Offset: r.Entry.Offset, LogTime: r.LogTime, Time: rec.Token.GenerationTime})
	r.CountApplied(1)
	return nil
}

// Sweep frees a part of what nobody can see any more, by log time: slices that are due
// to be dropped under set, series without events, tokens. It runs in the partition's
// goroutine, between batches; see consumers.Runner.Do. more says that the round is not
// over.
func (a *Applier) Sweep(ctx context.Context, p wal.Partition, set *Settings, limit int) (r SweepResult, more bool, err error) {
	part := a.Part(p)
	if part == nil {
		return r, false, consumers.ErrNotAssigned
	}
	m, st := part.Machine().(*machine), part.State()
	req := SweepRequest{Partition: p, Horizon: st.LogTime - set.TokenWindow.Microseconds(), Limit: limit, Cursor: m.cursor}
	req.Drop = func(x Slice) bool { return set.dropped(x, st.LogTime) }
	if part.Parking().Len() > 0 { // a parked record may be older than anything
		req.Horizon = 0
		req.Drop = func(Slice) bool { return false }
	}
	if r, err = a.cfg.Store.Sweep(ctx, &req); err != nil {
		return r, false, fmt.Errorf("sweep partition %d: %w", p, err)
	}
	m.cursor, m.slices = r.Cursor, nil
	return r, r.Cursor != nil, nil
}

// Due reports whether a slice of a partition is to be dropped by now, log time in
// microseconds since 1970. In the partition's goroutine.
func (a *Applier) Due(p wal.Partition, now int64, set *Settings) bool {
	for _, x := range a.cfg.Store.Slices(p) {
		if set.dropped(x, now) {
			return true
		}
	}
	return false
}

// String is the reason for people.
func (w Why) String() string {
	switch w {
	case TooOld:
		return "it is older than timeseries.accept_limit"
	case TooNew:
		return "it is further ahead than timeseries.accept_future"
	case Blocked:
		return "its series is in timeseries.blocked"
	case SliceClosed:
		return "its time slice is closed"
	}
	return "for no known reason"
}
