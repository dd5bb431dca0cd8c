package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// spaces are the open namespaces of the process, kept in step with the registry.
type spaces struct {
	s     *Server
	dir   *gateway.Directory
	clock wal.Clock // of every token that this process makes
	// origin is the incarnation of the registry's topic: whose stores these are.
	origin string

	// holders are the spaces whose partitions this process has claimed, by incarnation of the topic.
	holders sync.Map

	mu      sync.Mutex // guards what follows, and the entries of openings
	open    map[string]*space
	opening map[string]*opening // by name; the last one stays when it has ended
	version uint64              // of the registry, up to which namespaces are open
	changed chan struct{}       // closed and replaced when version rises
}

// originFile stands in a store's directory and says whose registry names it.
const originFile = "ORIGIN"

// incarnationFile stands beside it and says of which topic: a directory under
// another's name is not taken for that one's.
const incarnationFile = "INCARNATION"

func newSpaces(s *Server) *spaces {
	dir := gateway.NewDirectory()
	if s.shared() {
		dir.Missing = s.lookFor
	}
	return &spaces{
		s: s, dir: dir, open: make(map[string]*space), opening: make(map[string]*opening), changed: make(chan struct{}),
		origin: s.names.Topic().Incarnation.String() + "\n",
	}
}

// demoDocuments are the namespaces of `headwater dev`, those whose abstraction
// exists.
var demoDocuments = []string{
	"namespace: demo-kv\nabstraction: kv\ndescription: key-value, to try things out\n",
	"namespace: demo-log\nabstraction: log\ndescription: messages, to try things out\n",
	"namespace: demo-counter\nabstraction: counter\ndescription: counters, to try things out\n",
	"namespace: demo-timeseries\nabstraction: timeseries\ndescription: events, to try things out\n",
}

// applyDocuments makes the namespaces that the process is configured with, where
// the name does not exist.
func (s *Server) applyDocuments(ctx context.Context) error {
	docs := s.cfg.Namespaces
	if s.cfg.Demo {
		docs = append(append([]string(nil), docs...), demoDocuments...)
	}
	for _, doc := range docs {
		d, err := namespace.Parse(doc, namespace.Defaults{Partitions: 1})
		if err != nil {
			return fmt.Errorf("configured namespace: %w", err)
		}
		if _, ok := s.names.Get(d.Config.Name); ok {
			continue
		}
		if _, err := s.names.Apply(ctx, doc, namespace.ApplyOptions{By: "configuration"}); err != nil {
			return fmt.Errorf("apply configured namespace %s: %w", d.Config.Name, err)
		}
	}
	return nil
}

// patience bounds how long opening is waited for before it goes on unattended.
// The embedded log does not keep one waiting: what takes long there is a store.
func (sp *spaces) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	if !sp.s.shared() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, sp.s.cfg.StartTimeout)
}

// sync opens every namespace that the registry knows now.
func (sp *spaces) sync(ctx context.Context) error {
	wait, cancel := sp.patience(ctx)
	defer cancel()
	version := sp.s.names.Version()
	entries := sp.s.names.List()
	known := make(map[string]bool, len(entries))
	for _, e := range entries {
		known[e.Name] = true
		sp.put(ctx, wait, e)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("open namespaces: %w", err)
	}
	sp.reached(version)
	return sp.removeLeftovers(ctx, entries)
}

// follow opens, changes and closes namespaces as the registry says, until ctx is
// done.
func (sp *spaces) follow(ctx context.Context) error {
	sp.mu.Lock()
	since := sp.version
	sp.mu.Unlock()
	for e, err := range sp.s.names.Watch(ctx, since) {
		if err != nil {
			if ctx.Err() == nil {
				sp.s.fail(fmt.Errorf("follow the namespace registry: %w", err))
			}
			return nil
		}
		if e.Entry == nil {
			sp.remove(ctx, e.Name)
		} else {
			wait, cancel := sp.patience(ctx)
			sp.put(ctx, wait, e.Entry)
			cancel()
		}
		sp.reached(e.Version)
	}
	return nil
}

func (sp *spaces) reached(version uint64) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if version > sp.version {
		sp.version = version
		close(sp.changed)
		sp.changed = make(chan struct{})
	}
}

// wait returns once this process serves the registry's version, and the
// namespace takes writes.
func (sp *spaces) wait(ctx context.Context, name string, version uint64) error {
	if err := sp.reach(ctx, version); err != nil {
		return fmt.Errorf("wait for namespace %s to be served: %w", name, err)
	}
	sp.mu.Lock()
	x := sp.open[name]
	sp.mu.Unlock()
	if x == nil {
		return nil
	}
	if err := x.waitReady(ctx); err != nil {
		return err
	}
	x.waitOwners(ctx)
	return nil
}

// reach returns once this process serves the registry's version.
func (sp *spaces) reach(ctx context.Context, version uint64) error {
	for {
		sp.mu.Lock()
		reached, changed := sp.version >= version, sp.changed
		sp.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for version %d of the registry: %w", version, ctx.Err())
		}
	}
}

// put opens a namespace, or puts its new configuration into force. One that
// cannot be opened is served as failed, with the reason: it must not keep the
// others from being served. put returns when it is one or the other, or wait is
// done. It follows a change of the namespace's home too.
func (sp *spaces) put(ctx, wait context.Context, e *namespace.Entry) {
	// e may be from before this process became the home.
	if now, ok := sp.s.names.Get(e.Name); ok && now.Generation == e.Generation {
		e = now
	}
	sp.mu.Lock()
	cur := sp.open[e.Name]
	same := cur != nil && cur.entry.Generation == e.Generation
	turned := same && sp.turned(cur, e)
	if same && !turned {
		cur.configure(e)
		if o := sp.opening[e.Name]; o != nil {
			o.entry = e
		}
		sp.mu.Unlock()
		return
	}
	sp.mu.Unlock()
	if turned {
		sp.turn(wait, cur, e)
		return
	}
	if cur != nil {
		sp.remove(ctx, e.Name)
	}
	if sp.s.cfg.Role == Worker && !sp.s.cfg.consumes(e) {
		return // another worker's
	}
	sp.begin(wait, e)
}

const (
	// freePatience is how long what follows the registry waits for a deleted namespace
	// to be freed before it goes on to the next change.
	freePatience = time.Second
	// freeTimeout bounds the removal of its topics.
	freeTimeout = time.Minute
)

// remove stops serving a namespace that was deleted and frees what it held here.
// It returns when that is done, or goes on by itself because a broker or a batch
// in hand takes long: other namespaces must not wait for it.
func (sp *spaces) remove(ctx context.Context, name string) {
	sp.mu.Lock()
	x, o := sp.open[name], sp.opening[name]
	delete(sp.open, name)
	delete(sp.opening, name)
	if x != nil {
		sp.dir.Remove(name)
	}
	sp.mu.Unlock()
	freed := make(chan struct{})
	sp.s.work.Go(func() error {
		defer close(freed)
		o.end()
		if x != nil {
			sp.free(ctx, x)
		}
		return nil
	})
	t := time.NewTimer(freePatience)
	defer t.Stop()
	select {
	case <-freed:
	case <-t.C:
	}
}

// free closes a namespace that was deleted and removes its store and topics.
func (sp *spaces) free(ctx context.Context, x *space) {
	err := x.close()
	ctx, cancel := context.WithTimeout(ctx, freeTimeout)
	defer cancel()
	if sp.s.cfg.Role == Gateway { // its topics are removed by who has its stores
		sp.s.closed(x.ns.Name, err)
		return
	}
	if rerr := x.removeStore(ctx); rerr != nil {
		err = errors.Join(err, rerr)
	}
	// The topics of a namespace that another data directory owns are that one's to
	// remove: its applier may be reading them.
	if !errors.Is(x.ns.Failed(), namespace.ErrOwned) {
		if rerr := sp.s.names.ReapLife(ctx, x.entry); rerr != nil {
			err = errors.Join(err, rerr)
		}
	}
	if err != nil {
		sp.s.log.Warn("freeing a deleted namespace failed; the next start tries again", "namespace", x.ns.Name, "reason", err)
	}
}

// removeLeftovers frees the stores and topics of namespaces that were deleted
// while a crash kept this process from it.
func (sp *spaces) removeLeftovers(ctx context.Context, entries []*namespace.Entry) error {
	keep := make(map[string]bool, len(entries))
	for _, e := range entries {
		keep[e.Incarnation.String()] = true
	}
	if !sp.s.cfg.Role.applies() {
		return nil
	}
	dirs, err := os.ReadDir(sp.s.dir.storeDir(""))
	if err != nil {
		return fmt.Errorf("list stores: %w", err)
	}
	for _, d := range dirs {
		path := sp.s.dir.storeDir(d.Name())
		// A store of another registry is none of ours: the directory may have been
		// used with another Kafka cluster, and may be again.
		origin, err := os.ReadFile(filepath.Join(path, originFile))
		if err != nil || keep[d.Name()] || string(origin) != sp.origin {
			continue
		}
		if err := sp.s.removeStores(ctx, path); err != nil {
			sp.s.log.Warn("the store of a deleted namespace is still there; the next start tries again", "store", d.Name(), "reason", err)
			continue
		}
		sp.s.log.Info("removed the store of a deleted namespace", "store", d.Name())
	}
	return nil
}

// unready returns why not every namespace takes writes, or nil. A namespace that
// has failed does not make the process unready: the others are served.
func (sp *spaces) unready() error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for name, x := range sp.open {
		if x.ns.Failed() == nil && !x.ns.Ready() {
			return fmt.Errorf("namespace %s is reading its log", name)
		}
	}
	return nil
}

// storeUnready answers for one store.
func (sp *spaces) storeUnready(ctx context.Context, name, role string) error {
	n, ok := sp.dir.Get(name)
	if !ok {
		return fmt.Errorf("namespace %.64q does not exist", name)
	}
	if err := n.Failed(); err != nil {
		return err
	}
	if role != "" && role != primary {
		return followerUnready(n, role)
	}
	if !n.Ready() {
		return fmt.Errorf("namespace %s is reading its log", name)
	}
	if state, reason := n.StoreState(); state != "running" {
		return fmt.Errorf("store of namespace %s is %s: %s", name, state, reason)
	}
	if why := gateway.TokensFull(sp.liveTokens(ctx, name), n.Config().Tokens.MaxLive); why != "" {
		return fmt.Errorf("namespace %s: %s", name, why)
	}
	return nil
}

// followerUnready answers for the stores of a role that follow.
func followerUnready(n *gateway.Namespace, role string) error {
	found := false
	for _, v := range n.Views() {
		if v.Role != role {
			continue
		}
		found = true
		if v.State != "running" {
			return fmt.Errorf("store %s of namespace %s is %s: it is %s; %s", v.Name, n.Name, v.Stage, v.State, v.Reason)
		}
	}
	if !found {
		return fmt.Errorf("namespace %s has no store of role %.32q", n.Name, role)
	}
	return nil
}

// close closes every namespace. Safe to call twice.
func (sp *spaces) close() error {
	sp.mu.Lock()
	all, openings := sp.open, sp.opening
	sp.open, sp.opening = make(map[string]*space), make(map[string]*opening)
	sp.mu.Unlock()
	for _, o := range openings {
		o.end()
	}
	// All at once: one that takes long must not keep the others from being saved.
	var wg sync.WaitGroup
	var mu sync.Mutex // guards errs
	errs := make([]error, 0, len(all))
	for name, x := range all {
		wg.Go(func() {
			err := sp.s.closing.step("namespace "+name, x.close)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	sp.s.outlets.close()
	return errors.Join(errs...)
}
