package pebblecounter

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/rowcodec"
	"github.com/headwater-db/headwater/wal"
)

// Shared is a store that remembers what it has changed until that is published; see counter.SharedStore.
type Shared struct {
	*Store
	parts []sharedPart
	seq   atomic.Uint64 // of the last batch: another number at each start
}

var _ counter.SharedStore = (*Shared)(nil)

type sharedPart struct {
	mu     sync.Mutex // held by a commit, and while marks are removed
	shares atomic.Pointer[shares]
}

// shares is what is kept of a partition beside its state.
type shares struct {
	published wal.Offset // up to where everything is published
	wholeFrom wal.Offset // see counter.Beginning
	covered   wal.Offset // see counter.SharedStore
}

// OpenShared is Open of a store that is shared.
func OpenShared(cfg Config) (*Shared, error) {
	s, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	out := &Shared{Store: s, parts: make([]sharedPart, cfg.Partitions)}
	out.seq.Store(rand.Uint64())
	for p := range wal.Partition(cfg.Partitions) {
		v, err := s.DB.Value(pebblestore.AppendTable(nil, tableShares, p))
		if err == nil {
			err = out.load(p, v)
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return out, nil
}

func (s *Shared) load(p wal.Partition, v []byte) error {
	sh := &shares{published: wal.NoOffset, wholeFrom: wal.NoOffset, covered: wal.NoOffset}
	if v != nil {
		r, err := pebblestore.ReadValue("shares", v)
		if err != nil {
			return err
		}
		sh.published, sh.wholeFrom, sh.covered = wal.Offset(r.Int()), wal.Offset(r.Int()), wal.Offset(r.Int())
		if err := r.Done("shares"); err != nil {
			return err
		}
	}
	s.parts[p].shares.Store(sh)
	return nil
}

func setShares(w *pebble.Batch, p wal.Partition, sh *shares) error {
	v := pebblestore.AppendVersion(nil)
	for _, o := range [...]wal.Offset{sh.published, sh.wholeFrom, sh.covered} {
		v = binary.AppendVarint(v, int64(o))
	}
	return w.Set(pebblestore.AppendTable(nil, tableShares, p), v, nil)
}

// Covered implements counter.SharedStore.
func (s *Shared) Covered(p wal.Partition) wal.Offset { return s.parts[p].shares.Load().covered }

// Published is up to where everything of p is published, wal.NoOffset for nowhere.
func (s *Shared) Published(p wal.Partition) wal.Offset { return s.parts[p].shares.Load().published }

// WholeFrom: the windows of a life of p that began above it are all here; wal.NoOffset: all are.
func (s *Shared) WholeFrom(p wal.Partition) wal.Offset { return s.parts[p].shares.Load().wholeFrom }

// sharedBatch is a batch that marks what it changes.
type sharedBatch struct {
	batch
	s     *Shared
	value []byte // of every mark of the batch
	quiet bool   // it marks nothing
}

// Begin implements counter.Store.
func (s *Shared) Begin(p wal.Partition) counter.Batch { return s.begin(p) }

func (s *Shared) begin(p wal.Partition) *sharedBatch {
	return &sharedBatch{
		batch: batch{s.Store.ledger.Begin(p), p}, s: s, value: binary.BigEndian.AppendUint64(pebblestore.AppendVersion(nil), s.seq.Add(1)),
	}
}

// mark marks a change. The key is behind the table's and the kind's.
func (b *sharedBatch) mark(kind byte, key []byte) {
	if b.quiet || !b.Ready() {
		return
	}
	k := append(pebblestore.AppendTable(nil, tableUnpublished, b.p), kind)
	b.SetErr(b.W.Set(append(k, key...), b.value, nil))
}

// SaveCounter implements counter.Batch.
func (b *sharedBatch) SaveCounter(name []byte, r *counter.Row) {
	b.batch.SaveCounter(name, r)
	b.mark(ofCounter, name)
}

// DropCounter implements counter.Batch.
func (b *sharedBatch) DropCounter(name []byte) {
	b.batch.DropCounter(name)
	b.mark(ofCounter, name)
}

// Retire implements counter.Batch.
func (b *sharedBatch) Retire(id uint64, o wal.Offset) {
	b.batch.Retire(id, o)
	b.mark(ofRetired, binary.BigEndian.AppendUint64(nil, id))
}

// SaveReservation implements counter.Batch.
func (b *sharedBatch) SaveReservation(v *counter.Reservation) {
	b.batch.SaveReservation(v)
	b.mark(ofReservation, v.ID[:])
}

// ShareWindow implements counter.SharedBatch.
func (b *sharedBatch) ShareWindow(id uint64, size time.Duration, start int64, o wal.Offset, sum counter.Bucket) {
	if !b.Ready() {
		return
	}
	seconds, err := windowSeconds(size)
	if err != nil {
		b.SetErr(err)
		return
	}
	b.SetErr(b.W.Set(appendWindowPartKey(nil, b.p, id, seconds, start, o), rowcodec.AppendWindow(nil, &sum), nil))
}

// Commit implements consumers.Batch.
func (b *sharedBatch) Commit(ctx context.Context, st counter.State) error {
	if int64(b.p) < int64(len(b.s.parts)) {
		q := &b.s.parts[b.p]
		q.mu.Lock()
		defer q.mu.Unlock()
	}
	return b.batch.Commit(ctx, st)
}

// Publish forgets the changes of marks, which are published, unless they were made once more since; upTo is up to where
// everything is, wal.NoOffset where that has not changed. Survives kill -9.
func (s *Shared) Publish(ctx context.Context, p wal.Partition, marks []counter.Mark, upTo wal.Offset) error {
	if err := s.Enter(ctx, p); err != nil {
		return err
	}
	defer s.Leave()
	q := &s.parts[p]
	q.mu.Lock()
	defer q.mu.Unlock()
	sh := *q.shares.Load()
	err := s.DB.Change(func(w *pebble.Batch) error {
		for _, m := range marks {
			now, err := s.DB.Value(m.Key)
			if err != nil {
				return err
			}
			if string(now) != string(m.Value) {
				continue
			}
			if err := w.Delete(m.Key, nil); err != nil {
				return err
			}
		}
		if upTo == wal.NoOffset {
			return nil
		}
		sh.published = max(sh.published, upTo)
		return setShares(w, p, &sh)
	})
	if err == nil {
		q.shares.Store(&sh)
	}
	return err
}

// atOnce is how many rows of a copy are committed together.
const atOnce = 4096

// BeginAnew has a partition go on as at says, with what another process has had: nothing of before but tokens stays. A
// process that is killed meanwhile begins anew. Nobody applies the partition.
func (s *Shared) BeginAnew(ctx context.Context, p wal.Partition, at counter.Beginning, from counter.Copied) error {
	st, err := s.Saved(ctx, p)
	if err != nil {
		return err
	}
	st.Applied, st.Folded, st.Expiring = wal.NoOffset, wal.NoOffset, true
	if err := s.wipe(ctx, p, st, at); err != nil {
		return err
	}
	b := s.copying(p)
	defer func() { b.Abort() }()
	n := 0
	more := func() error {
		if n++; n%atOnce != 0 {
			return nil
		}
		err := b.Commit(ctx, st)
		b = s.copying(p)
		return err
	}
	err = from.Counters(ctx, func(name []byte, r *counter.Row) error {
		r.LastEvent = wal.NoOffset // its events are another process's
		b.SaveCounter(name, r)
		if r.ID != 0 {
			b.AddBase(r.ID, counter.Base{Cleared: true, Sum: r.Value})
		}
		return more()
	})
	if err != nil {
		return err
	}
	err = from.Reservations(ctx, func(v *counter.Reservation) error {
		b.SaveReservation(v)
		return more()
	})
	if err != nil {
		return err
	}
	st.State = consumers.State{
		Applied: at.Start - 1, LogTime: st.LogTime, MaxTime: st.MaxTime, FirstException: at.Start, Step: st.Step,
	}
	st.Folded = at.Start - 1
	return b.Commit(ctx, st)
}

// copying is a batch of what is published already.
func (s *Shared) copying(p wal.Partition) *sharedBatch {
	b := s.begin(p)
	b.quiet = true
	return b
}

// wipe removes all of a partition but its tokens.
func (s *Shared) wipe(ctx context.Context, p wal.Partition, st counter.State, at counter.Beginning) error {
	sh := &shares{published: wal.NoOffset, wholeFrom: at.WholeFrom, covered: at.Covered}
	b := s.begin(p)
	defer b.Abort()
	if b.Ready() {
		for _, table := range []byte{
			tableCounter, tableWindow, tableBase, tableRetired, tableGone, tableEvents, tableHeld, tableEnded, tableUnpublished,
			pebblestore.TableParked, pebblestore.TableParkedRef, pebblestore.TableException,
		} {
			lo, hi := pebblestore.Span(table, p)
			b.SetErr(b.W.DeleteRange(lo, hi, nil))
		}
		b.SetErr(setShares(b.W, p, sh))
	}
	if err := b.Commit(ctx, st); err != nil {
		return err
	}
	s.parts[p].shares.Store(sh)
	return nil
}
