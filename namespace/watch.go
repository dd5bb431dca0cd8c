package namespace

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// Event is one namespace as it is after a change of its configuration or its owner.
type Event struct {
	Name    string
	Version uint64 // of the registry: that of the change
	// Entry is nil when the namespace was deleted.
	Entry *Entry
}

// Watch yields every namespace that has changed after version since, by version,
// and goes on with the changes to come until ctx is done. since 0 begins with
// all that exist. No change is lost, however slow the reader: nothing is
// queued for it, it compares states. So of several changes of one name that it
// was too slow for it sees the last; a name that was deleted and made again
// meanwhile shows by its Generation.
//
// The error, last, is ErrStopped, ErrClosed, or ErrAhead when the registry has
// not had version since. An end of ctx is no error.
func (r *Registry) Watch(ctx context.Context, since uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if err := r.Reach(ctx, since); err != nil {
			if ctx.Err() == nil {
				yield(Event{}, err)
			}
			return
		}
		for {
			snap := r.snap.Load()
			for _, e := range snap.after(since) {
				if ctx.Err() != nil || !yield(e, nil) {
					return
				}
			}
			since = max(since, snap.version)
			select {
			case <-snap.changed:
			case <-ctx.Done():
				return
			case <-r.ended.Done():
				if r.snap.Load() != snap {
					continue // the last changes came in the same moment
				}
				yield(Event{}, r.Err())
				return
			}
		}
	}
}

// Reach returns once the registry is known to have had a version; ErrAhead when it
// has not, ErrStopped, ErrClosed.
func (r *Registry) Reach(ctx context.Context, version uint64) error {
	if version <= r.Version() {
		return nil
	}
	if err := r.Sync(ctx); err != nil { // another process may be ahead of this one
		return err
	}
	if now := r.Version(); version > now {
		return fmt.Errorf("watch from version %d: %w, which is at %d", version, ErrAhead, now)
	}
	return nil
}

// after returns what has changed since a version.
func (s *snapshot) after(since uint64) []Event {
	if since >= s.version {
		return nil
	}
	var es []Event
	for name, e := range s.names {
		if v := e.ChangedAt(); v > since {
			es = append(es, Event{Name: name, Version: v, Entry: e})
		}
	}
	if since > 0 {
		for name, t := range s.dead {
			if t.version > since {
				es = append(es, Event{Name: name, Version: t.version})
			}
		}
	}
	slices.SortFunc(es, func(a, b Event) int { return cmp.Compare(a.Version, b.Version) })
	return es
}

// At returns the configuration of a namespace at a version of its present life:
// what a record that was accepted under that version is applied by. Recent
// versions are in memory; older ones are read from the registry's log, and a
// version that this process has not reached is waited for.
// ErrNotFound: there is no such version.
func (r *Registry) At(ctx context.Context, name string, version uint64) (*Config, error) {
	if version > r.Version() {
		if err := r.Sync(ctx); err != nil {
			return nil, err
		}
	}
	e, ok := r.Get(name)
	if !ok {
		return nil, fmt.Errorf("%s: %w", quote(name), ErrNotFound)
	}
	cfg, known := e.at(version)
	if cfg != nil {
		return cfg, nil
	}
	if !known {
		return nil, fmt.Errorf("version %d of %s: %w", version, name, ErrNotFound)
	}
	r.cacheMu.Lock()
	cfg = r.cache[version]
	r.cacheMu.Unlock()
	if cfg != nil {
		return cfg, nil
	}
	cfg, err := r.readVersion(ctx, name, version)
	if err != nil {
		return nil, fmt.Errorf("read version %d of namespace %s: %w", version, name, err)
	}
	r.cacheMu.Lock()
	defer r.cacheMu.Unlock()
	if len(r.cache) >= cacheSize {
		for v := range r.cache { // any: the map's order is as good as another
			delete(r.cache, v)
			break
		}
	}
	r.cache[version] = cfg
	return cfg, nil
}

// readVersion reads the record that made a version. A version is the offset of
// its record plus one.
func (r *Registry) readVersion(ctx context.Context, name string, version uint64) (cfg *Config, err error) {
	o := wal.Offset(version) - 1
	var c *change
	err = wal.ReadOne(ctx, r.log, 0, o, func(e *wal.Entry) error {
		var rec wal.Record
		if err := wal.DecodeRecord(e.Data, &rec); err != nil {
			return err
		}
		c, err = decodeChange(rec.Payload)
		return err
	})
	if err != nil {
		return nil, err
	}
	if c.Op != opApply || c.Name != name {
		return nil, fmt.Errorf("%w: it is a %s of %s", ErrMalformed, c.Op, c.Name)
	}
	c.Config.Version = version
	return c.Config, nil
}
