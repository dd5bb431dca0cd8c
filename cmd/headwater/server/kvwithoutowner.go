package server

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/cassandrakv"
	"github.com/headwater-db/headwater/namespace"
)

// kvWithoutOwner is the owner of a gateway's partitions. While it is away, a read that asks for no position is
// answered from the rows that it has written to Cassandra, where this process has the cluster.
type kvWithoutOwner struct {
	kv.Owner
	x *space

	mu     sync.Mutex // guards what follows
	known  time.Time  // when the registry was last read to its end
	place  namespace.RowsPlace
	reader *cassandrakv.Reader
}

// registryAge is how old what is known of the registry may be: rows of a store that another has taken the
// place of may be removed.
const registryAge = 5 * time.Second

// Get implements kv.Owner.
func (o *kvWithoutOwner) Get(ctx context.Context, q *kv.Query) (*kv.Page, error) {
	page, err := o.Owner.Get(ctx, q)
	if err == nil || !q.AnyAge || !errors.Is(err, consumers.ErrOwnerAway) {
		return page, err
	}
	r, openErr := o.rows(ctx)
	if r == nil || openErr != nil {
		return nil, errors.Join(err, openErr)
	}
	return r.Get(ctx, q)
}

// rows reads what the PRIMARY has on another server; nil where it has nothing there that is known here.
func (o *kvWithoutOwner) rows(ctx context.Context) (*cassandrakv.Reader, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if time.Since(o.known) > registryAge {
		now := time.Now()
		if err := o.x.s.names.ReachEnd(ctx); err != nil {
			return nil, err
		}
		o.known = now
	}
	e, ok := o.x.s.names.Get(o.x.entry.Name)
	if !ok || e.Generation != o.x.entry.Generation {
		return nil, namespace.ErrNotFound
	}
	l, ok := e.Store(e.Config.Primary())
	if !ok || l.Rows == nil {
		return nil, nil
	}
	if o.reader != nil && o.place == *l.Rows {
		return o.reader, nil
	}
	c, err := clusterOf[*cassandrastore.Cluster](o.x.s, l.Rows.Cluster)
	if errors.Is(err, errNoCluster) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := cassandrakv.NewReader(c, l.Rows.Dataset, l.Rows.Life, o.x.log.Info().Partitions)
	if err == nil {
		o.place, o.reader = *l.Rows, r
	}
	return r, err
}

// nameRows has the registry say where the PRIMARY has its rows on another server, before it has any: each process that
// applies a part of the namespace writes to the same.
func (x *space) nameRows(ctx context.Context, life namespace.StoreLife) error {
	conf := storeConfig(x.entry.Config, life.Name)
	if x.holding == nil || x.entry.Config.Abstraction != namespace.KV || conf.Type != cassandraType || life.Rows != nil {
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

// noteRows tells the registry where a store has its rows, for the gateways. It is tried again at the next
// opening.
func (x *space) noteRows(ctx context.Context, st *store) {
	b, ok := st.backend.(*kvBackend)
	if !ok {
		return
	}
	s, ok := b.items.(placed)
	if !ok {
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
