package pebblelog

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblefail"
)

const damageTopic = "headwater.test.damage.1"

// logImage is the files of a log that was closed, with what it must hold.
type logImage struct {
	files map[string][]byte
	want  [][]string // per partition
}

// makeImage writes records in several runs of the log, so that there are tables of
// several levels, a manifest with edits, and a WAL with groups.
func makeImage(t *testing.T) logImage {
	t.Helper()
	fs := vfs.NewMem()
	img := logImage{files: map[string][]byte{}, want: make([][]string, 2)}
	for run := range 3 {
		b := mustOpen(t, small(fs))
		l := mustCreate(t, b, damageTopic, 2)
		for i := range 60 {
			p := wal.Partition(i % 2)
			data := fmt.Sprintf("run %d record %d %s", run, i, strings.Repeat("z", rand.IntN(60)))
			mustAppend(t, l, p, data)
			img.want[p] = append(img.want[p], data)
		}
		closeBroker(t, b)
	}
	img.take(t, fs)
	return img
}

// take reads the files of a log's directory.
func (img logImage) take(t testing.TB, fs vfs.FS) {
	t.Helper()
	names, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := fs.Open("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if img.files[name], err = io.ReadAll(f); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// disk returns a file system with the image's files, change applied to one.
func (img logImage) disk(t *testing.T, name string, change func([]byte) []byte) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("log", 0o700); err != nil {
		t.Fatal(err)
	}
	for n, b := range img.files {
		if n == name {
			if b = change(slices.Clone(b)); b == nil {
				continue
			}
		}
		f, err := fs.Create("log/"+n, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// verdict opens a damaged log and reads it whole. It fails the test unless the
// damage is an error or changed nothing.
func (img logImage) verdict(t *testing.T, fs vfs.FS, what string) (detected bool) {
	t.Helper()
	b, err := Open(small(fs))
	if err != nil {
		return true
	}
	defer func() { _ = b.Close() }() // may say once more what is damaged
	l, err := b.Open(t.Context(), damageTopic)
	if err != nil {
		t.Fatalf("%s: the topic is gone without an error at open: %v", what, err)
	}
	for p, want := range img.want {
		bounds, err := l.Bounds(t.Context(), wal.Partition(p))
		if err != nil {
			return true
		}
		if bounds.End != wal.Offset(len(want)) || bounds.Start != 0 {
			t.Fatalf("%s: partition %d is %d to %d without an error, want 0 to %d", what, p, bounds.Start, bounds.End, len(want))
		}
		got, err := readRange(t.Context(), l, wal.Partition(p), 0, bounds.End)
		if err != nil {
			var c *wal.CorruptError
			if !errors.As(err, &c) {
				t.Fatalf("%s: damage is reported as %v", what, err)
			}
			if c.Topic != damageTopic || c.Partition != wal.Partition(p) || c.Offset != wal.Offset(len(got)) && c.Offset < 0 {
				t.Fatalf("%s: error names %s %d %d", what, c.Topic, c.Partition, c.Offset)
			}
			return true
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: partition %d reads back wrong records without an error", what, p)
		}
	}
	return false
}

// TestFlippedBytesAreNeverQuiet flips bytes in every kind of file. Every flip must
// be an error or change nothing; records that were acknowledged never go missing in
// silence.
func TestFlippedBytesAreNeverQuiet(t *testing.T) {
	img := makeImage(t)
	kinds := map[string][2]int{}
	for name, data := range img.files {
		if len(data) == 0 || strings.HasPrefix(name, "OPTIONS") {
			continue
		}
		// A flip in a table costs much: Pebble looks for the bit that would mend it.
		flips := 40
		if longTests {
			flips = 500
		}
		for i := range flips {
			at := i * len(data) / flips
			if len(data) <= flips {
				at = i % len(data)
			}
			bit := byte(1) << rand.IntN(8)
			fs := img.disk(t, name, func(b []byte) []byte { b[at] ^= bit; return b })
			what := fmt.Sprintf("%s byte %d of %d, bit %#x", name, at, len(data), bit)
			kind := kindOf(name)
			n := kinds[kind]
			n[0]++
			if img.verdict(t, fs, what) {
				n[1]++
			}
			kinds[kind] = n
		}
	}
	for kind, n := range kinds {
		t.Logf("%s: %d flips, %d detected, the rest without effect", kind, n[0], n[1])
	}
	for _, kind := range []string{"log", "sst", "manifest", "ends"} {
		if kinds[kind][1] == 0 {
			t.Errorf("no flip in any %s file was detected: the sweep misses it", kind)
		}
	}
}

func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, ".log"):
		return "log"
	case strings.HasSuffix(name, ".sst"):
		return "sst"
	case strings.HasPrefix(name, "MANIFEST"):
		return "manifest"
	case name == endsFile:
		return "ends"
	}
	return "other"
}

// TestMissingAndShortenedFilesAreNeverQuiet takes each file away, and cuts each
// at several places.
func TestMissingAndShortenedFilesAreNeverQuiet(t *testing.T) {
	img := makeImage(t)
	for name, data := range img.files {
		if strings.HasPrefix(name, "OPTIONS") || name == "LOCK" {
			continue
		}
		img.verdict(t, img.disk(t, name, func([]byte) []byte { return nil }), name+" removed")
		for i := range 20 {
			n := len(data) * i / 20
			img.verdict(t, img.disk(t, name, func(b []byte) []byte { return b[:n] }), fmt.Sprintf("%s cut to %d of %d", name, n, len(data)))
		}
	}
}

// TestRefusedOpenKeepsFiles: when damage is found after Pebble has opened, the
// files that it would have removed are still there.
func TestRefusedOpenKeepsFiles(t *testing.T) {
	img := makeImage(t)
	var newest string
	for name := range img.files {
		if strings.HasSuffix(name, ".log") && len(img.files[name]) > 0 && name > newest {
			newest = name
		}
	}
	fs := img.disk(t, newest, func(b []byte) []byte { return b[:len(b)/2] })
	_, err := Open(small(fs))
	if !errors.Is(err, wal.ErrCorrupt) {
		t.Fatalf("open of a log cut short: %v", err)
	}
	for name := range img.files {
		if _, err := fs.Stat("log/" + name); err != nil && !strings.HasPrefix(name, "marker") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamageThatIsReadStopsTheLog: a reader meets a record that is damaged, and
// nothing is acknowledged after it. What is not damaged can be read still.
func TestDamageThatIsReadStopsTheLog(t *testing.T) {
	fs := vfs.NewMem()
	b := mustOpen(t, small(fs))
	l := mustCreate(t, b, damageTopic, 1)
	for i := range 100 {
		mustAppend(t, l, 0, fmt.Sprint(i, strings.Repeat("r", 4000)))
	}
	if err := b.db.Flush(); err != nil {
		t.Fatal(err)
	}
	closeBroker(t, b)
	names, err := fs.List("log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		data, err := fs.UnsafeGetFileDataBuffer("log/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 100<<10 {
			data[len(data)/2] ^= 1
		}
	}
	cfg := small(fs)
	told := make(chan error, 1)
	cfg.OnFail = func(err error) { told <- err }
	b = mustOpen(t, cfg)
	defer func() { _ = b.Close() }() // may say once more what is damaged
	if l, err = b.Open(t.Context(), damageTopic); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(t.Context(), l, 0); !errors.Is(err, wal.ErrCorrupt) {
		t.Fatalf("read: %v", err)
	}
	if err := <-told; !errors.Is(err, wal.ErrFailed) || !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("the owner is told %v", err)
	}
	if err := b.Health(); !errors.Is(err, wal.ErrFailed) || !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("health: %v", err)
	}
	if _, err := appendOne(t.Context(), l, 0, "more"); !errors.Is(err, wal.ErrNotAppended) {
		t.Errorf("append after damage was found: %v", err)
	}
	if got, err := readRange(t.Context(), l, 0, 90, 100); err != nil || len(got) != 10 {
		t.Errorf("what is whole: %d records, %v", len(got), err)
	}
}

// TestTornTailIsRecovered cuts and overwrites the end of a WAL as a power loss
// does, in the bytes that no sync covered.
func TestTornTailIsRecovered(t *testing.T) {
	for _, percent := range []int{0, 30, 70, 100} {
		fs := vfs.NewCrashableMem()
		b := mustOpen(t, small(fs))
		l := mustCreate(t, b, damageTopic, 1)
		var want []string
		for i := range 200 {
			data := fmt.Sprintf("%d %s", i, strings.Repeat("q", i*7))
			mustAppend(t, l, 0, data)
			want = append(want, data)
		}
		// These may be in the file or not: nobody was told.
		for i := range 50 {
			l.Append(t.Context(), wal.Buffered, []wal.NewEntry{{Data: fmt.Appendf(nil, "late %d", i)}})
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, uint64(percent)))})
		closeBroker(t, b)
		b = mustOpen(t, small(clone))
		l, err := b.Open(t.Context(), damageTopic)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(t.Context(), l, 0)
		if err != nil || len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Fatalf("%d %% of what was not synced: %d records, %v; want %d", percent, len(got), err, len(want))
		}
		closeBroker(t, b)
	}
}

// TestDamageAfterCrashLosesAtMostTheLastGroups flips bytes of the WAL as kill -9
// leaves it, when ENDS knows nothing of its records. The last groups, which might
// not have been synced, can't be told from a torn write; every other flip must be
// found.
func TestDamageAfterCrashLosesAtMostTheLastGroups(t *testing.T) {
	t.Run("small", func(t *testing.T) { damageAfterCrash(t, 150, 1, 700, 200) })
	// Groups of several blocks, which the synced offsets of Pebble do not count.
	t.Run("large", func(t *testing.T) { damageAfterCrash(t, 24, 12, 6000, 24) })
}

func damageAfterCrash(t *testing.T, groups, records, size, flips int) {
	fs := vfs.NewCrashableMem()
	cfg := small(fs)
	cfg.MemTableBytes = 16 << 20 // all of it stays in the WAL
	b := mustOpen(t, cfg)
	l := mustCreate(t, b, damageTopic, 1)
	var want []string
	for i := range groups {
		var group []string
		for range records {
			group = append(group, fmt.Sprintf("%d %s", i, strings.Repeat("k", rand.IntN(size))))
		}
		mustAppend(t, l, 0, group...) // one call at a time, so each is a group
		want = append(want, group...)
	}
	img := logImage{files: map[string][]byte{}}
	img.take(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	closeBroker(t, b)
	var walFile string
	for name := range img.files {
		if strings.HasSuffix(name, ".log") && len(img.files[name]) > 30<<10 {
			walFile = name
		}
	}
	data := img.files[walFile]
	if len(data) < pebblefail.ChunkBlock {
		t.Fatalf("the WAL has %d bytes: it must have more than one block", len(data))
	}
	if longTests {
		flips *= 20
	}
	lost := 0
	for i := range flips {
		at := i * len(data) / flips
		disk := img.disk(t, walFile, func(b []byte) []byte { b[at] ^= 1 << rand.IntN(8); return b })
		b, err := Open(small(disk))
		if err != nil {
			if !errors.Is(err, wal.ErrCorrupt) {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		}
		l, err := b.Open(t.Context(), damageTopic)
		if err != nil {
			// Only a log that lost everything, its topic too, gets here.
			t.Fatalf("byte %d: %v", at, err)
		}
		got, err := readAll(t.Context(), l, 0)
		if err == nil && (len(got) < len(want)-maxUnsynced*records || !slices.Equal(got, want[:len(got)])) {
			t.Fatalf("byte %d of %d: %d of %d records without an error", at, len(data), len(got), len(want))
		}
		if err == nil && len(got) < len(want) {
			lost++
		}
		_ = b.Close()
	}
	t.Logf("%d flips, %d took some of the last records for torn", flips, lost)
}
