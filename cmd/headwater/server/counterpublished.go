package server

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter/cassandracounter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/wal"
)

// openPublished opens a store of counters on this machine that is published to Cassandra.
func (b *counterBackend) openPublished(cfg pebblestore.Config) (ledger, error) {
	x, conf := b.st.x, b.st.conf
	cluster, err := clusterOf[*cassandrastore.Cluster](x.s, conf.Cluster)
	if err != nil {
		return nil, err
	}
	local, err := pebblecounter.OpenShared(cfg)
	if err != nil {
		return nil, err
	}
	place := b.st.registered()
	s, err := cassandracounter.New(cassandracounter.Config{
		Local: local, Dir: cfg.Dir, Partitions: cfg.Partitions, Cluster: cluster,
		Dataset: cmp.Or(place.Dataset, conf.Dataset, x.entry.Name), Life: place.Life, Yield: x.s.taking.yield,
	})
	if err != nil {
		return nil, errors.Join(err, local.Close())
	}
	b.pebble, b.store, b.published = local.Store, s, s
	if x.holding != nil {
		b.marks = decisions.NewMarks(x.decisions, x.claims, s, x.holding.epoch)
	}
	return local, nil
}

// goesOn implements taker.
func (b *counterBackend) goesOn() bool { return b.marks != nil }

// take implements taker.
func (b *counterBackend) take(ctx context.Context, p wal.Partition, s *decisions.Standing, start wal.Offset) error {
	if err := b.published.Take(ctx, p, s, start, b.st.x.claims); err != nil {
		return err
	}
	published := b.published.Published(p)
	if at := b.st.registered(); s.Marked && at.Life == s.Life {
		published = max(published, s.Applied)
	}
	b.marks.Applied(p, published)
	return nil
}

const (
	// publishEvery is how long what was counted waits to be published, or publishPause times as long as that took the last
	// time, up to publishMost: Cassandra has most of its time for others, and a counter that is added to meanwhile is written
	// once. What is not published is read from the log, at some hundred times the speed.
	publishEvery = time.Second
	publishPause = 4
	publishMost  = 30 * time.Second
	// reservationsKept is how long a reservation that has ended stays published beyond two token windows.
	reservationsKept = 24 * time.Hour
)

// publish publishes what a partition has counted, until ctx is done.
func (b *counterBackend) publish(ctx context.Context, p wal.Partition) {
	pause := publishEvery
	failed := ""
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		begin := time.Now()
		err := b.publishNow(ctx, p)
		pause = max(publishEvery, min(publishPause*time.Since(begin), publishMost))
		switch {
		case err == nil:
			failed = ""
		case ctx.Err() != nil || errors.Is(err, consumers.ErrClosed):
			return
		case err.Error() != failed:
			failed = err.Error()
			b.st.x.s.log.Warn("counters are not published; it is tried again, and the log has them", "namespace", b.st.x.ns.Name, "partition", uint32(p), "reason", err)
		}
	}
}

// publishNow publishes what is saved of a partition, if it is applied here and has come to what others have decided.
func (b *counterBackend) publishNow(ctx context.Context, p wal.Partition) error {
	part := b.applier.Part(p)
	if part == nil || !b.st.x.holds(p) || part.SavedOffset() < part.RepeatsTo() {
		return nil
	}
	to, err := b.published.Publish(ctx, p, 2*b.st.x.ns.Config().Tokens.Window+reservationsKept)
	if err == nil && b.marks != nil {
		b.marks.Applied(p, to)
	}
	return err
}

// publishAll publishes what was counted here, for who takes the partitions over: what is not is read from the log.
func (x *space) publishAll(ctx context.Context) {
	for _, st := range x.all() {
		b, ok := st.backend.(*counterBackend)
		if !ok || b.published == nil {
			continue
		}
		for p := range wal.Partition(x.log.Info().Partitions) {
			if err := b.publishNow(ctx, p); err != nil {
				x.s.log.Warn("counters were not published before they are handed over", "namespace", x.ns.Name, "partition", uint32(p), "reason", err)
			}
		}
	}
}
