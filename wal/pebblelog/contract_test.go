package pebblelog

import (
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/waltest"
)

// contractHarness keeps which file system a broker lives on. A crash harness
// reopens from a clone that holds what was synced and nothing else.
func contractHarness(crash bool) waltest.Harness {
	var mu sync.Mutex
	disks := map[wal.Broker]*vfs.MemFS{}
	open := func(t testing.TB, fs *vfs.MemFS) wal.Broker {
		b := mustOpen(t, small(fs))
		t.Cleanup(func() { closeBroker(t, b) })
		mu.Lock()
		defer mu.Unlock()
		disks[b] = fs
		return b
	}
	return waltest.Harness{
		Open: func(t testing.TB) wal.Broker { return open(t, vfs.NewCrashableMem()) },
		Reopen: func(t testing.TB, b wal.Broker) wal.Broker {
			mu.Lock()
			fs := disks[b]
			mu.Unlock()
			if crash {
				fs = fs.CrashClone(vfs.CrashCloneCfg{})
			}
			if err := b.Close(); err != nil {
				t.Fatalf("close: %v", err)
			}
			return open(t, fs)
		},
	}
}

func TestContract(t *testing.T) {
	t.Run("Close", func(t *testing.T) { waltest.Run(t, contractHarness(false)) })
	t.Run("PowerLoss", func(t *testing.T) { waltest.Run(t, contractHarness(true)) })
}
