package counter

import "github.com/headwater-db/headwater/wal"

// Sabotage makes the next change of a counter that exists and is in memory
// panic. In the partition's goroutine.
func (a *Applier) Sabotage(p wal.Partition, name string) bool {
	pa := a.parts[p]
	pa.mu.Lock()
	defer pa.mu.Unlock()
	h := pa.rollup.find([]byte(name))
	if h == nil || h.row.ID == 0 {
		return false
	}
	h.row.Open = nil
	return true
}

// InMemory reports whether a counter is in memory. In the partition's goroutine.
func (a *Applier) InMemory(p wal.Partition, name string) bool {
	return a.parts[p].rollup.find([]byte(name)) != nil
}

// HashOfAdd is what an own token of the add is used for.
func HashOfAdd(a *Add) wal.Hash { return a.requestHash() }
