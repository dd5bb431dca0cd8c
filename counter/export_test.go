package counter

import "github.com/headwater-db/headwater/wal"

// Sabotage makes the next change of a counter that exists and is in memory
// panic. In the partition's goroutine.
func (a *Applier) Sabotage(p wal.Partition, name string) bool {
	m, err := a.machine(p)
	if err != nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.rollup.find([]byte(name))
	if h == nil || h.row.ID == 0 {
		return false
	}
	h.row.Open = nil
	return true
}

// InMemory reports whether a counter is in memory. In the partition's goroutine.
func (a *Applier) InMemory(p wal.Partition, name string) bool {
	m, err := a.machine(p)
	return err == nil && m.rollup.find([]byte(name)) != nil
}

// HashOfAdd is what an own token of the add is used for.
func HashOfAdd(a *Add) wal.Hash { return a.requestHash() }

// HashOfCall is what the token of a call is used for.
func HashOfCall(c *Call) wal.Hash {
	if c.Op != OpAdd {
		return c.requestHash()
	}
	var x wal.Hasher
	beginAdds(&x)
	r := NewAddReader(c.Adds)
	for a := (Add{}); ; {
		if ok, err := r.Next(&a); !ok || err != nil {
			return x.Sum()
		}
		a.inAdds(&x)
	}
}
