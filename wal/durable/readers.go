package durable

import (
	"log/slog"
	"slices"
	"sync"
)

// Readers bounds how many readers stay open between fetches, over all that share it: each has what the log delivers at
// once in memory, 1 MiB or one record. The one that was used the longest ago goes first. Safe for concurrent use.
type Readers struct {
	most int
	log  *slog.Logger

	mu   sync.Mutex // guards open
	open []*member  // by their last use
}

// DefaultReaders is how many stay open in a process.
const DefaultReaders = 64

// NewReaders returns one that keeps so many open.
func NewReaders(most int, logger *slog.Logger) *Readers { return &Readers{most: most, log: logger} }

// used notes that m, which is locked, reads, and closes another's reader where there are too many. One that is in use is
// left.
func (r *Readers) used(m *member) {
	r.mu.Lock()
	r.open = append(slices.DeleteFunc(r.open, func(o *member) bool { return o == m }), m)
	var old []*member
	if n := len(r.open) - r.most; n > 0 {
		old = slices.Clone(r.open[:n])
	}
	r.mu.Unlock()
	for _, o := range old {
		if !o.mu.TryLock() {
			continue
		}
		err := o.stopReading()
		o.mu.Unlock()
		if err != nil {
			r.log.Warn("a reader was not closed in good order", "reason", err)
		}
	}
}

func (r *Readers) closed(m *member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open = slices.DeleteFunc(r.open, func(o *member) bool { return o == m })
}

// stopReading closes the member's reader. It is locked.
func (m *member) stopReading() error {
	if m.reading.r == nil {
		return nil
	}
	m.pt.l.cfg.Readers.closed(m)
	return m.reading.close()
}
