package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// work is the calls that every subject gets, and when it is killed meanwhile.
type work struct {
	flights *Flights
	batches []CounterBatch
	calls   int // over all passes; fewer than planned when the time was over
	clients int
	kills   []int // after how many answers, rising; at the latest after the same part of limit
	lost    float64
	seed    uint64
	limit   time.Duration // after which no call begins; 0: none
}

// newWork plans to count rows flights, in passes over the file.
func newWork(f *Flights, rows, perCall int, seed uint64) *work {
	w := &work{flights: f, batches: f.CounterBatches(perCall), clients: 8, lost: 0.02, seed: seed}
	for left := rows; left > 0; w.calls++ {
		left -= w.batches[w.calls%len(w.batches)].Flights
	}
	// One moment in each third, and none so late that nothing would follow.
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 3 {
		w.kills = append(w.kills, int((float64(i)+0.1+0.7*r.Float64())/3*float64(w.calls)))
	}
	return w
}

// cut leaves the first calls only, with as many kills at the same parts of them.
func (w *work) cut(calls int) {
	for i := range w.kills {
		w.kills[i] = int(int64(w.kills[i]) * int64(calls) / int64(w.calls))
	}
	w.calls = calls
}

// again is the same work for another subject: all of it, however long it takes.
func (w *work) again() *work {
	c := *w
	c.limit = 0
	return &c
}

// call is the i-th: a batch, and its token, which differs from pass to pass.
func (w *work) call(i int) (*CounterBatch, string) {
	b := &w.batches[i%len(w.batches)]
	return b, fmt.Sprintf("%s/%d", b.Token, i/len(w.batches))
}

// truth recounts the calls from the file, by the places of names.
func (w *work) truth() (counts []int64, flights int64) {
	counts = make([]int64, len(w.flights.names.all))
	for i := range w.batches {
		passes := int64(w.calls / len(w.batches))
		if i < w.calls%len(w.batches) {
			passes++
		}
		for n, v := range w.flights.countOf(w.batches[i].trips) {
			counts[n] += passes * v
		}
		flights += passes * int64(w.batches[i].Flights)
	}
	return counts, flights
}

// sender is one client of a subject.
type sender interface {
	// send sends one call until it has its answer: how many times again, and whether
	// the answer says that the call was known.
	send(ctx context.Context, b *CounterBatch, token string) (again int, known bool, err error)
	close() error
}

// subject is what the flights are counted in.
type subject struct {
	name  string
	start func(ctx context.Context) (*process, error)
	watch func() replyWatch
	dial  func(addr string) (sender, error)
}

// Run is what was measured of one subject.
type Run struct {
	Name  string `json:"name"`
	Calls int    `json:"calls"`
	// Increments were acknowledged, all that were sent, in Seconds. An outage is from
	// a kill until every client has had an answer again; IncrementsPerSec leaves out
	// those and what was acknowledged in them.
	Increments       int64     `json:"increments"`
	Seconds          float64   `json:"seconds"`
	Outages          []float64 `json:"outageSeconds"`
	IncrementsPerSec float64   `json:"incrementsPerSecondUp"`
	Kills            int       `json:"kills"`
	// RepliesDropped were of writes that were done. Resent is how many times a call,
	// or the rest of one, was sent again, and Duplicates how many calls were told
	// that they were known.
	RepliesDropped int64 `json:"repliesDropped"`
	Resent         int64 `json:"resent"`
	Duplicates     int64 `json:"duplicatesAbsorbed"`
	// Lost are increments that were acknowledged and are not there, Extra those that
	// are there and were not made, Differ how many counters either is true of.
	Lost   int64 `json:"acknowledgedLost"`
	Extra  int64 `json:"countedTwice"`
	Differ int   `json:"countersThatDiffer"`

	counts []int64 // by the places of names
}

// judge compares counts that were read with the truth.
func (r *Run) judge(counts, truth []int64) {
	r.counts, r.Lost, r.Extra, r.Differ = counts, 0, 0, 0
	for i, want := range truth {
		if d := counts[i] - want; d != 0 {
			r.Differ++
			r.Extra += max(d, 0)
			r.Lost += max(-d, 0)
		}
	}
}

// storm is one subject under load.
type storm struct {
	subject
	work  *work
	calls int // that the work has at the start
	proxy *proxy
	run   Run

	begun, acked atomic.Int64  // calls
	progress     chan struct{} // has something when acked has risen

	mu     sync.Mutex // guards what follows, and run while there is load
	proc   *process
	since  time.Time // of the last kill
	silent []bool    // clients without an answer since, as long as any is
	down   int64     // increments that were acknowledged in outages
}

// newStorm starts the subject. The caller ends it with close.
func newStorm(ctx context.Context, s subject, w *work) (_ *storm, err error) {
	st := &storm{subject: s, work: w, calls: w.calls, run: Run{Name: s.name}, progress: make(chan struct{}, 1)}
	if st.proxy, err = newProxy(s.watch, w.lost, w.seed); err != nil {
		return nil, err
	}
	if err := st.restart(ctx); err != nil {
		return nil, errors.Join(err, st.proxy.close())
	}
	return st, nil
}

func (s *storm) process() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// restart starts the server, which is not running.
func (s *storm) restart(ctx context.Context) error {
	p, err := s.start(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	s.proxy.point(p.addr)
	return nil
}

// kill ends the server by SIGKILL.
func (s *storm) kill() {
	s.process().kill()
	s.proxy.point("")
}

// fall notes a kill at a time, of which no client has heard yet.
func (s *storm) fall(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Kills++
	s.endOutageLocked() // of the kill before, if some client has not come back since
	s.since = at
	s.silent = slices.Repeat([]bool{true}, s.work.clients)
}

func (s *storm) endOutageLocked() {
	if s.silent != nil {
		s.run.Outages = append(s.run.Outages, time.Since(s.since).Seconds())
		s.silent = nil
	}
}

// heard notes an answer to a client, or with 0 increments that it asks no more.
func (s *storm) heard(client int, increments int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Increments += increments
	if s.silent == nil {
		return
	}
	s.down += increments
	if s.silent[client] = false; !slices.Contains(s.silent, true) {
		s.endOutageLocked()
	}
}

func (s *storm) close() error {
	err := s.proxy.close()
	s.process().kill()
	return err
}

// load sends every call of the work from the clients and kills the server on the
// way. It returns when every call that was begun has its answer.
func (s *storm) load(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	senders := make([]sender, s.work.clients)
	defer func() {
		for _, c := range senders {
			if c != nil {
				_ = c.close() // all that it sent has its answer, or the load has failed
			}
		}
	}()
	for i := range senders {
		var err error
		if senders[i], err = s.dial(s.proxy.addr()); err != nil {
			return err
		}
	}
	var clients, killer sync.WaitGroup
	loaded := make(chan struct{})
	killer.Go(func() {
		if err := s.killOften(ctx, loaded); err != nil {
			cancel(err)
		}
	})
	start := time.Now()
	for i, c := range senders {
		clients.Go(func() {
			if err := s.client(ctx, i, c, start); err != nil {
				cancel(err)
			}
			s.heard(i, 0)
		})
	}
	clients.Wait()
	s.run.Seconds = time.Since(start).Seconds()
	close(loaded)
	killer.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.run.Calls = int(s.acked.Load())
	s.run.RepliesDropped = s.proxy.dropped.Load()
	up := s.run.Seconds
	for _, o := range s.run.Outages {
		up -= o
	}
	if up > 0 {
		s.run.IncrementsPerSec = float64(s.run.Increments-s.down) / up
	}
	return nil
}

// client sends calls, as the one of a number, until there are none left.
func (s *storm) client(ctx context.Context, number int, c sender, start time.Time) error {
	for ctx.Err() == nil {
		if s.work.limit > 0 && time.Since(start) > s.work.limit {
			return nil
		}
		i := int(s.begun.Add(1)) - 1
		if i >= s.work.calls {
			return nil
		}
		b, token := s.work.call(i)
		again, known, err := c.send(ctx, b, token)
		if err != nil {
			return fmt.Errorf("%s: call %d of %d: %w", s.name, i+1, s.work.calls, err)
		}
		s.heard(number, int64(b.Flights*IncrementsPerFlight))
		s.mu.Lock()
		s.run.Resent += int64(again)
		if known {
			s.run.Duplicates++
		}
		s.mu.Unlock()
		s.acked.Add(1)
		select {
		case s.progress <- struct{}{}:
		default:
		}
	}
	return nil
}

// killOften kills the server and starts it again, at the moments of the work.
func (s *storm) killOften(ctx context.Context, loaded <-chan struct{}) error {
	r := rand.New(rand.NewPCG(s.work.seed, 2))
	start := time.Now()
	reach := func(calls int64, latest time.Duration) bool {
		for s.acked.Load() < calls && (latest == 0 || time.Since(start) < latest) {
			select {
			case <-s.progress:
			case <-loaded:
				return false
			case <-ctx.Done():
				return false
			}
		}
		return true
	}
	for _, at := range s.work.kills {
		latest := time.Duration(float64(s.work.limit) * float64(at) / float64(s.work.calls))
		if !reach(int64(at), latest) {
			return nil
		}
		select { // into the middle of calls, and not always at the end of one
		case <-time.After(time.Duration(r.IntN(5000)) * time.Microsecond):
		case <-loaded:
			return nil
		}
		down := time.Now()
		s.kill()
		s.fall(down)
		have := s.acked.Load()
		if err := s.restart(ctx); err != nil {
			return err
		}
		if !reach(have+1, 0) {
			return nil
		}
	}
	return nil
}

// kills is how many there were.
func (s *storm) killed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run.Kills
}

// rows are the counters that the report shows, by their places: the largest of
// each kind.
func (w *work) rows(truth []int64) (places []int32) {
	counts := make(map[string]int64, len(truth))
	for i, v := range truth {
		counts[w.flights.names.all[i]] = v
	}
	for k, n := range [len(kinds)]int{3, 2, 3, 2} {
		t := top(counts, kinds[k])
		for _, r := range t[:min(n, len(t))] {
			places = append(places, w.flights.names.place[r.Counter])
		}
	}
	return places
}
