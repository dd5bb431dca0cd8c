package server

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/namespace"
)

// registryAge is how old what is known of the registry may be: rows of a store that another has taken the
// place of may be removed.
const registryAge = 5 * time.Second

// primaryRows reads what the PRIMARY of a namespace has in Cassandra, for a process that does not have the store.
type primaryRows[R any] struct {
	x    *space
	open func(c *cassandrastore.Cluster, dataset, life string, partitions int) (R, error)

	mu    sync.Mutex // guards what follows
	known time.Time  // when the registry was last read to its end
	place namespace.RowsPlace
	have  R
}

// reader is nil where the PRIMARY has nothing there that is known here.
func (o *primaryRows[R]) reader(ctx context.Context) (none R, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.known) > registryAge {
		now := time.Now()
		if err := o.x.s.names.ReachEnd(ctx); err != nil {
			return none, err
		}
		o.known = now
	}
	e, ok := o.x.s.names.Get(o.x.entry.Name)
	if !ok || e.Generation != o.x.entry.Generation {
		return none, namespace.ErrNotFound
	}
	l, ok := e.Store(e.Config.Primary())
	if !ok || l.Rows == nil {
		return none, nil
	}
	if o.place == *l.Rows {
		return o.have, nil
	}
	c, err := clusterOf[*cassandrastore.Cluster](o.x.s, l.Rows.Cluster)
	if errors.Is(err, errNoCluster) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	r, err := o.open(c, l.Rows.Dataset, l.Rows.Life, o.x.log.Info().Partitions)
	if err == nil {
		o.place, o.have = *l.Rows, r
	}
	return r, err
}

// nameRows has the registry say where the PRIMARY has its rows on another server, before it has any: each process that
// applies a part of the namespace writes to the same.
func (x *space) nameRows(ctx context.Context, life namespace.StoreLife) error {
	conf := storeConfig(x.entry.Config, life.Name)
	if x.holding == nil || conf.Type != cassandraType || life.Rows != nil {
		return nil
	}
	at := namespace.RowsPlace{Cluster: conf.Cluster, Dataset: cmp.Or(conf.Dataset, x.entry.Name)}
	mine, there, err := clusterstore.Read(x.storePath(life), clusterstore.Cassandra) // of an older build, which told later
	switch {
	case err != nil:
		return err
	case there:
		at = namespace.RowsPlace{Cluster: mine.Cluster, Dataset: mine.Dataset, Life: mine.Life}
	default:
		if at.Life, err = clusterstore.NewLife(); err != nil {
			return err
		}
	}
	return x.s.names.SetStore(ctx, x.entry.Name, life.Name, func(l *namespace.StoreLife) bool {
		if l.Generation != life.Generation || l.Rows != nil {
			return false
		}
		l.Rows = &at
		return true
	})
}

// placed is a store whose rows another process may read.
type placed interface{ Place() (dataset, life string) }

// rowsIn is the store of a backend whose rows another process may read; nil where it has none.
func rowsIn(b backend) placed {
	switch b := b.(type) {
	case *kvBackend:
		if b.cassandra != nil {
			return b.cassandra
		}
	case *counterBackend:
		if b.published != nil {
			return b.published
		}
	}
	return nil
}

// noteRows tells the registry where a store has its rows, for the gateways. It is tried again at the next
// opening.
func (x *space) noteRows(ctx context.Context, st *store) {
	s := rowsIn(st.backend)
	if s == nil {
		return
	}
	at := namespace.RowsPlace{Cluster: st.conf.Cluster}
	at.Dataset, at.Life = s.Place()
	err := x.s.names.SetStore(ctx, x.entry.Name, st.name, func(l *namespace.StoreLife) bool {
		if l.Generation != st.generation || l.Rows != nil && *l.Rows == at {
			return false
		}
		l.Rows = &at
		return true
	})
	if err != nil && ctx.Err() == nil {
		x.s.log.Warn("gateways are not told where a store has its rows, so they cannot read them while this process is away", "namespace", x.entry.Name, "store", st.name, "reason", err)
	}
}
