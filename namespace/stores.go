package namespace

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// StoreState is where a store stands in its life.
type StoreState string

// The states of a store. It is BUILDING until it has caught up with the PRIMARY,
// then COMPARING; a promoted one is SERVING and the one that it took the place of
// RETIRING, which still follows. FAILED has a reason, and is not applied to.
const (
	Building  StoreState = "BUILDING"
	Comparing StoreState = "COMPARING"
	Serving   StoreState = "SERVING"
	Retiring  StoreState = "RETIRING"
	Failed    StoreState = "FAILED"
)

// EventsRole is the role of a store that keeps the events of counters: recounts are answered from it.
const EventsRole = "EVENTS"

// Events is the name of the store of role EVENTS; empty where the namespace has none.
func (c *Config) Events() string {
	for i := range c.Storage {
		if c.Storage[i].Role == EventsRole {
			return c.Storage[i].ID()
		}
	}
	return ""
}

// CacheRole is the role of what keeps items of a PRIMARY on another server on the machine that answers.
const CacheRole = "CACHE"

// Cache is the cache of the namespace, nil where it has none.
func (c *Config) Cache() *StoreConfig {
	for i := range c.Storage {
		if c.Storage[i].Role == CacheRole {
			return &c.Storage[i]
		}
	}
	return nil
}

// Applied are the stores that apply the log. A cache is a part of one.
func (e *Entry) Applied() []StoreLife {
	c := e.Config.Cache()
	if c == nil {
		return e.Stores
	}
	return slices.DeleteFunc(slices.Clone(e.Stores), func(l StoreLife) bool { return l.Name == c.ID() })
}

// StoreLife is a store of a namespace as the registry knows it.
type StoreLife struct {
	Name string `json:"name"`
	// Generation counts the stores of the namespace; it is never used again. It names
	// the store's directory.
	Generation uint64     `json:"generation"`
	State      StoreState `json:"state"`
	Message    string     `json:"message,omitempty"` // why it is FAILED, or differs
	// Compared is what the last comparison of this generation found; nil: none was
	// finished.
	Compared *Compared `json:"compared,omitempty"`
	// Rebuild: it is built from the log alone, and takes the place of the PRIMARY by
	// itself when it is equal.
	Rebuild bool `json:"rebuild,omitempty"`
	// Left is what a rebuild leaves out; nil: nothing. One that leaves anything out does
	// not take the place of the PRIMARY by itself.
	Left *LeftOut `json:"left,omitempty"`
	// Rows names what the store has on another server, for processes that read it there; nil: it is not known.
	Rows *RowsPlace `json:"rows,omitempty"`
}

// RowsPlace is where the rows of a store are: in a cluster by its name in the process configuration, under a
// dataset, a name for people, and a life, which no other store has.
type RowsPlace struct {
	Cluster string `json:"cluster"`
	Dataset string `json:"dataset"`
	Life    string `json:"life"`
}

// LeftOut is what a store was built without.
type LeftOut struct {
	// From is the first offset of each partition that counts; none: every record does.
	From []int64 `json:"from,omitempty"`
	// Omit are the nonces of tokens whose writes have no effect.
	Omit [][]byte `json:"omit,omitempty"`
}

// Waits reports whether a rebuild has come to an end that an operator has to decide on.
func (l *StoreLife) Waits() bool {
	return l.Compared != nil && (l.Compared.Differences > 0 || l.Left != nil)
}

// Compared is the end of a comparison.
type Compared struct {
	Items       int64 `json:"items"`
	Differences int64 `json:"differences"`
}

// Store returns a store's life.
func (e *Entry) Store(name string) (StoreLife, bool) {
	for i := range e.Stores {
		if e.Stores[i].Name == name {
			return e.Stores[i], true
		}
	}
	return StoreLife{}, false
}

// maxDropped is how many dropped stores of a namespace are remembered by name.
const maxDropped = 64

// noteDropped remembers the stores that are in before and not in after.
func (e *Entry) noteDropped(before, after []StoreLife) {
	for i := range before {
		if slices.ContainsFunc(after, func(l StoreLife) bool { return l.Name == before[i].Name }) {
			continue
		}
		e.dropped = append(slices.Clone(e.dropped), before[i].Name)
		e.dropped = e.dropped[max(0, len(e.dropped)-maxDropped):]
	}
}

// Dropped reports whether a store of the name was dropped from this life of the
// namespace, one of the last 64.
func (e *Entry) Dropped(store string) bool { return slices.Contains(e.dropped, store) }

// Primary is the name of the store of role PRIMARY; empty where the namespace has
// no store.
func (c *Config) Primary() string {
	for i := range c.Storage {
		if c.Storage[i].Role == primaryRole {
			return c.Storage[i].ID()
		}
	}
	return ""
}

// addLogStore gives a log namespace what a document of before it had a store lacks.
func (c *Config) addLogStore() {
	if c.Abstraction == Log && len(c.Storage) == 0 {
		c.Storage, c.DeadLetters = []StoreConfig{{Role: primaryRole, Type: "pebble"}}, defaultDeadLetters
	}
}

// alive are the stores of an entry whose configuration is c: those that it has had,
// as they were, and new ones that are building. The first PRIMARY serves at once.
func (e *Entry) alive(before []StoreLife, last uint64, c *Config) ([]StoreLife, uint64) {
	var out []StoreLife
	for i := range c.Storage {
		s := &c.Storage[i]
		at := slices.IndexFunc(before, func(l StoreLife) bool { return l.Name == s.ID() })
		if at >= 0 {
			out = append(out, before[at])
			continue
		}
		last++
		l := StoreLife{Name: s.ID(), Generation: last, State: Building}
		if s.Role == primaryRole || s.Role == CacheRole {
			l.State = Serving
		}
		out = append(out, l)
	}
	return out, last
}

// SetStore changes the life of one store of a namespace, in log order. change is
// given a copy of what is current and says whether it changed; it may be called
// again when another change came first. It does not change the namespace's version.
// Errors: ErrNotFound; those of Apply.
func (r *Registry) SetStore(ctx context.Context, name, store string, change func(l *StoreLife) bool) error {
	return r.setStores(ctx, name, func(e *Entry) (*storesChange, bool) {
		lives := slices.Clone(e.Stores)
		for i := range lives {
			if lives[i].Name == store {
				changed := change(&lives[i])
				return &storesChange{stores: lives}, changed
			}
		}
		return nil, false
	})
}

// Exchange makes a store the PRIMARY and the PRIMARY what that store was, in the
// document too, whose version rises. to serves from then on and the former PRIMARY
// is in state former. nil when it is done, now or already.
func (r *Registry) Exchange(ctx context.Context, name, to string, former StoreState, by string) error {
	return r.setStores(ctx, name, func(e *Entry) (*storesChange, bool) {
		from := e.Config.Primary()
		if from == to || e.Config.store(to) == nil {
			return nil, false
		}
		cfg := *e.Config
		cfg.Storage = slices.Clone(cfg.Storage)
		for i := range cfg.Storage {
			s := &cfg.Storage[i]
			switch id := s.ID(); id {
			case to:
				s.Name, s.Role, s.MaxLag = id, primaryRole, 0
			case from:
				s.Name, s.Role = id, "SHADOW"
			}
		}
		slices.SortStableFunc(cfg.Storage, func(a, b StoreConfig) int {
			return slices.Index(roleWords, a.Role) - slices.Index(roleWords, b.Role)
		})
		lives := slices.Clone(e.Stores)
		for i := range lives {
			switch lives[i].Name {
			case to:
				lives[i].State, lives[i].Rebuild = Serving, false
			case from:
				lives[i].State = former
			}
		}
		return &storesChange{stores: lives, config: &cfg, by: by}, true
	})
}

// MostEventBuckets is up to where event buckets are raised by themselves.
const MostEventBuckets = 64

// RaiseEventBuckets doubles the event buckets of new slices of a time-series namespace, in the document
// too, whose version rises, unless they are more than from already. nil when they are. Errors:
// ErrNotFound; those of Apply.
func (r *Registry) RaiseEventBuckets(ctx context.Context, name string, from int, by string) error {
	return r.setStores(ctx, name, func(e *Entry) (*storesChange, bool) {
		t := e.Config.TimeSeries
		if e.Config.Abstraction != TimeSeries || t.EventBuckets > from || t.EventBuckets >= MostEventBuckets {
			return nil, false
		}
		cfg := *e.Config
		cfg.TimeSeries.EventBuckets = min(2*t.EventBuckets, MostEventBuckets)
		return &storesChange{stores: e.Stores, config: &cfg, by: by}, true
	})
}

// DropStore takes a store that is not the PRIMARY out of the document, whose version
// rises. nil when it is out, now or already.
func (r *Registry) DropStore(ctx context.Context, name, store, by string) error {
	return r.setStores(ctx, name, func(e *Entry) (*storesChange, bool) {
		if e.Config.Primary() == store || e.Config.store(store) == nil {
			return nil, false
		}
		cfg := *e.Config
		cfg.Storage = slices.DeleteFunc(slices.Clone(cfg.Storage), func(s StoreConfig) bool { return s.ID() == store })
		lives := slices.DeleteFunc(slices.Clone(e.Stores), func(l StoreLife) bool { return l.Name == store })
		return &storesChange{stores: lives, config: &cfg, by: by}, true
	})
}

// ErrRebuilding: another rebuild of the namespace has not come to its end.
var ErrRebuilding = errors.New("another rebuild is there")

// BeginRebuild puts a SHADOW into the document, whose version rises, that takes the
// place of the PRIMARY when it is built; see StoreLife.Rebuild. It returns the store's
// name: rebuild, or rebuild-2 and so on where that is taken. A rebuild that has not
// taken its place yet and leaves out the same is returned instead; with another it is
// ErrRebuilding. left is what it leaves out; nil: nothing.
func (r *Registry) BeginRebuild(ctx context.Context, name string, left *LeftOut, by string) (store string, err error) {
	other := ""
	err = r.setStores(ctx, name, func(e *Entry) (*storesChange, bool) {
		for _, l := range e.Stores {
			if l.Rebuild && l.State != Failed {
				if store = l.Name; !reflect.DeepEqual(l.Left, left) {
					other = l.Name
				}
				return nil, false
			}
		}
		store = "rebuild"
		for n := 2; e.Config.store(store) != nil; n++ {
			store = fmt.Sprintf("rebuild-%d", n)
		}
		cfg := *e.Config
		like := *e.Config.store(e.Config.Primary())
		cfg.Storage = append(slices.Clone(cfg.Storage), StoreConfig{Name: store, Role: "SHADOW", Type: like.Type, Cluster: like.Cluster, Dataset: like.Dataset})
		lives, _ := e.alive(e.Stores, e.lastStore, &cfg)
		lives[len(lives)-1].Rebuild, lives[len(lives)-1].Left = true, left
		return &storesChange{stores: lives, config: &cfg, by: by}, true
	})
	if err == nil && other != "" {
		err = fmt.Errorf("%w: store %s", ErrRebuilding, other)
	}
	return store, err
}

// storesChange is what setStores proposes.
type storesChange struct {
	stores []StoreLife
	config *Config // nil: the namespace's version stays
	by     string
}

func (r *Registry) setStores(ctx context.Context, name string, f func(e *Entry) (*storesChange, bool)) error {
	if err := r.Sync(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		cur, ok := r.Get(name)
		if !ok {
			return fmt.Errorf("change the stores of %s: %w", quote(name), ErrNotFound)
		}
		x, changed := f(cur)
		if x == nil || !changed {
			return nil
		}
		c := &change{Op: opStores, Name: name, Generation: cur.Generation, StoresBefore: cur.storesVersion, Stores: x.stores}
		if x.config != nil {
			c.Op, c.BaseVersion, c.Incarnation = opApply, cur.Version, cur.Incarnation.String()
			c.Config, c.Document, c.By = x.config, x.config.Marshal(), clipBytes(x.by, maxByBytes)
		}
		v, err := r.propose(ctx, c)
		if err != nil {
			return err
		}
		if v.accepted {
			return nil
		}
		if attempt == maxAttempts {
			return &ConflictError{Name: name, Base: cur.Version, Current: v.current}
		}
	}
}
