package server

import (
	"context"
	"fmt"
	"github.com/headwater-db/headwater/gateway"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// Guarantee is the weakest of what an acknowledgement is worth in this process.
func (s *Server) Guarantee() wal.Guarantee { return s.broker.Guarantee() }

// Warnings are what should be mended though everything runs, for people to read:
// topics with too few replicas, by what is wrong with them.
func (s *Server) Warnings() []string {
	byWhy := make(map[string][]string)
	for what, why := range s.unreplicated() {
		byWhy[why] = append(byWhy[why], what)
	}
	out := make([]string, 0, len(byWhy))
	for _, why := range slices.Sorted(maps.Keys(byWhy)) {
		out = append(out, fmt.Sprintf("acknowledged records of %s may be lost with one broker (%s): %s; at least 2 replicas, min.insync.replicas 2 "+
			"and no unclean election are needed, 3 replicas recommended", some(byWhy[why]), wal.Unreplicated, why))
	}
	return out
}

// some lists names in order, the first of them when there are many.
func some(names []string) string {
	const most = 5
	slices.Sort(names)
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

// unreplicated is what may be lost with one broker, and why: namespaces by name,
// dead letters of others, and the registry.
func (s *Server) unreplicated() map[string]string {
	out := make(map[string]string)
	if g, why := s.names.Guarantee(); g == wal.Unreplicated {
		out["the namespace registry"] = why
	}
	for _, x := range s.spaces.opened() {
		if g, why := x.log.Guarantee(); g == wal.Unreplicated {
			out[x.ns.Name] = why
		} else if g, why := x.letters.Guarantee(); g == wal.Unreplicated {
			out["the dead letters of "+x.ns.Name] = why
		}
	}
	return out
}

// of is the open namespace that services act on as ns; nil: it is not open any more.
func (sp *spaces) of(ns *gateway.Namespace) *space {
	for _, x := range sp.opened() {
		if x.ns == ns {
			return x
		}
	}
	return nil
}

// named is the open namespace of a name; nil: there is none.
func (sp *spaces) named(name string) *space {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.open[name]
}

// opened are the namespaces whose log is open.
func (sp *spaces) opened() []*space {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	out := make([]*space, 0, len(sp.open))
	for _, x := range sp.open {
		if x.ns.Stream != nil {
			out = append(out, x)
		}
	}
	return out
}

// warningLook is how often it is looked for what Warnings tells, to say in the log
// when it begins and ends.
const warningLook = 2 * time.Second

// watchWarnings logs what has come and gone of what Warnings tells, until ctx is
// done.
func (s *Server) watchWarnings(ctx context.Context) {
	told := make(map[string]string)
	t := time.NewTicker(warningLook)
	defer t.Stop()
	for {
		s.lookForWarnings(told)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// lookForWarnings brings told, which is what was unreplicated at the last look,
// up to date.
func (s *Server) lookForWarnings(told map[string]string) {
	now := s.unreplicated()
	byWhy := make(map[string][]string)
	for what, why := range now {
		if told[what] != why {
			told[what] = why
			byWhy[why] = append(byWhy[why], what)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(byWhy)) {
		s.log.Warn("acknowledged records may be lost with one broker, and answers say UNREPLICATED; give the topics 3 replicas and min.insync.replicas 2",
			"of", some(byWhy[why]), "reason", why)
	}
	var mended []string
	for what := range told {
		if _, still := now[what]; !still {
			delete(told, what)
			mended = append(mended, what)
		}
	}
	if len(mended) > 0 {
		s.log.Info("acknowledged records are on at least two brokers, or their namespace is closed", "of", some(mended))
	}
}
