package server

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
)

// TestAFreshDataDirectoryIsSmall: Pebble asks for room of a memtable and a tenth for
// each write-ahead log that it begins, however little is written.
func TestAFreshDataDirectoryIsSmall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	var used int64
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		var st syscall.Stat_t
		if err == nil {
			err = syscall.Lstat(path, &st)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Pebble has removed it meanwhile
		}
		used += st.Blocks * 512
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	const most = 8 << 20
	if used > most {
		t.Errorf("%d namespaces take %d bytes before the first write, more than %d", len(s.names.List()), used, most)
	}
	t.Logf("%d bytes", used)
}
