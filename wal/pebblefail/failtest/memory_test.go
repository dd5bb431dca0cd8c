package failtest_test

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal/pebblefail/failtest"
)

// TestAStateIsTakenWhileFilesAreReused hangs on a vfs.MemFS.
func TestAStateIsTakenWhileFilesAreReused(t *testing.T) {
	t.Parallel()
	mem := failtest.NewMemory()
	f, err := mem.Create("0", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		names := []string{"0", "1"}
		for i := range 20_000 {
			f, err := mem.ReuseForWrite(names[i%2], names[1-i%2], vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Error(err)
				return
			}
			if err := f.Close(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20_000 {
		mem.CrashClone(vfs.CrashCloneCfg{})
	}
	wg.Wait()
}
