package namespace

import (
	"fmt"
	"slices"
	"strings"
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
	case KV, Log:
		w.validateBuild(d)
	case Counter, TimeSeries:
		w.at("abstraction", "", "abstraction %s is not in this build; it has kv and log", c.Abstraction)
	}
	w.validateBlocks(c.Abstraction)
	w.validateTokens(c)
	w.validateObjective("slo.read", c.SLO.Read)
	w.validateObjective("slo.write", c.SLO.Write)
	if c.Abstraction != Log {
		w.validateStorage(c)
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

// validateBuild refuses what kv or log will act on one day.
func (w *walker) validateBuild(d *Document) {
	c := d.Config
	if c.Durability == "buffered" {
		w.at("log.durability", "", "buffered is not in this build; use sync")
	}
	if c.Abstraction != Log {
		return
	}
	if w.sets("delivery") {
		w.at("delivery", "", "is not in this build; readers follow the log with ReadLog")
	}
	if w.sets("slo") {
		w.at("slo", "", "a log namespace does not act on it; leave it out")
	}
	if w.sets("storage") {
		w.at("storage", "", "a log namespace has no store; leave it out")
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
	if c.Abstraction != KV {
		return
	}
	if w.reported("storage") {
		return
	}
	primaries := 0
	for i, s := range c.Storage {
		path := fmt.Sprintf("storage[%d]", i)
		switch {
		case s.Role == "" && !w.reported(path) && !w.reported(path+".role"):
			w.at(path+".role", "", "is missing; it takes one of %s", strings.Join(roleWords, ", "))
		case s.Role == "PRIMARY":
			if primaries++; primaries == 2 {
				w.at(path+".role", "", "there is a PRIMARY already; a namespace has exactly one")
			}
		case s.Role != "":
			w.at(path+".role", "", "role %s is not in this build of kv; it has PRIMARY", s.Role)
		}
		switch {
		case s.Type == "" && !w.reported(path) && !w.reported(path+".type"):
			w.at(path+".type", "", "is missing; it takes one of %s", strings.Join(typeWords, ", "))
		case s.Type == "clickhouse":
			w.at(path+".type", "", "clickhouse does not store kv; this build has pebble")
		case s.Type == "cassandra":
			w.at(path+".type", "", "type cassandra is not in this build; it has pebble")
		case s.Type == "pebble" && s.Cluster != "":
			w.at(path+".cluster", "", "a pebble store is on the machine itself and has no cluster; leave it out")
		case s.Type == "pebble" && s.Dataset != "":
			w.at(path+".dataset", "", "a pebble store is on the machine itself and has no dataset; leave it out")
		}
		if w.sets(path+".ttl") && s.Role != "CACHE" && s.Role != "" {
			w.at(path+".ttl", "", "belongs to role CACHE; items expire by kv.default_ttl")
		}
	}
	if primaries == 0 && !slices.ContainsFunc(w.problems, func(p Problem) bool {
		return strings.HasPrefix(p.Path, "storage[") && (strings.HasSuffix(p.Path, ".role") || strings.HasSuffix(p.Path, "]"))
	}) {
		w.at("storage", "", "has no PRIMARY; a namespace has exactly one")
	}
}
