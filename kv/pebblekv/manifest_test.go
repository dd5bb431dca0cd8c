package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/kvtest"
	"github.com/headwater-db/headwater/wal"
)

// TestDamageOfTheManifestIsRefused flips a bit of each byte of the manifest of a
// store with several tables. Pebble stops reading there, and deletes the tables
// that it does not know of then. The store must be refused with all its files
// kept; only damage to the last record, which looks as if its write had been
// torn, may also leave the store as of an earlier commit.
func TestDamageOfTheManifestIsRefused(t *testing.T) {
	t.Parallel()
	if inChild(t) { // a table that is not there leaves goroutines
		return
	}
	mem := vfs.NewMem()
	s := mustOpen(t, small(mem, partitions))
	m := kvtest.NewModel()
	history := []*kvtest.Model{m.Clone()} // by applied offset, plus one
	for i := range 6 {
		b := s.Begin(0)
		v := wal.Version{Time: int64(i + 1), Nonce: nonceOf(int64(i))}
		it := kv.StoredItem{Key: fmt.Append(nil, i), Value: []byte("value")}
		b.Put([]byte("r"), v, &it)
		m.Put(0, []byte("r"), v, &it)
		st := kv.State{Applied: wal.Offset(i), MaxTime: int64(i + 1)}
		m.SetState(0, st)
		history = append(history, m.Clone())
		if err := errors.Join(b.Commit(context.Background(), st), s.DB.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files := list(t, mem)
	name := slices.IndexFunc(files, func(n string) bool { return strings.HasPrefix(n, "MANIFEST-") })
	manifest := files[name]
	last := lastRecord(t, mem, "kv/"+manifest)
	size := len(contents(t, mem, "kv/"+manifest))
	t.Logf("%s: %d bytes, the last record from %d", manifest, size, last)
	if last < size/2 {
		t.Fatalf("%s has no records to damage", manifest)
	}
	answers := map[string]int{}
	for at := range size {
		disk := vfs.NewMem() // a copy, since recovery writes
		if ok, err := vfs.Clone(mem, disk, "kv", "kv"); err != nil || !ok {
			t.Fatal(ok, err)
		}
		contents(t, disk, "kv/"+manifest)[at] ^= 1 << rand.IntN(8)
		s, err := Open(small(disk, partitions))
		if err == nil {
			st, stErr := s.State(context.Background(), 0)
			eqErr := stErr
			if stErr == nil {
				eqErr = equal(s, history[st.Applied+1])
			}
			if at < last || eqErr != nil {
				t.Errorf("byte %d: opens as of offset %d of 5, which is wrong by %v", at, st.Applied, eqErr)
			}
			answers["as of an earlier commit"]++
			_ = s.Close() // a damaged store may say so once more
			continue
		}
		if at >= last {
			answers["the last record refused"]++
			continue
		}
		answers["refused"]++
		if !errors.Is(err, wal.ErrCorrupt) || !strings.Contains(err.Error(), manifest) {
			t.Errorf("byte %d: %v", at, err)
		}
		if left := list(t, disk); !slices.Equal(left, files) {
			t.Errorf("byte %d: the refused store has %q, had %q", at, left, files)
		}
	}
	t.Log(answers)
}

// TestDamageOfTheManifestAfterARestartIsRefused flips a bit of each byte of the
// manifest of a store that was opened again: the log of the first run is a table
// then, and a store without it would hold the second run only.
func TestDamageOfTheManifestAfterARestartIsRefused(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	for run := range 2 {
		s := mustOpen(t, small(mem, 1))
		if err := errors.Join(commitOne(s, run), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	files := list(t, mem)
	at := slices.IndexFunc(files, func(n string) bool { return strings.HasPrefix(n, "marker.manifest.") })
	manifest := files[at][strings.Index(files[at], "MANIFEST-"):]
	data := contents(t, mem, "kv/"+manifest)
	for i := range data {
		bit := byte(1) << rand.IntN(8)
		data[i] ^= bit
		s, err := Open(small(mem, 1))
		if err == nil {
			st, stErr := s.State(t.Context(), 0)
			t.Fatalf("byte %d of %d: opens as of offset %d, %v", i, len(data), st.Applied, errors.Join(stErr, s.Close()))
		}
		if !errors.Is(err, wal.ErrCorrupt) || !strings.Contains(err.Error(), manifest) {
			t.Errorf("byte %d of %d: %v", i, len(data), err)
		}
		data[i] ^= bit
	}
	s := mustOpen(t, small(mem, 1))
	defer s.Close()
	st, err := s.State(t.Context(), 0)
	if err != nil || st.Applied != 1 {
		t.Errorf("the store as it was is at %d, %v", st.Applied, err)
	}
}

func list(t *testing.T, fs vfs.FS) []string {
	t.Helper()
	names, err := fs.List("kv")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// contents returns the bytes of a file, which are not a copy.
func contents(t *testing.T, fs *vfs.MemFS, name string) []byte {
	t.Helper()
	b, err := fs.UnsafeGetFileDataBuffer(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lastRecord returns where the last record of a manifest begins, at the most.
func lastRecord(t *testing.T, fs vfs.FS, name string) int {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, last := record.NewReader(f, 0), int64(0)
	for {
		at := r.Offset()
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return int(last)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rec); err != nil {
			t.Fatal(err)
		}
		last = at
	}
}
