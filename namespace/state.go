package namespace

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// The bounds of a registry. They are decided in log order, so they are the same
// for everyone who reads it.
const (
	// MaxNamespaces is how many namespaces there can be at a time.
	MaxNamespaces = 10_000
	// MaxVersions is how many versions one life of a namespace can have.
	MaxVersions = 65_536
	// recentVersions is how many configurations of a life are kept in memory;
	// older ones are read from the log when they are asked for.
	recentVersions = 256
)

// Entry is a namespace as it is at one version of it. It is never changed once it
// has been handed out, and must not be changed by who holds it.
type Entry struct {
	Name    string
	Version uint64 // strictly rises with each change of the namespace
	// Generation counts the lives of the name; it is never used again.
	Generation uint64
	// Incarnation is that of the topic. A topic of the same name and another
	// incarnation is not this namespace's.
	Incarnation     wal.Incarnation
	Topic           string
	DeadLetterTopic string
	DecisionsTopic  string // see DecisionsTopicName
	ConsumersTopic  string // see ConsumersTopicName
	Config          *Config
	Document        string // as it was applied
	// UpdatedAt is the log time of the change.
	UpdatedAt time.Time
	By        string // who made the change, as far as it is known
	// Owner is the id of the data directory that holds the embedded PRIMARY, the home
	// of the namespace; empty when none has claimed it.
	Owner string
	// OwnerVersion is the version of the registry that Owner became so with; 0 when
	// nobody was yet.
	OwnerVersion uint64

	// Stores are the stores of the configuration, in its order, as they stand.
	Stores []StoreLife

	lastStore     uint64    // highest generation of a store of this life
	storesVersion uint64    // of the change that Stores was last changed by
	dropped       []string  // names of stores that were dropped, the newest last; at most maxDropped
	releases      []Release // of former owners, the newest last; at most maxReleases
	recent        []*Config // of this life, by version, the newest last; at most twice recentVersions
	accepted      []uint64  // every version of this life, rising
}

// tombstone remembers a name that was deleted, so that its generations are not
// used again and a watch can tell of it.
type tombstone struct {
	generation uint64 // the last
	version    uint64 // that the deletion is
}

// snapshot is the state of the registry after some record. It is immutable.
type snapshot struct {
	prefix  string // of topics
	version uint64 // offset + 1 of the last record applied
	names   map[string]*Entry
	dead    map[string]tombstone
	secret  []byte
	changed chan struct{} // closed when a later snapshot takes its place
}

// verdict is what became of a change, in log order.
type verdict struct {
	accepted bool
	version  uint64 // of the change, when it was accepted
	current  uint64 // of the name, when it was not; 0: absent
	err      error  // ErrLimit, or nil
}

// state is the registry as a machine over its log: the same records give the
// same state, whoever reads them. It is used by one goroutine.
type state struct {
	prefix  string // of topics
	version uint64
	names   map[string]*Entry
	dead    map[string]tombstone
	secret  []byte // of the cluster; see Registry.Secret
	dirty   bool   // names or dead differ from the last snapshot
}

func newState(prefix string) *state {
	return &state{prefix: prefix, names: make(map[string]*Entry), dead: make(map[string]tombstone)}
}

// snapshot returns the state as it is now. The maps are copied only when they
// have changed.
func (s *state) snapshot(before *snapshot) *snapshot {
	n := &snapshot{prefix: s.prefix, version: s.version, secret: s.secret, changed: make(chan struct{})}
	if before != nil && !s.dirty {
		n.names, n.dead = before.names, before.dead
		return n
	}
	n.names, n.dead = maps.Clone(s.names), maps.Clone(s.dead)
	s.dirty = false
	return n
}

// lastGeneration is the highest generation that name has had; 0 for a name
// that was never used.
func lastGeneration(names map[string]*Entry, dead map[string]tombstone, name string) uint64 {
	if e := names[name]; e != nil {
		return e.Generation
	}
	return dead[name].generation
}

// skip notes a record that changes nothing: a barrier.
func (s *state) skip(o wal.Offset) { s.version = uint64(o) + 1 }

// apply decides c, which stands at offset o and was appended at logTime.
func (s *state) apply(c *change, o wal.Offset, logTime int64) verdict {
	s.version = uint64(o) + 1
	if c.Op == opSecret {
		if s.secret != nil {
			return verdict{}
		}
		s.secret = c.Secret
		return verdict{accepted: true, version: s.version}
	}
	cur := s.names[c.Name]
	var current uint64
	if cur != nil {
		current = cur.Version
	}
	refused := verdict{current: current}
	switch c.Op {
	case opApply:
		if c.BaseVersion != current {
			return refused
		}
		if cur == nil {
			if c.Generation <= lastGeneration(s.names, s.dead, c.Name) {
				return refused // a topic that may be gone already, or belong to an earlier life
			}
			if len(s.names) >= MaxNamespaces {
				refused.err = fmt.Errorf("%w: %d namespaces", ErrLimit, MaxNamespaces)
				return refused
			}
		} else {
			if c.Generation != cur.Generation || c.Incarnation != cur.Incarnation.String() ||
				c.Config.Abstraction != cur.Config.Abstraction || c.Config.Partitions != cur.Config.Partitions {
				return refused // it would be another topic
			}
			if c.Stores != nil && c.StoresBefore != cur.storesVersion {
				return refused
			}
			if len(cur.accepted) >= MaxVersions {
				refused.err = fmt.Errorf("%w: %s has %d versions", ErrLimit, c.Name, MaxVersions)
				return refused
			}
		}
		s.put(c, cur, logTime)
	case opDelete:
		if cur == nil || c.BaseVersion != current || c.Generation != cur.Generation {
			return refused
		}
		delete(s.names, c.Name)
		s.dead[c.Name] = tombstone{generation: cur.Generation, version: s.version}
	case opOwner:
		if cur == nil || c.Generation != cur.Generation || cur.Owner != c.OwnerBefore || cur.OwnerVersion != c.BaseVersion {
			return refused
		}
		e := *cur
		e.turn(c, s.version, time.UnixMicro(logTime).UTC())
		s.names[c.Name] = &e
	case opStores:
		if cur == nil || c.Generation != cur.Generation || c.StoresBefore != cur.storesVersion {
			return refused
		}
		e := *cur
		e.setStores(c.Stores, s.version)
		s.names[c.Name] = &e
	}
	s.dirty = true
	return verdict{accepted: true, version: s.version}
}

// setStores replaces the lives of the stores at a version of the registry.
func (e *Entry) setStores(lives []StoreLife, version uint64) {
	e.noteDropped(e.Stores, lives)
	e.Stores, e.storesVersion = lives, version
	for i := range lives {
		e.lastStore = max(e.lastStore, lives[i].Generation)
	}
}

// put makes c the current version of its name. cur is what it follows, or nil.
func (s *state) put(c *change, cur *Entry, logTime int64) {
	inc, err := c.incarnation()
	if err != nil {
		panic(fmt.Sprintf("namespace: change was checked when it was decoded: %v", err))
	}
	cfg := *c.Config
	cfg.Version = s.version
	cfg.addLogStore()
	e := &Entry{
		Name: c.Name, Version: s.version, Generation: c.Generation, Incarnation: inc,
		Topic: TopicName(s.prefix, cfg.Abstraction, c.Name, c.Generation), DeadLetterTopic: DeadLetterTopicName(s.prefix, c.Name, c.Generation), DecisionsTopic: DecisionsTopicName(s.prefix, c.Name, c.Generation),
		ConsumersTopic: ConsumersTopicName(s.prefix, c.Name, c.Generation),
		Config:         &cfg, Document: c.Document, UpdatedAt: time.UnixMicro(logTime).UTC(), By: c.By,
	}
	if cur != nil {
		// The arrays are shared with cur and only grow beyond its length, which it
		// does not see; recent is copied when its front goes.
		e.Owner, e.OwnerVersion, e.releases = cur.Owner, cur.OwnerVersion, cur.releases
		e.recent, e.accepted = cur.recent, cur.accepted
		e.Stores, e.lastStore, e.storesVersion, e.dropped = cur.Stores, cur.lastStore, cur.storesVersion, cur.dropped
	}
	if c.Stores != nil {
		e.setStores(c.Stores, s.version)
	} else {
		lives, last := e.alive(e.Stores, e.lastStore, &cfg)
		if !slices.Equal(lives, e.Stores) {
			e.noteDropped(e.Stores, lives)
			e.Stores, e.lastStore, e.storesVersion = lives, last, s.version
		}
	}
	e.accepted = append(e.accepted, s.version)
	e.recent = append(e.recent, &cfg)
	if len(e.recent) > 2*recentVersions {
		e.recent = slices.Clone(e.recent[len(e.recent)-recentVersions:])
	}
	s.names[c.Name] = e
	delete(s.dead, c.Name)
}

// ChangedAt is the version of the registry that changed the namespace last, its
// configuration or its owner.
func (e *Entry) ChangedAt() uint64 { return max(e.Version, e.OwnerVersion) }

// at returns the configuration at version, when it is in memory; known says
// whether the life has had that version at all.
func (e *Entry) at(version uint64) (cfg *Config, known bool) {
	if version == e.Version {
		return e.Config, true
	}
	i := sort.Search(len(e.recent), func(i int) bool { return e.recent[i].Version >= version })
	if i < len(e.recent) && e.recent[i].Version == version {
		return e.recent[i], true
	}
	_, known = slices.BinarySearch(e.accepted, version)
	return nil, known
}

// garbage reports whether a topic of that name can never again be that of a
// living namespace: its generation has been passed or is current with another
// topic. Once true it stays true, because apply takes no generation twice.
func (s *snapshot) garbage(topic string) bool {
	name, generation, ok := parseTopicName(s.prefix, topic)
	if !ok || generation > lastGeneration(s.names, s.dead, name) {
		return false
	}
	e := s.names[name]
	return e == nil || !e.has(topic)
}

// has reports whether a topic is one of the namespace's.
func (e *Entry) has(topic string) bool {
	return topic == e.Topic || topic == e.DeadLetterTopic || topic == e.DecisionsTopic || topic == e.ConsumersTopic
}
