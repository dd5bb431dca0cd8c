package server

import (
	"sync"

	"github.com/headwater-db/headwater/kv/cassandrakv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// cached is a store on another server that can keep items on this machine.
type cached interface {
	SetCache(cfg *cassandrakv.CacheConfig) error
	CacheStats() cassandrakv.CacheStats
}

// caching is held while caches are turned on and off.
type caching struct{ sync.Mutex }

// setCaches turns the cache of the PRIMARY on as a configuration says, and those of others off.
func (x *space) setCaches(c *namespace.Config) {
	x.caching.Lock()
	defer x.caching.Unlock()
	for _, st := range x.all() {
		b, ok := st.backend.(*kvBackend)
		if !ok {
			continue
		}
		if err := b.setCache(c); err != nil {
			x.s.log.Error("a cache cannot be set up; reads go on without it", "namespace", x.entry.Name, "store", st.name, "reason", err)
		}
	}
}

// setCache turns the cache of a store on or off.
func (b *kvBackend) setCache(c *namespace.Config) error {
	s, ok := b.items.(cached)
	if !ok {
		return nil
	}
	conf := c.Cache()
	if conf == nil || !b.st.hasRole(primary) {
		return s.SetCache(nil)
	}
	return s.SetCache(&cassandrakv.CacheConfig{TTL: conf.TTL, MaxBytes: conf.MaxBytes})
}

// cacheStats are of the cache of a store; ok is false where it can have none.
func (st *store) cacheStats() (stats cassandrakv.CacheStats, ok bool) {
	b, ok := st.backend.(*kvBackend)
	if !ok {
		return stats, false
	}
	s, ok := b.items.(cached)
	if !ok {
		return stats, false
	}
	return s.CacheStats(), true
}

// cacheState tells of the cache of the PRIMARY: it is where the PRIMARY is.
func (st *store) cacheState() (state, reason string, g *wal.Progress) {
	stats, ok := st.cacheStats()
	switch {
	case !ok:
		return "idle", "the PRIMARY is on the machine itself", st.progress
	case !stats.On:
		return "stopped", "it could not be set up; see the process's log", st.progress
	}
	state, reason = runnerState(st.runner)
	return state, reason, st.progress
}

// cacheStats are of the cache of a namespace; ok is false where it can have none.
func (sp *spaces) cacheStats(name string) (stats cassandrakv.CacheStats, ok bool) {
	sp.mu.Lock()
	x := sp.open[name]
	sp.mu.Unlock()
	if x == nil {
		return stats, false
	}
	if st := x.primary(); st != nil {
		return st.cacheStats()
	}
	return stats, false
}
