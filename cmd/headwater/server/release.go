package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// release is ReleaseNamespace: by is who asks.
func (s *Server) release(ctx context.Context, req *headwaterv1.ReleaseNamespaceRequest, by string) (*headwaterv1.ReleaseNamespaceResponse, error) {
	name := req.GetNamespace()
	if err := s.names.Sync(ctx); err != nil {
		return nil, err
	}
	e, ok := s.names.Get(name)
	switch {
	case !ok:
		return nil, fmt.Errorf("release %.64q: %w", name, namespace.ErrNotFound)
	case req.GetConfirm() != name:
		return nil, fmt.Errorf("release namespace %s: %w", name, namespace.ErrConfirm)
	case !s.shared():
		return nil, notReleasable("the log of namespace %s is in the data directory of this process, and no other directory has it; restore the directory from a copy", name)
	case !hasHome(e):
		return nil, notReleasable("namespace %s has no home: the store of a log namespace follows from its log, and every process serves it", name)
	case req.GetUndo():
		return s.takeBack(ctx, req, e, by)
	case e.Owner == s.id && s.spaces.serves(name) && !s.maySpread(e):
		return nil, notReleasable("this process is the home of namespace %s and serves it; stop it, and send the release to another process", name)
	}
	out, err := s.nextHome(ctx, e)
	if err != nil {
		return nil, err
	}
	rel, err := s.names.Release(ctx, name, namespace.ReleaseOptions{Confirm: name, DryRun: req.GetDryRun(), By: by})
	if err != nil {
		return nil, err
	}
	out.Home, out.Version = rel.Home, int64(rel.Version)
	if !req.GetDryRun() {
		s.log.Warn("a namespace was released from its home", "namespace", name, "home", rel.Home, "by", by, "registry_version", rel.Version, "next", out.Next)
	}
	return out, nil
}

// takeBack makes this process's data directory the home again.
func (s *Server) takeBack(ctx context.Context, req *headwaterv1.ReleaseNamespaceRequest, e *namespace.Entry, by string) (*headwaterv1.ReleaseNamespaceResponse, error) {
	out := &headwaterv1.ReleaseNamespaceResponse{Namespace: e.Name, Home: s.id, Next: "this process opens its store again, and applies what the log has beyond it"}
	if req.GetDryRun() {
		return out, e.MayTakeBack(s.id)
	}
	v, err := s.names.TakeBack(ctx, e.Name, s.id, by)
	if err != nil {
		return nil, err
	}
	out.Version = int64(v)
	s.log.Warn("the release of a namespace was taken back", "namespace", e.Name, "home", s.id, "by", by, "registry_version", v)
	return out, nil
}

func notReleasable(format string, args ...any) error {
	return apierrors.New(apierrors.NotReleasable, format, args...).ForWrite(apierrors.NotApplied, nil)
}

// maxNamed bounds how many partitions a text names.
const maxNamed = 3

// nextHome says what a data directory without the store of e can do with its log.
func (s *Server) nextHome(ctx context.Context, e *namespace.Entry) (*headwaterv1.ReleaseNamespaceResponse, error) {
	log, err := s.openTopic(ctx, e)
	if err != nil {
		return nil, err
	}
	out := &headwaterv1.ReleaseNamespaceResponse{Namespace: e.Name}
	if s.maySpread(e) {
		out.Next = "the workers share its partitions, and each goes on where the home has ended"
		return out, nil
	}
	var records int64
	var missing []string
	trimmed := false
	for i := range log.Info().Partitions {
		p := wal.Partition(i)
		b, err := log.Bounds(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("bounds of partition %d: %w", p, err)
		}
		records += int64(b.End - b.Start)
		if b.Start == 0 {
			continue
		}
		trimmed = true
		if s.beginsAnywhere(e) {
			continue
		}
		out.Missing = append(out.Missing, &headwaterv1.ReleaseNamespaceResponse_MissingOffsets{Partition: int32(p), First: 0, Last: int64(b.Start) - 1})
		if len(missing) < maxNamed {
			missing = append(missing, fmt.Sprintf("offsets 0 to %d of partition %d", b.Start-1, p))
		}
	}
	if n := len(out.Missing); n > 0 {
		if n > maxNamed {
			missing = append(missing, fmt.Sprintf("and more in %d other partitions", n-maxNamed))
		}
		out.Next = fmt.Sprintf("a data directory without its store refuses it: the log no longer has %s; one that has the store, or a copy of it, takes over", strings.Join(missing, ", "))
		return out, nil
	}
	out.Next = fmt.Sprintf("the next data directory rebuilds its store from the log, which is whole: %d records in %d partitions", records, log.Info().Partitions)
	if trimmed {
		out.Next = fmt.Sprintf("the next data directory goes on where the log begins, which has all messages that wait: %d records in %d partitions", records, log.Info().Partitions)
	}
	if e.Config.Abstraction == namespace.Log {
		out.Next += "; what they say is delivered again, under its tokens"
	}
	return out, nil
}

// openTopic opens the log of a namespace, and no other life's.
func (s *Server) openTopic(ctx context.Context, e *namespace.Entry) (wal.Log, error) {
	log, err := s.broker.Open(ctx, e.Topic)
	if err != nil {
		return nil, fmt.Errorf("open topic %s: %w", e.Topic, err)
	}
	if got := log.Info().Incarnation; got != e.Incarnation {
		return nil, fmt.Errorf("topic %s: %w: it is %s, the registry has %s", e.Topic, wal.ErrIncarnation, got, e.Incarnation)
	}
	return log, nil
}

// serves reports whether a namespace is open here and has not failed.
func (sp *spaces) serves(name string) bool {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	x := sp.open[name]
	return x != nil && x.front != nil && x.ns.Failed() == nil
}

// turned reports whether x is open though e has another home, or was not opened for a
// home that e no longer has.
func (sp *spaces) turned(x *space, e *namespace.Entry) bool {
	if x.group != nil {
		return !sp.s.spreads(e)
	}
	if sp.s.cfg.Role.applies() && x.front != nil && hasHome(e) && !x.hasHome() {
		return true
	}
	if x.front != nil && !x.keeps() {
		return false
	}
	if x.front != nil {
		return e.Owner != sp.s.id
	}
	return errors.Is(x.ns.Failed(), namespace.ErrOwned) && e.OwnerVersion != x.entry.OwnerVersion
}

// turn follows a change of the home of a namespace: x is closed, and e is opened
// where this directory may be its home. Callers are told meanwhile. Of x's store
// nothing is removed.
func (sp *spaces) turn(wait context.Context, x *space, e *namespace.Entry) {
	owned := e.Owned(sp.s.id)
	if sp.s.spreads(e) { // which no home is asked for
		owned = nil
	}
	why, state := owned, "stopped"
	if owned == nil {
		why, state = fmt.Errorf("namespace %s is being opened again, as its home has changed: %w", e.Name, wal.ErrUnavailable), "retrying"
	}
	stand := sp.standIn(e, why, state)
	sp.mu.Lock()
	o := sp.opening[e.Name]
	delete(sp.opening, e.Name)
	sp.open[e.Name] = stand
	sp.dir.Add(stand.ns)
	sp.mu.Unlock()
	o.end()
	sp.s.closed(e.Name, x.close())
	if owned != nil {
		sp.s.log.Warn("a namespace is not served here", "namespace", e.Name, "reason", owned)
		return
	}
	sp.s.log.Info("a namespace without a home is opened", "namespace", e.Name)
	sp.begin(wait, e)
}
