package namespace

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

func TestReleaseOfALostHome(t *testing.T) {
	t.Parallel()
	ctx, b := testContext(t), openBroker(t, vfs.NewMem())
	r, other := openRegistry(t, b), openRegistry(t, b)
	version := mustApply(t, r, kvDoc("a")).Version
	release := func(o ReleaseOptions) (Release, error) { return r.Release(ctx, "a", o) }

	if _, err := release(ReleaseOptions{Confirm: "a"}); !errors.Is(err, ErrNoOwner) {
		t.Fatalf("release of what nobody owns: %v", err)
	}
	if err := other.Claim(ctx, "a", "lost"); err != nil {
		t.Fatal(err)
	}
	for _, confirm := range []string{"", "b", "A"} {
		if _, err := release(ReleaseOptions{Confirm: confirm}); !errors.Is(err, ErrConfirm) {
			t.Fatalf("confirmed with %q: %v", confirm, err)
		}
	}
	if _, err := r.Release(ctx, "none", ReleaseOptions{Confirm: "none"}); !errors.Is(err, ErrNotFound) {
		t.Fatalf("release of nothing: %v", err)
	}
	if rel, err := release(ReleaseOptions{Confirm: "a", DryRun: true}); err != nil || rel.Home != "lost" || rel.Version != 0 {
		t.Fatalf("dry run: %+v, %v", rel, err)
	}
	if e, _ := r.Get("a"); e.Owner != "lost" {
		t.Fatalf("after a dry run the owner is %q", e.Owner)
	}

	rel, err := release(ReleaseOptions{Confirm: "a", By: strings.Repeat("o", 300)})
	if err != nil || rel.Home != "lost" || rel.Version <= version {
		t.Fatalf("release: %+v, %v", rel, err)
	}
	e, _ := r.Get("a")
	if e.Owner != "" || e.Version != version || e.ChangedAt() != rel.Version {
		t.Fatalf("released: %+v", e)
	}

	// The former home does not come back by itself, and is told since when.
	var o *OwnedError
	if err := other.Claim(ctx, "a", "lost"); !errors.As(err, &o) || !errors.Is(err, ErrReleased) || !errors.Is(err, ErrOwned) ||
		o.Owner != "" || o.Released.Version != rel.Version || o.Released.At.IsZero() || len(o.Released.By) != maxByBytes {
		t.Fatalf("the former home claims: %v", err)
	}
	if err := other.Claim(ctx, "a", "next"); err != nil {
		t.Fatal(err)
	}
	err = r.Claim(ctx, "a", "lost")
	if !errors.Is(err, ErrReleased) || !strings.Contains(err.Error(), "belongs to data directory next") {
		t.Fatalf("the former home claims what another took over: %v", err)
	}
	if err := r.Claim(ctx, "a", "stranger"); !errors.Is(err, ErrOwned) || errors.Is(err, ErrReleased) {
		t.Fatalf("a stranger claims: %v", err)
	}
	// Everybody who reads the log knows it, also later.
	again := openRegistry(t, b)
	if err := again.Claim(ctx, "a", "lost"); !errors.Is(err, ErrReleased) {
		t.Fatalf("the former home claims in another process: %v", err)
	}
	// It is the home again when it was released and nobody took over; a new life of
	// the name knows nothing of the old one's homes.
	mustApply(t, r, kvDoc("a", "description: x"))
	if _, err := r.Delete(ctx, "a", DeleteOptions{Confirm: "a"}); err != nil {
		t.Fatal(err)
	}
	mustApply(t, r, kvDoc("a"))
	if err := r.Claim(ctx, "a", "lost"); err != nil {
		t.Fatalf("claim in a new life: %v", err)
	}
}

func TestTakingBackAReleaseThatNobodyFollowed(t *testing.T) {
	t.Parallel()
	ctx, r := testContext(t), openRegistry(t, openBroker(t, vfs.NewMem()))
	mustApply(t, r, kvDoc("a"))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	release := func() {
		t.Helper()
		_, err := r.Release(ctx, "a", ReleaseOptions{Confirm: "a"})
		must(err)
	}
	must(r.Claim(ctx, "a", "x"))
	refused := func(id string) {
		t.Helper()
		if _, err := r.TakeBack(ctx, "a", id, ""); !errors.Is(err, ErrNotReleased) {
			t.Fatalf("%s takes back: %v", id, err)
		}
	}
	refused("x") // it is the home
	release()
	refused("y")
	mustApply(t, r, kvDoc("a", "description: x")) // does not stand in the way
	_, err := r.TakeBack(ctx, "a", "x", "me")
	must(err)
	if e, _ := r.Get("a"); e.Owner != "x" {
		t.Fatalf("owner is %q", e.Owner)
	}
	release()
	must(r.Claim(ctx, "a", "y"))
	refused("x")
	release()
	refused("x") // y was the home since
	_, err = r.TakeBack(ctx, "a", "y", "")
	must(err)
}

// TestAReleaseIsBasedOnTheHomeThatWasRead: not on its name alone, which another
// record in between may have given up and taken again.
func TestAReleaseIsBasedOnTheHomeThatWasRead(t *testing.T) {
	t.Parallel()
	ctx, r := testContext(t), openRegistry(t, openBroker(t, vfs.NewMem()))
	mustApply(t, r, kvDoc("a"))
	if err := r.Claim(ctx, "a", "x"); err != nil {
		t.Fatal(err)
	}
	read, _ := r.Get("a")
	if _, err := r.Release(ctx, "a", ReleaseOptions{Confirm: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.TakeBack(ctx, "a", "x", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.setOwner(ctx, read, "", ""); !errors.Is(err, ErrConflict) {
		t.Fatalf("release of x as it was before: %v", err)
	}
	if e, _ := r.Get("a"); e.Owner != "x" {
		t.Fatalf("owner is %q", e.Owner)
	}
}

func TestWatchersSeeWhoseANamespaceIs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	b := openBroker(t, vfs.NewMem())
	writer, reader := openRegistry(t, b), openRegistry(t, b)
	mustApply(t, writer, kvDoc("a"))
	if err := reader.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	steps := []func() error{
		func() error { return writer.Claim(ctx, "a", "x") },
		func() error {
			_, err := writer.Release(ctx, "a", ReleaseOptions{Confirm: "a"})
			return err
		},
		func() error { return writer.Claim(ctx, "a", "y") },
	}
	var owners []string
	var last uint64
	for e, err := range reader.Watch(ctx, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Version <= last || e.Version != e.Entry.ChangedAt() {
			t.Fatalf("version %d of the event after %d: %+v", e.Version, last, e.Entry)
		}
		last = e.Version
		owners = append(owners, e.Entry.Owner)
		if len(owners) > len(steps) {
			cancel()
			continue
		}
		if err := steps[len(owners)-1](); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprintf("%q", owners); got != `["" "x" "" "y"]` {
		t.Fatalf("owners %s", got)
	}
}

func TestFormerHomesAreForgottenInTheEnd(t *testing.T) {
	t.Parallel()
	st := newState("")
	st.names["a"] = &Entry{Name: "a", Generation: 1}
	var o wal.Offset
	for i := range 3 * maxReleases {
		id := fmt.Sprint("d", i)
		for _, c := range []change{
			{Op: opOwner, Name: "a", Generation: 1, Owner: id},
			{Op: opOwner, Name: "a", Generation: 1, OwnerBefore: id},
		} {
			c.BaseVersion = st.names["a"].OwnerVersion
			if v := st.apply(&c, o, 0); !v.accepted {
				t.Fatalf("%+v is refused", c)
			}
			o++
		}
	}
	e := st.names["a"]
	if n := len(e.releases); n != maxReleases || e.release(fmt.Sprint("d", 3*maxReleases-1)) == nil || e.release("d0") != nil {
		t.Fatalf("%d releases are kept: %+v", n, e.releases)
	}
}
