package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// view is a snapshot of one partition of a store, as a backend knows it.
type view interface {
	Close() error
}

// comparison is of one partition of two stores. b follows.
type comparison struct {
	p      wal.Partition
	a, b   view
	report *consumers.Report
	looked func(n int64) // is told how many items were compared since the last call
	// stores are those of the views, for a second look.
	stores [2]*store
}

// level returns once the store that follows has applied everything that the log has now.
func (c *comparison) level(ctx context.Context) error {
	b, err := c.stores[1].x.log.Bounds(ctx, c.p)
	if err != nil {
		return err
	}
	return c.stores[1].progress.Wait(ctx, c.p, b.End-1)
}

// watchBuilding waits until a store has applied what the log held when it began to
// look, says so in the registry, and has it compared.
func (x *space) watchBuilding(ctx context.Context, st *store) {
	for p := range wal.Partition(len(x.serving)) {
		if err := st.progress.Wait(ctx, p, x.progress.Applied(p)); err != nil {
			return // it stops, or has failed: that is told by its runner
		}
	}
	st.building.Store(false)
	next, events := namespace.Comparing, st.hasRole(namespace.EventsRole)
	if events {
		next = namespace.Serving
		st.servesEvents(true)
	}
	err := x.s.names.SetStore(ctx, x.ns.Name, st.name, func(l *namespace.StoreLife) bool {
		if l.Generation != st.generation || l.State != namespace.Building {
			return false
		}
		l.State = next
		return true
	})
	if err == nil && !events {
		x.s.jobs.compare(x, st)
	} else if err != nil && ctx.Err() == nil {
		x.s.log.Error("a store that has caught up is not compared", "namespace", x.ns.Name, "store", st.name, "reason", err)
	}
}

// compareStores compares a store that follows with the PRIMARY, each partition at
// one position. done is told how many items were compared since the last call.
func (x *space) compareStores(ctx context.Context, st *store, done func(n int64)) (*consumers.Report, error) {
	var all consumers.Report
	for p := range wal.Partition(len(x.serving)) {
		a := x.serves(p)
		if a == nil || a == st {
			return nil, apierrors.New(apierrors.StoreNotReady, "partition %d is being turned to another store; try again in a moment", p)
		}
		if err := x.comparePartition(ctx, p, a, st, &all, done); err != nil {
			return nil, fmt.Errorf("compare partition %d: %w", p, err)
		}
	}
	return &all, nil
}

func (x *space) comparePartition(ctx context.Context, p wal.Partition, a, b *store, all *consumers.Report, done func(n int64)) (err error) {
	part := b.loop.Part(p)
	if part == nil {
		return consumers.ErrNotAssigned
	}
	var va, vb view
	defer func() {
		for _, v := range []view{va, vb} {
			if v != nil {
				err = errors.Join(err, v.Close())
			}
		}
	}()
	// One that begins with a record that was just written may be ahead for a moment.
	if err := a.progress.Wait(ctx, p, b.progress.Applied(p)); err != nil {
		return err
	}
	var at wal.Offset
	err = consumers.AtOnePosition(ctx, part, func(ctx context.Context) (_ wal.Offset, err error) {
		va, at, err = a.backend.view(ctx, p)
		return at, err
	}, func(ctx context.Context, o wal.Offset) (err error) {
		if err := b.progress.Wait(ctx, p, o); err != nil {
			return err
		}
		var got wal.Offset
		if vb, got, err = b.backend.view(ctx, p); err == nil && got != o {
			err = fmt.Errorf("the store is at offset %d, and not at %d", got, o)
		}
		return err
	})
	if err != nil {
		return err
	}
	var r consumers.Report
	began := time.Now()
	paced := func(n int64) { // it takes half of the time, so that those who are served have theirs
		done(n)
		select {
		case <-time.After(time.Since(began)):
		case <-ctx.Done():
		}
		began = time.Now()
	}
	if err := a.backend.compare(ctx, &comparison{p: p, a: va, b: vb, report: &r, looked: paced, stores: [2]*store{a, b}}); err != nil {
		return err
	}
	all.Add(&r)
	return nil
}

// noteCompared keeps what a comparison found, if the store is still the one that was
// compared.
func (x *space) noteCompared(ctx context.Context, st *store, r *consumers.Report) error {
	if err := st.saveReport(r); err != nil {
		return err
	}
	return x.s.names.SetStore(ctx, x.ns.Name, st.name, func(l *namespace.StoreLife) bool {
		if l.Generation != st.generation || l.State == namespace.Failed {
			return false
		}
		l.Compared = &namespace.Compared{Items: r.Items, Differences: r.Differences}
		return true
	})
}

// reportFile is where the report of the last comparison of a store is, beside its
// directory.
func (st *store) reportFile() string { return st.dir + reportSuffix }

const reportSuffix = ".compared.json"

func (st *store) saveReport(r *consumers.Report) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = writeSynced(st.reportFile(), b)
	}
	if err != nil {
		return fmt.Errorf("save the report of store %s: %w", st.name, err)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.report = r
	return nil
}

// readReport takes up the report of an earlier process, where there is one. Without it
// a store is as good.
func (st *store) readReport() {
	b, err := os.ReadFile(st.reportFile())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var r consumers.Report
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		st.x.s.log.Warn("the report of a comparison cannot be read; compare the store again", "namespace", st.x.ns.Name, "store", st.name, "reason", err)
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.report = &r
}

// closeBehind is how many records a store may be behind the one that serves when
// the record that promotes it is appended: what is left is applied before a reader
// waits a tenth of a second.
const closeBehind = 500

// turn makes a store decide and serve every partition. It returns when all have
// turned. A crash in the middle is taken up by finishPromotion.
func (x *space) turn(ctx context.Context, to *store, by string) error {
	step := uint64(0)
	for p := range wal.Partition(len(x.serving)) {
		for _, st := range x.all() {
			s, err := st.ledger.State(ctx, p)
			if err != nil {
				return err
			}
			step = max(step, s.Step)
		}
	}
	step++
	for p := range wal.Partition(len(x.serving)) {
		if err := x.turnPartition(ctx, p, to, step, by); err != nil {
			return fmt.Errorf("partition %d: %w", p, err)
		}
	}
	return nil
}

func (x *space) turnPartition(ctx context.Context, p wal.Partition, to *store, step uint64, by string) error {
	from, err := x.awaitServing(ctx, p, func(st *store) bool { return st != nil })
	if err != nil || from == to {
		return err
	}
	for { // what the one has applied and not saved, the other cannot know
		if err := from.backend.save(ctx, p); err != nil {
			return err
		}
		if err := to.progress.Wait(ctx, p, from.savedOffset(p)); err != nil {
			return err
		}
		if x.progress.Applied(p)-to.progress.Applied(p) <= closeBehind {
			break
		}
	}
	payload, err := consumers.EncodeControl(&consumers.Control{Op: consumers.OpPromote, Store: to.name, Step: step, By: by})
	if err != nil {
		return err
	}
	rec := &wal.Record{Kind: wal.KindControl, AcceptedAt: x.s.broker.Now().UnixMicro(), NamespaceVersion: x.ns.Config().Version, Payload: payload}
	if _, err := x.ns.Stream.Append(ctx, p, rec); err != nil {
		return err
	}
	_, err = x.awaitServing(ctx, p, func(st *store) bool { return st == to })
	return err
}

// slowTurn is when a turn is worth a line in the log.
const slowTurn = 5 * time.Second

// describeParts says how far each store is in a partition, for the log.
func (x *space) describeParts(p wal.Partition) string {
	var out []string
	for _, st := range x.all() {
		if q := st.loop.Part(p); q != nil {
			state, reason := runnerState(st.runner)
			out = append(out, fmt.Sprintf("%s: %v (%s %s)", st.name, q, state, reason))
		} else {
			out = append(out, st.name+": not open")
		}
	}
	return fmt.Sprintf("%s; the log ends before %d", strings.Join(out, "; "), x.log.LastEnd(p).End)
}

// awaitServing waits until the store that answers for a partition, nil for none, is
// right.
func (x *space) awaitServing(ctx context.Context, p wal.Partition, right func(*store) bool) (*store, error) {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	slow := time.NewTimer(slowTurn)
	defer slow.Stop()
	for {
		st := x.serves(p)
		if right(st) {
			return st, nil
		}
		select {
		case <-t.C:
		case <-slow.C:
			x.s.log.Warn("a store does not take over yet", "namespace", x.ns.Name, "partition", uint32(p), "stores", x.describeParts(p))
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the store to take over: %w", ctx.Err())
		}
	}
}

// finishPromotion takes up a promotion that a crash has interrupted: where any
// partition has turned to another store than the registry's PRIMARY, all do.
func (x *space) finishPromotion(ctx context.Context, e *namespace.Entry) error {
	for p := range wal.Partition(len(x.serving)) {
		to, err := x.decides(ctx, p)
		if err != nil {
			return err
		}
		if to == nil || to.name == e.Config.Primary() {
			continue
		}
		x.s.log.Info("a promotion that was interrupted is finished", "namespace", e.Name, "store", to.name)
		return x.exchange(ctx, to, namespace.Retiring, "restart")
	}
	return nil
}

// decides is the store that decides a partition, as the stores have it saved; nil
// while the one that was promoted has not come to the record that says so.
func (x *space) decides(ctx context.Context, p wal.Partition) (best *store, err error) {
	var step uint64
	for _, st := range x.all() {
		s, err := st.ledger.State(ctx, p)
		if err != nil {
			return nil, err
		}
		if !s.Follows && (best == nil || s.Step > step) {
			best, step = st, s.Step
		}
	}
	return best, nil
}

// exchange turns every partition to a store, and the registry with them.
func (x *space) exchange(ctx context.Context, to *store, former namespace.StoreState, by string) error {
	if err := x.turn(ctx, to, by); err != nil {
		return err
	}
	if err := x.s.names.Exchange(ctx, x.ns.Name, to.name, former, by); err != nil {
		return err
	}
	e, ok := x.s.names.Get(x.ns.Name)
	if !ok {
		return namespace.ErrNotFound
	}
	for _, st := range x.all() {
		st.mu.Lock()
		st.role = storeConfig(e.Config, st.name).Role
		st.mu.Unlock()
	}
	x.configure(e) // with it the cache of the store that serves
	return x.failEvents(ctx, e, to)
}

// failEvents gives the store of role EVENTS up where it was built from other writes than the PRIMARY, as
// after a rebuild that left some out: a recount would find what the PRIMARY does not have.
func (x *space) failEvents(ctx context.Context, e *namespace.Entry, now *store) error {
	l, ok := e.Store(e.Config.Events())
	if !ok || l.State == namespace.Failed || reflect.DeepEqual(l.Left, now.left) {
		return nil
	}
	err := x.failStore(ctx, l.Name, l.Generation, fmt.Errorf("the PRIMARY, store %s, was built without writes that this one has", now.name))
	x.changedStores()
	return err
}
