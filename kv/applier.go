package kv

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
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
	// answer to another copy of the request. Nil when it is not known.
	DefaultTTL *time.Duration
}

// ApplierConfig is what an Applier is made of.
type ApplierConfig struct {
	Store    Store
	Log      wal.Log // read again when parked records are redriven
	Letters  consumers.DeadLetters
	Progress *wal.Progress
	// Settings returns the settings of a namespace version. An error is transient:
	// the record waits until the version is known.
	Settings func(version uint64) (Settings, error)
	// Clock learns of the times of versions, so that later ones are above; may be
	// nil.
	Clock *wal.Clock
	// MaxParked is how many records may wait behind one poisonous key before its
	// partition is held. Default 100,000.
	MaxParked int
}

// Applier applies the log to the store, one goroutine for each partition at a
// time. It is the one place that decides what a call did: the decision is saved
// in the same batch as the effect. It reads no clock but the log's.
type Applier struct {
	cfg   ApplierConfig
	parts []*partApplier
	stats Stats
}

// Stats counts decisions since the process started.
type Stats struct {
	Applied, Duplicates, Conflicts, TooOld, ConditionsFailed, Parked atomic.Int64
}

// partApplier is the state of one partition, owned by its goroutine.
type partApplier struct {
	a     *Applier
	p     wal.Partition
	state State
	batch Batch
	// calls of the open batch, which the store does not know yet
	pending map[wal.TokenID]TokenEntry
	uploads map[UploadID]StoredUpload
	record  wal.Record
	payload Payload
	// panicked are the calls that made this build panic: they are parked without
	// another try.
	panicked map[wal.Ref]error

	cursor []byte // of the sweep

	parking *consumers.Parking
}

// NewApplier loads where the store is and what is parked.
func NewApplier(ctx context.Context, cfg ApplierConfig) (*Applier, error) {
	if cfg.Clock == nil {
		cfg.Clock = &wal.Clock{}
	}
	a := &Applier{cfg: cfg}
	for i := range cfg.Log.Info().Partitions {
		p := wal.Partition(i)
		pa := &partApplier{a: a, p: p, panicked: make(map[wal.Ref]error)}
		pa.parking = a.newParking(pa)
		if err := pa.load(ctx); err != nil {
			return nil, err
		}
		a.parts = append(a.parts, pa)
		cfg.Progress.Advance(p, pa.state.Applied, pa.state.LogTime)
	}
	return a, nil
}

// Stats returns the counts of decisions; they may be read at any time.
func (a *Applier) Stats() *Stats { return &a.stats }

// Applied returns the offset that the partition's store is at.
func (a *Applier) Applied(p wal.Partition) wal.Offset { return a.parts[p].state.Applied }

// load reads the partition's state, forgetting what was not committed.
func (pa *partApplier) load(ctx context.Context) error {
	pa.drop()
	st, err := pa.a.cfg.Store.State(ctx, pa.p)
	if err != nil {
		return fmt.Errorf("read the state of partition %d: %w", pa.p, err)
	}
	queues, err := pa.a.cfg.Store.Parked(ctx, pa.p)
	if err != nil {
		return fmt.Errorf("read the parked records of partition %d: %w", pa.p, err)
	}
	pa.state = st
	pa.a.cfg.Clock.Observe(st.MaxTime)
	pa.parking.Load(queues)
	return nil
}

// drop gives the open batch up.
func (pa *partApplier) drop() {
	if pa.batch != nil {
		pa.batch.Abort()
		pa.batch = nil
	}
	pa.pending, pa.uploads = nil, nil
}

// Resume says where a partition goes on: the offset after the last one applied.
// It reads the store again, so after an error it is the way back to a state that
// is known.
func (a *Applier) Resume(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	if err := a.parts[p].load(ctx); err != nil {
		return wal.NoOffset, err
	}
	return a.parts[p].state.Applied + 1, nil
}

// maxBatch bounds the changes that are committed together, in records.
const maxBatch = 8192

// Apply applies entries of one partition, which follow what was applied before.
// On nil all of them are applied and saved, and the progress has advanced. On
// an error a part of them may be; call Resume before the next Apply.
// wal.ErrUnknownVersion, wal.ErrCorrupt: the partition cannot go on; anything
// else may pass.
func (a *Applier) Apply(ctx context.Context, p wal.Partition, entries []wal.Entry) error {
	pa := a.parts[p]
	for i := range entries {
		if err := pa.entry(ctx, &entries[i]); err != nil {
			pa.drop()
			return fmt.Errorf("apply partition %d offset %d: %w", p, entries[i].Offset, err)
		}
		if i%maxBatch == maxBatch-1 {
			if err := pa.commit(ctx); err != nil {
				return err
			}
		}
	}
	return pa.commit(ctx)
}

// entry applies one record and moves the state past it.
func (pa *partApplier) entry(ctx context.Context, e *wal.Entry) error {
	if pa.state.Applied >= 0 && e.Offset <= pa.state.Applied {
		return fmt.Errorf("offset %d is already applied (at %d)", e.Offset, pa.state.Applied)
	}
	pa.begin()
	logTime := max(pa.state.LogTime, e.LogTime)
	if err := pa.dispatch(ctx, e, logTime); err != nil {
		return err
	}
	pa.begin() // a decision may have committed
	pa.state.Applied, pa.state.LogTime = e.Offset, logTime
	return nil
}

func (pa *partApplier) dispatch(ctx context.Context, e *wal.Entry, logTime int64) error {
	rec := &pa.record
	if err := wal.DecodeRecord(e.Data, rec); err != nil {
		if errors.Is(err, wal.ErrUnknownVersion) {
			return err
		}
		key, keyErr := wal.RoutingKeyOf(e.Data)
		if keyErr != nil {
			key = nil
		}
		return pa.park(e, wal.WholeRecord, key, logTime, err)
	}
	switch rec.Kind {
	case wal.KindBarrier:
		return nil
	case wal.KindControl:
		return pa.parking.Control(ctx, e, rec, logTime)
	case wal.KindKV:
		return pa.calls(ctx, e, rec, logTime)
	default:
		return pa.park(e, wal.WholeRecord, rec.RoutingKey, logTime, fmt.Errorf("a record of kind %s does not belong here", rec.Kind))
	}
}

// calls applies the calls of a record, each by itself.
func (pa *partApplier) calls(ctx context.Context, e *wal.Entry, rec *wal.Record, logTime int64) error {
	if err := DecodePayload(rec.Payload, &pa.payload); err != nil {
		if errors.Is(err, wal.ErrUnknownVersion) {
			return err
		}
		return pa.park(e, wal.WholeRecord, rec.RoutingKey, logTime, err)
	}
	settings, err := pa.a.cfg.Settings(rec.NamespaceVersion)
	if err != nil {
		return err
	}
	at := place{offset: e.Offset, logTime: logTime, acceptedAt: rec.AcceptedAt, settings: settings}
	for i := range pa.payload.Calls {
		c := &pa.payload.Calls[i]
		if q := pa.queueOf(c); q != nil {
			if err := pa.parking.Enqueue(q, wal.Ref{Partition: pa.p, Offset: e.Offset, Index: i}); err != nil {
				return err
			}
			continue
		}
		if poison, err := pa.tryCall(ctx, c, rec, i, at); err != nil {
			return err
		} else if poison != nil {
			var key []byte
			if len(c.Mutations) > 0 {
				key = c.Mutations[0].ID
			}
			if err := pa.park(e, i, key, logTime, poison); err != nil {
				return err
			}
		}
	}
	return nil
}

func (pa *partApplier) begin() {
	if pa.batch == nil {
		pa.batch = pa.a.cfg.Store.Begin(pa.p)
		pa.pending = make(map[wal.TokenID]TokenEntry)
		pa.uploads = make(map[UploadID]StoredUpload)
	}
}

// commit saves the open batch with the state and lets reads see it.
func (pa *partApplier) commit(ctx context.Context) error {
	if pa.batch == nil {
		return nil
	}
	b := pa.batch
	pa.batch = nil
	defer b.Abort()
	// What is saved is not applied again, so its letters come first.
	if err := pa.parking.Flush(ctx); err != nil {
		pa.drop()
		return fmt.Errorf("partition %d: %w", pa.p, err)
	}
	if err := b.Commit(ctx, pa.state); err != nil {
		pa.drop()
		return fmt.Errorf("commit partition %d at %d: %w", pa.p, pa.state.Applied, err)
	}
	clear(pa.pending)
	clear(pa.uploads)
	pa.a.cfg.Clock.Observe(pa.state.MaxTime)
	pa.a.cfg.Progress.Advance(pa.p, pa.state.Applied, pa.state.LogTime)
	return nil
}

// flush commits what precedes the record in hand, so that a decision can read
// the store.
func (pa *partApplier) flush(ctx context.Context) error {
	if pa.batch != nil && pa.batch.Empty() {
		return nil
	}
	if err := pa.commit(ctx); err != nil {
		return err
	}
	pa.begin()
	return nil
}

// Sweep frees up to limit keys of what nobody can see any more, by log time. It
// runs in the partition's goroutine, between batches; see consumers.Runner.Do.
// more says that the round is not over.
func (a *Applier) Sweep(ctx context.Context, p wal.Partition, window time.Duration, limit int) (r SweepResult, more bool, err error) {
	pa := a.parts[p]
	req := SweepRequest{Partition: p, LogTime: pa.state.LogTime, Horizon: pa.state.LogTime - window.Microseconds(), Limit: limit, Cursor: pa.cursor}
	if pa.parking.Len() > 0 {
		req.Horizon = 0 // a parked record may be older than anything
	}
	if r, err = a.cfg.Store.Sweep(ctx, &req); err != nil {
		return r, false, fmt.Errorf("sweep partition %d: %w", p, err)
	}
	pa.cursor = r.Cursor
	return r, r.Cursor != nil, nil
}

// State returns what the store has saved of a partition. Only in the partition's
// goroutine.
func (a *Applier) State(p wal.Partition) State { return a.parts[p].state }
