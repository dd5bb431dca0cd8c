package server

import (
	"cmp"
	"context"
	"errors"
	"math"

	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/clickhousecounter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// remoteEvents is the ledger of a store whose events are in ClickHouse.
type remoteEvents struct {
	*pebblecounter.Store
	events *clickhousecounter.Events
}

// LogEndsAt is told by store.check.
func (r remoteEvents) LogEndsAt(p wal.Partition, end wal.Offset) { r.events.LogEndsAt(p, end) }

func (b *counterBackend) openRemote(cfg pebblestore.Config) (ledger, error) {
	conf := b.st.conf
	cluster, err := clusterOf[*clickhousestore.Cluster](b.st.x.s, conf.Cluster)
	if err != nil {
		return nil, err
	}
	events, err := clickhousecounter.Open(cfg.Dir, cluster, cmp.Or(conf.Dataset, b.st.x.entry.Name), int(cfg.Partitions))
	if err != nil {
		return nil, err
	}
	s, err := pebblecounter.Open(cfg)
	b.pebble, b.store, b.events = s, s, events
	return remoteEvents{s, events}, err
}

// countsFilledAtOnce is how many events of counters are sent together while a store is filled.
const countsFilledAtOnce = 100_000

// fill implements filler: the ledger is a copy of the PRIMARY's with its events, which go to
// ClickHouse and out of it.
func (b *counterBackend) fill(ctx context.Context, p wal.Partition, _ view) (err error) {
	snap, err := b.pebble.Snapshot(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return counter.MoveEvents(ctx, p, snap, b.pebble, b.events, countsFilledAtOnce)
}

// fold says which events the sweep of a partition takes into bases: old ones, and where a store of role
// EVENTS has them, all of them; none that such a store does not have.
func (b *counterBackend) fold(p wal.Partition) *counter.Fold {
	x := b.st.x
	f := &counter.Fold{Retention: x.ns.Config().Counter.EventRetention, UpTo: math.MaxInt64}
	e, ok := x.s.names.Get(x.entry.Name)
	if !ok {
		return f
	}
	life, ok := e.Store(e.Config.Events())
	if !ok || life.Name == b.st.name || life.State == namespace.Failed {
		return f
	}
	f.UpTo = wal.NoOffset
	if events := x.store(life.Name); events != nil && events.generation == life.Generation {
		f.UpTo, f.AtOnce = events.savedOffset(p), life.State == namespace.Serving
	}
	return f
}

// serveEvents has recounts answered from this store, or from the PRIMARY again.
func (b *counterBackend) serveEvents(on bool) {
	f := b.st.x.front.(*counterFront)
	if on {
		f.SetEvents(b.replica())
	} else {
		f.SetEvents(nil)
	}
}

// eventsServer is a backend whose store may have the role EVENTS.
type eventsServer interface{ serveEvents(on bool) }

// servesEvents has a store of role EVENTS answer from now on, or no more; it does nothing about others.
func (st *store) servesEvents(on bool) {
	if b, ok := st.backend.(eventsServer); ok && st.hasRole(namespace.EventsRole) {
		b.serveEvents(on)
	}
}
