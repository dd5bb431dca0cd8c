package failtest

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Memory is a file system whose state after a power loss can be taken while it is
// written to. Pebble's own hangs then: vfs.MemFS.ReuseForWrite takes a read lock
// twice, and a CrashClone that comes in between waits for the first and holds up the
// second (seen in v2.1.7).
type Memory struct {
	*vfs.MemFS
	reuse sync.Mutex // what renames under the lock of MemFS, and what waits for it
}

// NewMemory returns an empty one.
func NewMemory() *Memory { return &Memory{MemFS: vfs.NewCrashableMem()} }

// ReuseForWrite implements vfs.FS.
func (m *Memory) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	m.reuse.Lock()
	defer m.reuse.Unlock()
	return m.MemFS.ReuseForWrite(oldname, newname, c)
}

// CrashClone returns what a power loss would leave now.
func (m *Memory) CrashClone(cfg vfs.CrashCloneCfg) *vfs.MemFS {
	m.reuse.Lock()
	defer m.reuse.Unlock()
	return m.MemFS.CrashClone(cfg)
}
