package namespace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/wal"
)

// model is what the registry should be: a map, and what was ever true of a name.
type model struct {
	live     map[string]*modelEntry
	lives    map[string]int // of each name so far
	versions uint64         // highest that was seen
}

type modelEntry struct {
	version     uint64
	description string
	partitions  int
	owner       string
	released    []string          // that were not the owner since, the newest last
	last        bool              // the newest of released was the last owner
	history     map[uint64]string // version -> description
	topic       string
	incarnation wal.Incarnation
}

// TestRegistryAgainstAModel runs random changes through two registries on one
// broker, with restarts of either and of the log, and compares both with the
// model after every step.
func TestRegistryAgainstAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second) // only to end what hangs
		defer cancel()
		fs := vfs.NewMem()
		b := rapidBroker(t, fs)
		defer func() { _ = b.Close() }() // a second Close, when the test has failed in the middle
		open := func() *Registry {
			r, err := Open(ctx, Options{Broker: b, MaxBackoff: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		rs := []*Registry{open(), open()}
		defer func() {
			for _, r := range rs {
				r.Close()
			}
		}()
		m := &model{live: map[string]*modelEntry{}, lives: map[string]int{}}
		name := rapid.SampledFrom([]string{"a", "b", "c"})
		registry := func(t *rapid.T) *Registry { return rs[rapid.IntRange(0, 1).Draw(t, "registry")] }

		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				n, r := name.Draw(t, "name"), registry(t)
				partitions := rapid.SampledFrom([]int{0, 0, 4, 3}).Draw(t, "partitions") // 0: left out
				description := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(t, "description")
				var opts ApplyOptions
				if rapid.Bool().Draw(t, "with base") {
					base := uint64(rapid.IntRange(0, int(m.versions)+1).Draw(t, "base"))
					if cur := m.live[n]; cur != nil && rapid.Bool().Draw(t, "right base") {
						base = cur.version
					}
					opts.Base = &base
				}
				opts.DryRun = rapid.IntRange(0, 4).Draw(t, "dry run") == 0
				doc := kvDoc(n, "description: "+description)
				if partitions != 0 {
					doc = kvDoc(n, "description: "+description, fmt.Sprintf("log: {partitions: %d}", partitions))
				}
				res, err := r.Apply(ctx, doc, opts)
				m.checkApply(t, r, n, description, partitions, opts, res, err)
			},
			"delete": func(t *rapid.T) {
				n, r := name.Draw(t, "name"), registry(t)
				v, err := r.Delete(ctx, n, DeleteOptions{Confirm: n})
				if m.live[n] == nil {
					if !errors.Is(err, ErrNotFound) {
						t.Fatalf("delete of nothing: %v", err)
					}
					return
				}
				if err != nil || v <= m.versions {
					t.Fatalf("delete: version %d after %d, %v", v, m.versions, err)
				}
				m.versions = v
				delete(m.live, n)
			},
			"claim": func(t *rapid.T) {
				n, r, id := name.Draw(t, "name"), registry(t), rapid.SampledFrom([]string{"d1", "d2"}).Draw(t, "id")
				err := r.Claim(ctx, n, id)
				switch cur := m.live[n]; {
				case cur == nil:
					if !errors.Is(err, ErrNotFound) {
						t.Fatalf("claim of nothing: %v", err)
					}
				case cur.owner == id || cur.owner == "" && !slices.Contains(cur.released, id):
					if err != nil {
						t.Fatalf("claim by %s of what %q owns: %v", id, cur.owner, err)
					}
					cur.owner, cur.last = id, false
				case !errors.Is(err, ErrOwned) || errors.Is(err, ErrReleased) != slices.Contains(cur.released, id):
					t.Fatalf("claim by %s of what %q owns, and %v were released from: %v", id, cur.owner, cur.released, err)
				}
			},
			"release": func(t *rapid.T) {
				n, r, dry := name.Draw(t, "name"), registry(t), rapid.IntRange(0, 3).Draw(t, "dry run") == 0
				rel, err := r.Release(ctx, n, ReleaseOptions{Confirm: n, DryRun: dry})
				switch cur := m.live[n]; {
				case cur == nil:
					if !errors.Is(err, ErrNotFound) {
						t.Fatalf("release of nothing: %v", err)
					}
				case cur.owner == "":
					if !errors.Is(err, ErrNoOwner) {
						t.Fatalf("release of what nobody owns: %v", err)
					}
				case err != nil || rel.Home != cur.owner:
					t.Fatalf("release of what %s owns: %+v, %v", cur.owner, rel, err)
				case !dry:
					cur.released = append(slices.DeleteFunc(cur.released, func(id string) bool { return id == cur.owner }), cur.owner)
					cur.owner, cur.last = "", true
				}
			},
			"take back": func(t *rapid.T) {
				n, r, id := name.Draw(t, "name"), registry(t), rapid.SampledFrom([]string{"d1", "d2"}).Draw(t, "id")
				_, err := r.TakeBack(ctx, n, id, "")
				switch cur := m.live[n]; {
				case cur == nil:
					if !errors.Is(err, ErrNotFound) {
						t.Fatalf("take back of nothing: %v", err)
					}
				case cur.owner == "" && cur.last && cur.released[len(cur.released)-1] == id:
					if err != nil {
						t.Fatalf("%s takes back: %v", id, err)
					}
					cur.released = cur.released[:len(cur.released)-1]
					cur.owner, cur.last = id, false
				case !errors.Is(err, ErrNotReleased):
					t.Fatalf("%s takes back what %q owns, and %v were released from: %v", id, cur.owner, cur.released, err)
				}
			},
			"reap": func(t *rapid.T) {
				if _, err := registry(t).Reap(ctx); err != nil {
					t.Fatal(err)
				}
				ts, err := b.Topics(ctx)
				if err != nil || len(ts) != 1+2*len(m.live) {
					t.Fatalf("%d topics of %d namespaces: %v", len(ts), len(m.live), err)
				}
			},
			"restart a registry": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "which")
				rs[i].Close()
				rs[i] = open()
			},
			"restart the log": func(t *rapid.T) {
				for _, r := range rs {
					r.Close()
				}
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
				b = rapidBroker(t, fs)
				rs[0], rs[1] = open(), open()
			},
			"": func(t *rapid.T) {
				for _, r := range rs {
					m.check(ctx, t, r)
				}
			},
		})
	})
}

func (m *model) checkApply(t *rapid.T, r *Registry, n, description string, partitions int, opts ApplyOptions, res Result, err error) {
	cur := m.live[n]
	if cur == nil {
		switch {
		case opts.Base != nil && *opts.Base != 0:
			if !errors.Is(err, ErrConflict) {
				t.Fatalf("change of nothing: %v", err)
			}
		case err != nil || !res.Created:
			t.Fatalf("create: %+v, %v", res, err)
		case !opts.DryRun:
			if res.Version <= m.versions {
				t.Fatalf("version %d after %d", res.Version, m.versions)
			}
			e, _ := r.Get(n)
			if m.lives[n]++; e.Generation < uint64(m.lives[n]) {
				t.Fatalf("generation %d in life %d", e.Generation, m.lives[n])
			}
			if partitions == 0 {
				partitions = 4
			}
			m.versions = res.Version
			m.live[n] = &modelEntry{
				version: res.Version, description: description, partitions: partitions, topic: e.Topic, incarnation: e.Incarnation,
				history: map[uint64]string{res.Version: description},
			}
		}
		return
	}
	if res.Unchanged {
		if err != nil || cur.description != description || res.Version != cur.version || partitions != 0 && partitions != cur.partitions {
			t.Fatalf("unchanged: %+v, %v", res, err)
		}
		return
	}
	switch {
	case opts.Base != nil && *opts.Base != cur.version:
		var c *ConflictError
		if !errors.As(err, &c) || c.Current != cur.version {
			t.Fatalf("base %d of version %d: %v", *opts.Base, cur.version, err)
		}
	case partitions != 0 && partitions != cur.partitions:
		if !errors.Is(err, ErrNotLive) {
			t.Fatalf("%d partitions instead of %d: %v", partitions, cur.partitions, err)
		}
	case err != nil || res.Created || (len(res.Changes) > 0) != (description != cur.description):
		t.Fatalf("apply: %+v, %v", res, err)
	case !opts.DryRun:
		if res.Version <= m.versions {
			t.Fatalf("version %d after %d", res.Version, m.versions)
		}
		m.versions = res.Version
		cur.version, cur.description = res.Version, description
		cur.history[res.Version] = description
	}
}

func (m *model) check(ctx context.Context, t *rapid.T, r *Registry) {
	if err := r.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	list := r.List()
	if len(list) != len(m.live) {
		t.Fatalf("%d namespaces, want %d", len(list), len(m.live))
	}
	for _, e := range list {
		w := m.live[e.Name]
		if w == nil || e.Version != w.version || e.Config.Version != w.version || e.Config.Description != w.description ||
			e.Config.Partitions != w.partitions || e.Owner != w.owner || e.Topic != w.topic || e.Incarnation != w.incarnation {
			t.Fatalf("got %+v, want %+v", e, w)
		}
		for v, description := range w.history {
			if c, err := r.At(ctx, e.Name, v); err != nil || c.Description != description || c.Version != v {
				t.Fatalf("%s at %d: %+v, %v", e.Name, v, c, err)
			}
		}
	}
}
