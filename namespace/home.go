package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Release is the end of a data directory's time as the home of a namespace.
type Release struct {
	Home    string    // id of the data directory
	Version uint64    // that the release is
	At      time.Time // log time
	By      string    // who released it, as far as it is known
}

// maxReleases bounds how many former homes of a namespace are remembered, the newest.
const maxReleases = 32

// release returns the release of a data directory that is not the home again since.
func (e *Entry) release(id string) *Release {
	for i := range e.releases {
		if e.releases[i].Home == id {
			return &e.releases[i]
		}
	}
	return nil
}

// turn gives e another owner, or none, at a version. e.releases is shared with other
// entries and is copied.
func (e *Entry) turn(c *change, version uint64, at time.Time) {
	was := e.Owner
	e.Owner, e.OwnerVersion = c.Owner, version
	e.releases = slices.DeleteFunc(slices.Clone(e.releases), func(r Release) bool { return r.Home == was || r.Home == c.Owner })
	if was == "" {
		return
	}
	e.releases = append(e.releases, Release{Home: was, Version: version, At: at, By: c.By})
	if n := len(e.releases) - maxReleases; n > 0 {
		e.releases = e.releases[n:]
	}
}

// Claim makes the data directory with the given id the owner, the home, of a
// namespace whose PRIMARY is embedded, decided in log order. nil when it is the owner,
// now or already. An *OwnedError names another owner, or tells that the directory was
// released: it does not become the owner again by itself, see TakeBack. A claim does
// not change the namespace's version. id is 1 to 128 bytes.
func (r *Registry) Claim(ctx context.Context, name, id string) error {
	if id == "" || len(id) > maxOwnerBytes {
		return fmt.Errorf("claim namespace %s: id of the data directory has %d bytes, it takes 1 to %d", quote(name), len(id), maxOwnerBytes)
	}
	if err := r.Sync(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		cur, ok := r.Get(name)
		switch {
		case !ok:
			return fmt.Errorf("claim %s: %w", quote(name), ErrNotFound)
		case cur.Owner == id:
			return nil
		case cur.Owner != "" || cur.release(id) != nil || attempt > maxAttempts:
			return cur.owned(id)
		}
		if _, err := r.setOwner(ctx, cur, id, ""); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// Owned says why the data directory with the given id does not own the namespace: an
// *OwnedError, or nil when it does, or may claim it.
func (e *Entry) Owned(id string) error {
	if e.Owner == id || e.Owner == "" && e.release(id) == nil {
		return nil
	}
	return e.owned(id)
}

func (e *Entry) owned(id string) *OwnedError {
	return &OwnedError{Name: e.Name, Owner: e.Owner, Released: e.release(id)}
}

// ReleaseOptions say how a namespace is released.
type ReleaseOptions struct {
	Confirm string // must be the name
	// DryRun checks everything and changes nothing.
	DryRun bool
	// By is who asks, for the record. At most 256 bytes are kept.
	By string
}

// Release takes a namespace from its owner, for a data directory that is lost, so
// that another one can claim it. It is based on the owner as it is read here: should
// another directory become the owner meanwhile, that one is not released. A directory
// that was released learns it from the registry, and does not claim again by itself.
// What it wrote to its own store is not touched. On a dry run the Release is the one
// that would be, without a version.
//
// Errors: ErrConfirm, ErrNotFound, ErrNoOwner, ErrConflict; the rest as for Apply.
func (r *Registry) Release(ctx context.Context, name string, opts ReleaseOptions) (Release, error) {
	if opts.Confirm != name {
		return Release{}, fmt.Errorf("release namespace %s: %w", quote(name), ErrConfirm)
	}
	if err := r.Sync(ctx); err != nil {
		return Release{}, err
	}
	cur, ok := r.Get(name)
	switch {
	case !ok:
		return Release{}, fmt.Errorf("release %s: %w", quote(name), ErrNotFound)
	case cur.Owner == "":
		return Release{}, fmt.Errorf("release %s: %w", quote(name), ErrNoOwner)
	case opts.DryRun:
		return Release{Home: cur.Owner, By: opts.By}, nil
	}
	v, err := r.setOwner(ctx, cur, "", opts.By)
	if err != nil {
		return Release{}, err
	}
	return Release{Home: cur.Owner, Version: v, By: opts.By}, nil
}

// TakeBack makes a data directory the owner again that was released last, as long as
// no other has been the owner since, and returns the version that this is.
//
// Errors: ErrNotFound; ErrNotReleased when it was not the last owner, or is not
// released; ErrConflict; the rest as for Apply.
func (r *Registry) TakeBack(ctx context.Context, name, id, by string) (uint64, error) {
	if err := r.Sync(ctx); err != nil {
		return 0, err
	}
	cur, ok := r.Get(name)
	if !ok {
		return 0, fmt.Errorf("take back %s: %w", quote(name), ErrNotFound)
	}
	if err := cur.MayTakeBack(id); err != nil {
		return 0, err
	}
	return r.setOwner(ctx, cur, id, by)
}

// MayTakeBack returns nil when TakeBack would be accepted, else ErrNotReleased.
func (e *Entry) MayTakeBack(id string) error {
	rel := e.release(id)
	if e.Owner != "" || rel == nil || rel.Version != e.OwnerVersion {
		return fmt.Errorf("take back %s: %w", e.Name, ErrNotReleased)
	}
	return nil
}

// setOwner gives cur another owner, or none. ErrConflict: it has had another one since
// cur was read.
func (r *Registry) setOwner(ctx context.Context, cur *Entry, to, by string) (uint64, error) {
	v, err := r.propose(ctx, &change{
		Op: opOwner, Name: cur.Name, Generation: cur.Generation, BaseVersion: cur.OwnerVersion,
		OwnerBefore: cur.Owner, Owner: to, By: clipBytes(by, maxByBytes),
	})
	switch {
	case err != nil:
		return 0, err
	case !v.accepted:
		return 0, fmt.Errorf("%w: %s has another home than it had", ErrConflict, cur.Name)
	}
	return v.version, nil
}
