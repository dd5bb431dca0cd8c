package namespace

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// ApplyOptions say how a document is applied.
type ApplyOptions struct {
	// Base is the version that the change is made from. Another current version is
	// ErrConflict. 0: the namespace must not exist. nil: whatever is current.
	Base *uint64
	// DryRun checks everything and changes nothing.
	DryRun bool
	// By is who asks, for the record. At most 256 bytes are kept.
	By string
}

// Result is what an Apply did.
type Result struct {
	Name string
	// Version that is current now. On a dry run the one that is current, 0 when the
	// namespace does not exist.
	Version   uint64
	Changes   []Change // what differs from the version before, in the order of the document
	Created   bool     // the namespace did not exist
	Unchanged bool     // the document was in force already; nothing was written
}

// maxAttempts bounds how often a change without a base version is made again
// because another came first.
const maxAttempts = 16

// Apply creates or changes a namespace. It returns once the change is decided
// and applied in this process; other processes follow. What is returned as
// applied is durable. A document equal to the one in force changes nothing and
// is not a conflict, whatever its base: so a change whose outcome was unknown
// can be sent again.
//
// Errors: ErrInvalid, ErrConflict, ErrNotLive, ErrLimit: nothing was changed.
// ErrUnknownOutcome: see there. wal.ErrNotAppended, wal.ErrTopicSettings,
// wal.ErrUnavailable and the like: nothing was changed, the log is at fault.
// ErrStopped, ErrClosed.
func (r *Registry) Apply(ctx context.Context, document string, opts ApplyOptions) (Result, error) {
	doc, err := Parse(document, r.opts.Defaults)
	if err != nil {
		return Result{}, err
	}
	if err := r.Sync(ctx); err != nil {
		return Result{}, err
	}
	for attempt := 1; ; attempt++ {
		res, err := r.applyOnce(ctx, doc, opts)
		if opts.Base == nil && attempt < maxAttempts && errors.Is(err, ErrConflict) {
			continue // what came first is applied by now
		}
		return res, err
	}
}

func (r *Registry) applyOnce(ctx context.Context, doc *Document, opts ApplyOptions) (Result, error) {
	name := doc.Config.Name
	snap := r.snap.Load()
	cur := snap.names[name]
	if cur == nil {
		if opts.Base != nil && *opts.Base != 0 {
			return Result{}, &ConflictError{Name: name, Base: *opts.Base}
		}
		return r.create(ctx, snap, doc, opts)
	}
	if doc.Text == cur.Document {
		return Result{Name: name, Version: cur.Version, Unchanged: true}, nil
	}
	if opts.Base != nil && *opts.Base != cur.Version {
		return Result{}, &ConflictError{Name: name, Base: *opts.Base, Current: cur.Version}
	}
	cfg := *doc.Config
	if !doc.Sets("log.partitions") {
		cfg.Partitions = cur.Config.Partitions // fixed at creation, whatever the default is by now
	}
	changes, err := Diff(cur.Config, &cfg)
	if err != nil {
		return Result{}, err
	}
	res := Result{Name: name, Version: cur.Version, Changes: changes}
	if opts.DryRun {
		return res, nil
	}
	v, err := r.propose(ctx, &change{
		Op: opApply, Name: name, BaseVersion: cur.Version, Generation: cur.Generation, Incarnation: cur.Incarnation.String(),
		Document: doc.Text, Config: &cfg, By: clipBytes(opts.By, maxByBytes),
	})
	if err == nil {
		err = v.errorFor(name, cur.Version)
	}
	if err != nil {
		return Result{}, err
	}
	res.Version = v.version
	return res, nil
}

// errorFor is what a verdict means to who based a change on version base.
func (v verdict) errorFor(name string, base uint64) error {
	switch {
	case v.accepted:
		return nil
	case v.err != nil:
		return v.err
	}
	return &ConflictError{Name: name, Base: base, Current: v.current}
}

// create begins a life of a name. The topics exist before the record that names
// them; those of a race that was lost are removed.
func (r *Registry) create(ctx context.Context, snap *snapshot, doc *Document, opts ApplyOptions) (Result, error) {
	name := doc.Config.Name
	changes, err := Diff(nil, doc.Config)
	if err != nil {
		return Result{}, err
	}
	res := Result{Name: name, Changes: changes, Created: true}
	if len(snap.names) >= MaxNamespaces {
		return Result{}, fmt.Errorf("create namespace %s: %w: %d namespaces", name, ErrLimit, MaxNamespaces)
	}
	if opts.DryRun {
		return res, nil
	}
	generation, inc, err := r.createTopics(ctx, doc.Config, lastGeneration(snap.names, snap.dead, name)+1)
	if err != nil {
		return Result{}, err
	}
	v, err := r.propose(ctx, &change{
		Op: opApply, Name: name, Generation: generation, Incarnation: inc.String(),
		Document: doc.Text, Config: doc.Config, By: clipBytes(opts.By, maxByBytes),
	})
	if err != nil {
		return Result{}, err // the topics stay: the record may name them yet, and the next create takes them
	}
	if err := v.errorFor(name, 0); err != nil {
		for _, topic := range []string{TopicName(r.opts.TopicPrefix, doc.Config.Abstraction, name, generation), DeadLetterTopicName(r.opts.TopicPrefix, name, generation)} {
			if rerr := r.removeGarbage(ctx, topic); rerr != nil {
				r.opts.Logger.WarnContext(ctx, "namespace: cannot remove the topic of a creation that lost; Reap will", "topic", topic, "error", rerr)
			}
		}
		return Result{}, err
	}
	res.Version = v.version
	return res, nil
}

// createTopics makes the topics of a new life, of generation first or above it.
// A topic left behind by a creation that never got to its record is taken when
// it has the right number of partitions: nobody has written to it, since no
// record names it.
func (r *Registry) createTopics(ctx context.Context, c *Config, first uint64) (generation uint64, inc wal.Incarnation, err error) {
	for generation = first; ; generation++ {
		var log wal.Log
		log, err = r.opts.Broker.Create(ctx, wal.TopicSpec{Name: TopicName(r.opts.TopicPrefix, c.Abstraction, c.Name, generation), Partitions: c.Partitions})
		if errors.Is(err, wal.ErrPartitionCount) && generation < first+maxAttempts {
			continue
		}
		if err != nil {
			return 0, inc, fmt.Errorf("create topic of namespace %s: %w", c.Name, err)
		}
		if _, err = r.opts.Broker.Create(ctx, wal.TopicSpec{Name: DeadLetterTopicName(r.opts.TopicPrefix, c.Name, generation), Partitions: 1}); err != nil {
			return 0, inc, fmt.Errorf("create dead-letter topic of namespace %s: %w", c.Name, err)
		}
		return generation, log.Info().Incarnation, nil
	}
}

// DeleteOptions say how a namespace is deleted.
type DeleteOptions struct {
	Confirm string // must be the name
	Base    *uint64
	By      string
}

// Delete ends the life of a namespace and returns the version that the deletion
// is. It is durable when it returns, and the namespace is gone from Get; its
// topics and stores are not: whoever serves it stops, removes its stores, and
// calls ReapLife.
// Errors: ErrConfirm, ErrNotFound, ErrConflict; the rest as for Apply.
func (r *Registry) Delete(ctx context.Context, name string, opts DeleteOptions) (uint64, error) {
	if opts.Confirm != name {
		return 0, fmt.Errorf("delete namespace %s: %w", quote(name), ErrConfirm)
	}
	if err := r.Sync(ctx); err != nil {
		return 0, err
	}
	for attempt := 1; ; attempt++ {
		cur, ok := r.Get(name)
		if !ok {
			return 0, fmt.Errorf("delete %s: %w", quote(name), ErrNotFound)
		}
		if opts.Base != nil && *opts.Base != cur.Version {
			return 0, &ConflictError{Name: name, Base: *opts.Base, Current: cur.Version}
		}
		v, err := r.propose(ctx, &change{
			Op: opDelete, Name: name, BaseVersion: cur.Version, Generation: cur.Generation, By: clipBytes(opts.By, maxByBytes),
		})
		if err == nil {
			err = v.errorFor(name, cur.Version)
		}
		if err == nil {
			return v.version, nil
		}
		if opts.Base != nil || attempt == maxAttempts || !errors.Is(err, ErrConflict) {
			return 0, err
		}
	}
}

// clipBytes cuts s to n bytes.
func clipBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}
