package pebblecompact

import (
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// again is how often the scheduler looks whether Pebble has come to allow itself
// more, which it is not told of in every case.
const again = 100 * time.Millisecond

// Scheduler is a pebble.CompactionScheduler for one Pebble. Its methods other than
// New and Begin are Pebble's to call.
type Scheduler struct {
	db   pebble.DBForCompaction // set by Register, before everything else
	look chan struct{}          // there may be something to grant

	// mu is taken while Pebble's own locks are held, and never the other way
	// round, but for DBForCompaction.GetAllowedWithoutPermission, which takes none.
	mu      sync.Mutex
	running int           // granted and not done
	end     chan struct{} // closed to end the granter; nil before Begin
	ended   chan struct{} // closed when the granter has ended
	closed  bool
}

var (
	_ pebble.CompactionScheduler   = (*Scheduler)(nil)
	_ pebble.CompactionGrantHandle = (*Scheduler)(nil)
)

// New returns the Scheduler of a Pebble that is about to be opened.
func New() *Scheduler { return &Scheduler{look: make(chan struct{}, 1)} }

// Begin lets compactions run from now on, beginning with one that Pebble has asked
// for already. It is called once, after pebble.Open has returned the database and
// before its Close.
func (s *Scheduler) Begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end, s.ended = make(chan struct{}), make(chan struct{})
	go s.granter(s.end, s.ended)
	s.wake()
}

// wake makes the granter look. It never blocks.
func (s *Scheduler) wake() {
	select {
	case s.look <- struct{}{}:
	default:
	}
}

func (s *Scheduler) granter(end <-chan struct{}, ended chan<- struct{}) {
	defer close(ended)
	t := time.NewTicker(again)
	defer t.Stop()
	for {
		select {
		case <-s.look:
		case <-t.C:
		case <-end:
			return
		}
		for s.take() {
			if waiting, _ := s.db.GetWaitingCompaction(); !waiting || !s.db.Schedule(s) {
				s.give()
				break
			}
		}
	}
}

// take counts one more compaction as running, if it may.
func (s *Scheduler) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end == nil || s.closed || s.running >= s.db.GetAllowedWithoutPermission() {
		return false
	}
	s.running++
	return true
}

func (s *Scheduler) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
}

// Register implements pebble.CompactionScheduler.
func (s *Scheduler) Register(_ int, db pebble.DBForCompaction) { s.db = db }

// Unregister implements pebble.CompactionScheduler: after it nothing of the
// database is called any more.
func (s *Scheduler) Unregister() {
	s.mu.Lock()
	s.closed = true
	end, ended := s.end, s.ended
	s.mu.Unlock()
	if end != nil {
		close(end)
		<-ended
	}
}

// TrySchedule implements pebble.CompactionScheduler. What is refused stays in
// Pebble as waiting.
func (s *Scheduler) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if s.take() {
		return true, s
	}
	// The granter may just be holding the one that is free, to find that nothing
	// waited.
	s.wake()
	return false, nil
}

// UpdateGetAllowedWithoutPermission implements pebble.CompactionScheduler.
func (s *Scheduler) UpdateGetAllowedWithoutPermission() { s.wake() }

// Started implements pebble.CompactionGrantHandle.
func (s *Scheduler) Started() {}

// MeasureCPU implements pebble.CompactionGrantHandle.
func (s *Scheduler) MeasureCPU(pebble.CompactionGoroutineKind) {}

// CumulativeStats implements pebble.CompactionGrantHandle.
func (s *Scheduler) CumulativeStats(pebble.CompactionGrantHandleStats) {}

// Done implements pebble.CompactionGrantHandle.
func (s *Scheduler) Done() {
	s.give()
	s.wake()
}
