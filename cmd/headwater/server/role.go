package server

import (
	"path"
	"slices"

	"github.com/headwater-db/headwater/namespace"
)

// Role is what a process does of all that the binary can do.
type Role uint8

// The roles of a process.
const (
	// Dev does everything: it answers the API, and applies the log to its stores.
	Dev Role = iota
	// Gateway answers the API, asks workers for what they apply, and keeps nothing.
	Gateway
	// Worker applies the log to the stores in its data directory, and is asked by gateways.
	Worker
)

// Answers reports whether a process of the role has the API's listeners.
func (r Role) Answers() bool { return r != Worker }

// applies reports whether a process of the role has stores.
func (r Role) applies() bool { return r != Gateway }

// shared reports whether other processes may share the log.
func (s *Server) shared() bool { return len(s.cfg.KafkaBrokers) > 0 }

// consumes reports whether this process is to apply a namespace: a worker may be for some
// abstractions, and for some namespaces, alone.
func (c *Config) consumes(e *namespace.Entry) bool {
	if c.Role != Worker {
		return c.Role.applies()
	}
	if len(c.Abstractions) > 0 && !slices.Contains(c.Abstractions, string(e.Config.Abstraction)) {
		return false
	}
	if len(c.ConsumeNamespaces) == 0 {
		return true
	}
	for _, pattern := range c.ConsumeNamespaces {
		if ok, err := path.Match(pattern, e.Name); err == nil && ok {
			return true
		}
	}
	return false
}

// keeps reports whether the stores of the namespace are to be in this process's directory,
// and in no other's.
func (x *space) keeps() bool { return x.s.cfg.Role.applies() && x.hasHome() && x.group == nil }

// spreads reports whether the partitions of a namespace are applied by the workers of a group, each a part, and not
// by one home: where every process can go on with what the one before has left on another server.
func (s *Server) spreads(e *namespace.Entry) bool {
	return s.cfg.Role == Worker && e.Owner == "" && s.maySpread(e)
}

// maySpread reports whether a namespace spreads where it has no home.
func (s *Server) maySpread(e *namespace.Entry) bool {
	c := e.Config
	return s.shared() && storeConfig(c, c.Primary()).Type == cassandraType && len(e.Applied()) == 1
}
