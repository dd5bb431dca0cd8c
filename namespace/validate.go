package namespace

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// validate checks what no single value shows: what must be there, what belongs
// together, and what this build does not act on. A setting that would do
// nothing is refused, so that nobody relies on it.
func (w *walker) validate(d *Document) {
	c := d.Config
	if !w.sets("namespace") {
		w.problem(0, "namespace", "", "is missing")
	} else if err := CheckName(c.Name); err != nil && !w.reported("namespace") {
		w.at("namespace", "", "%s", err)
	}
	if !w.sets("abstraction") {
		w.problem(0, "abstraction", "", "is missing; it takes one of %s", strings.Join(abstractionWords, ", "))
	}
	switch c.Abstraction {
	case KV, Counter, Log, TimeSeries:
		w.validateBuild(d)
	}
	w.validateBlocks(c.Abstraction)
	w.validateTokens(c)
	w.validateObjective("slo.read", c.SLO.Read)
	w.validateObjective("slo.write", c.SLO.Write)
	w.validateStorage(c)
	if c.Abstraction == Counter {
		w.validateCounter(&c.Counter)
	}
	if l := &c.Lifecycle; c.Abstraction == TimeSeries && l.DeleteAfter > 0 && l.DeleteAfter < l.CloseAfter {
		w.at("lifecycle.delete_after", formatDuration(l.CloseAfter), "a slice is dropped when it is closed or later; close_after is %s", formatDuration(l.CloseAfter))
	}
	for i, k := range c.TimeSeries.Index {
		if slices.Contains(c.TimeSeries.Index[:i], k) {
			w.at(fmt.Sprintf("timeseries.index[%d]", i), "", "names %s twice", quote(k))
		}
	}
	if len(d.Access) > 0 {
		w.at("access", "", "this build does not authenticate callers, so nobody could be kept out; leave access out")
	}
}

// reported says that the value at path is already known to be wrong.
func (w *walker) reported(path string) bool {
	return slices.ContainsFunc(w.problems, func(p Problem) bool { return p.Path == path })
}

// validateBlocks refuses the block of another abstraction.
func (w *walker) validateBlocks(a Abstraction) {
	if a == "" {
		return // nothing to compare with; that is reported
	}
	for block, of := range map[string]Abstraction{"kv": KV, "counter": Counter, "timeseries": TimeSeries, "lifecycle": TimeSeries, "delivery": Log} {
		if w.sets(block) && of != a {
			w.at(block, "", "belongs to the abstraction %s; this namespace is %s", of, a)
		}
	}
}

// validateBuild refuses what an abstraction will act on one day.
func (w *walker) validateBuild(d *Document) {
	c := d.Config
	switch {
	case c.Durability == "buffered" && c.Abstraction == Counter:
		w.at("log.durability", "sync", "adds are buffered by counter.accuracy: best_effort, and everything else is sync")
	case c.Durability == "buffered":
		w.at("log.durability", "", "buffered is not in this build; use sync")
	}
	if c.Abstraction != Log {
		return
	}
	if w.sets("slo") {
		w.at("slo", "", "a log namespace does not act on it; leave it out")
	}
}

func (w *walker) validateTokens(c *Config) {
	t := c.Tokens
	least := t.MaxDriftPast + t.MaxDriftFuture + maxDeadline
	if t.Window >= least {
		return
	}
	path, suggestion := "tokens.window", formatDuration(least)
	if !w.sets(path) {
		path = "tokens.max_drift_past"
		if !w.sets(path) {
			path = "tokens.max_drift_future"
		}
		suggestion = ""
	}
	if least > maxWindow {
		suggestion = ""
	}
	if w.reported(path) {
		return
	}
	reason := fmt.Sprintf("the window is %s; max_drift_past + max_drift_future + %s (the longest deadline) is %s, and a token must be remembered for that long",
		formatDuration(t.Window), formatDuration(maxDeadline), formatDuration(least))
	w.at(path, suggestion, "%s", reason)
}

func (w *walker) validateObjective(path string, o Objective) {
	if o.Max != 0 && o.Target > o.Max {
		w.at(path+".target", "", "%s is above max, which is %s", formatDuration(o.Target), formatDuration(o.Max))
	}
}

func (w *walker) validateStorage(c *Config) {
	if c.Abstraction == "" || w.reported("storage") {
		return
	}
	primaries, events, caches := 0, 0, 0
	names := make(map[string]bool, len(c.Storage))
	for i := range c.Storage {
		s := &c.Storage[i]
		path := fmt.Sprintf("storage[%d]", i)
		switch id := s.ID(); {
		case s.Name != "" && !nameRE.MatchString(s.Name):
			w.at(path+".name", "", "%s is not a store's name; it takes 1 to 48 of a-z, 0-9 and -, beginning with a letter", quote(s.Name))
		case names[id] && s.Role != "PRIMARY":
			w.at(path+".name", "", "there is a store %s already; give each a name of its own", id)
		default:
			names[id] = true
		}
		switch {
		case s.Role == "" && !w.reported(path) && !w.reported(path+".role"):
			w.at(path+".role", "", "is missing; it takes one of %s", strings.Join(roleWords, ", "))
		case s.Role == "PRIMARY":
			if primaries++; primaries == 2 {
				w.at(path+".role", "", "there is a PRIMARY already; a namespace has exactly one")
			}
		case s.Role == EventsRole && c.Abstraction == Counter:
			if events++; events == 2 {
				w.at(path+".role", "", "there is a store of role EVENTS already; a namespace has one at most")
			}
		case s.Role == CacheRole && c.Abstraction == KV:
			if caches++; caches == 2 {
				w.at(path+".role", "", "there is a CACHE already; a namespace has one at most")
			}
			if !slices.ContainsFunc(c.Storage, func(o StoreConfig) bool { return o.Type == "cassandra" }) {
				w.at(path+".role", "", "a cache is of a store on another server, and the namespace has none; a pebble store is on the machine itself")
			}
		case s.Role == "SHADOW" && c.Abstraction != Log:
		case s.Role == "SHADOW":
			w.at(path+".role", "", "a log namespace has one store, its PRIMARY: it remembers tokens, and is made again from the log")
		case s.Role != "":
			w.at(path+".role", "", "role %s is not in this build of %s; it has %s", s.Role, c.Abstraction, rolesOf[c.Abstraction])
		}
		switch {
		case s.Role == CacheRole && s.Type != "pebble" && s.Type != "":
			w.at(path+".type", "", "a cache is on the machine itself: it takes pebble")
		case s.Type == "" && !w.reported(path) && !w.reported(path+".type"):
			w.at(path+".type", "", "is missing; it takes one of %s", strings.Join(typeWords, ", "))
		case s.Type == "clickhouse" && c.Abstraction == KV:
			w.at(path+".type", "", "clickhouse does not store kv; this build has pebble and cassandra for it")
		case s.Type == "cassandra" && c.Abstraction == Counter && (s.Role != "PRIMARY" || len(c.Storage) > 1):
			w.at(path+".type", "", "counters in Cassandra are the one store of their namespace, its PRIMARY, in this build; leave the others out")
		case s.Type == "cassandra" && (c.Abstraction == KV || c.Abstraction == Counter):
			w.validateCluster(path, s)
		case s.Type == "clickhouse" && (c.Abstraction == TimeSeries || s.Role == EventsRole):
			w.validateCluster(path, s)
		case s.Type == "clickhouse" && c.Abstraction == Counter:
			w.at(path+".type", "", "clickhouse stores the events of counters, in role EVENTS, and not the counters; this build has pebble and cassandra for them")
		case s.Type == "cassandra", s.Type == "clickhouse":
			w.at(path+".type", "", "type %s is not in this build; it has pebble", s.Type)
		case s.Type == "pebble" && s.Cluster != "":
			w.at(path+".cluster", "", "a pebble store is on the machine itself and has no cluster; leave it out")
		case s.Type == "pebble" && s.Dataset != "":
			w.at(path+".dataset", "", "a pebble store is on the machine itself and has no dataset; leave it out")
		}
		if w.sets(path+".max_lag") && s.Role == "PRIMARY" {
			w.at(path+".max_lag", "", "belongs to a store that follows; the log is always held for the PRIMARY")
		}
		if w.sets(path+".max_lag") && s.Role == CacheRole {
			w.at(path+".max_lag", "", "belongs to a store that applies the log; a cache holds none of it")
		}
		if w.sets(path+".max_bytes") && s.Role != CacheRole && s.Role != "" {
			w.at(path+".max_bytes", "", "belongs to role CACHE; log.max_bytes bounds what waits for a store")
		}
		if w.sets(path+".ttl") && s.Role != CacheRole && s.Role != "" {
			w.at(path+".ttl", "", "belongs to role CACHE; %s", map[Abstraction]string{
				KV: "items expire by kv.default_ttl", Counter: "counters expire by counter.ttl", Log: "the log is kept for log.retention", TimeSeries: "events expire by lifecycle",
			}[c.Abstraction])
		}
	}
	if primaries == 0 && !slices.ContainsFunc(w.problems, func(p Problem) bool {
		return strings.HasPrefix(p.Path, "storage[") && (strings.HasSuffix(p.Path, ".role") || strings.HasSuffix(p.Path, "]"))
	}) {
		w.at("storage", "", "has no PRIMARY; a namespace has exactly one")
	}
}

// rolesOf are the roles that this build has, of each abstraction.
var rolesOf = map[Abstraction]string{KV: "PRIMARY, SHADOW and CACHE", Counter: "PRIMARY, SHADOW and EVENTS", TimeSeries: "PRIMARY and SHADOW", Log: "PRIMARY"}

// validateCluster checks where a store of another server is.
func (w *walker) validateCluster(path string, s *StoreConfig) {
	kind, known := w.clusters[s.Cluster]
	switch {
	case s.Cluster == "":
		w.at(path+".cluster", "", "is missing; it takes the name of a cluster of the process's configuration")
	case w.clusters == nil, known && kind == s.Type:
	case known:
		w.at(path+".cluster", "", "cluster %s is of type %s, and the store of type %s", quote(s.Cluster), kind, s.Type)
	case len(w.clusters) == 0:
		w.at(path+".cluster", "", "this server is configured with no cluster; start it with a --config that has clusters")
	default:
		w.at(path+".cluster", "", "this server is configured with no cluster %s; it has %s", quote(s.Cluster), strings.Join(slices.Sorted(maps.Keys(w.clusters)), ", "))
	}
}

// validateCounter checks what belongs together in the counter block.
func (w *walker) validateCounter(c *CounterConfig) {
	const path = "counter.windows"
	broken := slices.ContainsFunc(w.problems, func(p Problem) bool { return strings.HasPrefix(p.Path, path) })
	windows := slices.Sorted(slices.Values(c.Windows))
	switch {
	case broken:
	case len(windows) == 0:
		w.at(path, "", "is empty; it takes 1 to %d, or leave it out for 1m, 1h and 24h", maxWindows)
	default:
		for i, d := range windows {
			switch {
			case d%time.Second != 0:
				w.at(path, formatDuration(d.Truncate(time.Second)), "%s is not whole seconds", formatDuration(d))
			case i > 0 && d == windows[i-1]:
				w.at(path, "", "has %s twice", formatDuration(d))
			case i > 0 && d%windows[i-1] != 0:
				w.at(path, "", "%s is not a multiple of the next smaller one, which is %s", formatDuration(d), formatDuration(windows[i-1]))
			}
		}
	}
	switch {
	case c.Floor != nil && c.Ceiling != nil && *c.Floor > *c.Ceiling:
		w.at("counter.floor", "", "%d is above counter.ceiling, which is %d", *c.Floor, *c.Ceiling)
	case c.OnViolation != "" && c.Floor == nil && c.Ceiling == nil && !w.reported("counter.floor") && !w.reported("counter.ceiling"):
		w.at("counter.on_violation", "", "does nothing without counter.floor or counter.ceiling; set one or leave it out")
	}
}
