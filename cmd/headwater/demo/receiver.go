package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// laterHeader marks messages that were written for later; their payload is the time.
const laterHeader = "Demo-Later"

// receiver is an HTTP endpoint that is not to be relied upon. Safe for concurrent use.
type receiver struct {
	run     string
	failing float64
	down    time.Duration
	away    int // it goes away when it has so many
	poison  leg
	started time.Time
	l       net.Listener
	srv     *http.Server
	served  chan error

	mu       sync.Mutex // guards what follows
	r        *rand.Rand
	got      map[int64]int    // how often each flight was taken
	last     map[string]int64 // the flight of each key that was taken last
	taken    int
	mended   time.Time // zero: it refuses the poisoned flight
	back     time.Time // it is away until then
	wasAway  bool
	later    int
	worst    time.Duration
	early    int
	counts   DeliveryReport
	arrived  chan struct{} // closed and made anew with each arrival
	lastTook time.Time
}

// receive starts a receiver of the messages of a run. It refuses the flight in the middle of the file.
func receive(run string, o *DeliveryOptions, f *Flights) (*receiver, error) {
	listen := o.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen for messages: %w", err)
	}
	seed := o.Seed
	if seed == 0 {
		seed = rand.Uint64()
	}
	b := &receiver{
		run: run, failing: o.Failing, down: o.Down, away: f.Rows / 3, poison: f.legs[f.Rows/2], started: time.Now().Add(-time.Minute), l: l,
		served: make(chan error, 1), r: rand.New(rand.NewPCG(seed, 1)), got: make(map[int64]int), last: make(map[string]int64),
		arrived: make(chan struct{}), lastTook: time.Now(),
	}
	b.srv = &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second}
	go func() { b.served <- b.srv.Serve(l) }()
	return b, nil
}

func (b *receiver) url() string { return "http://" + b.l.Addr().String() + "/flights" }

func (b *receiver) close() error {
	err := b.srv.Close()
	if serr := <-b.served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// answers of a receiver beside those of HTTP.
const noAnswer = 0

// ServeHTTP takes one attempt.
func (b *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
	if err != nil {
		return
	}
	status := http.StatusOK
	if req.Header.Get(runHeader) == b.run { // those of an earlier run are taken, and forgotten
		status = b.take(now, req.Header, body)
	}
	if status != noAnswer {
		w.WriteHeader(status)
		return
	}
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = conn.Close() // as one that is not there
	}
}

// take decides what becomes of an attempt.
func (b *receiver) take(now time.Time, h http.Header, body []byte) (status int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h.Get(laterHeader) != "" {
		return b.takeLater(now, body)
	}
	b.counts.Attempts++
	var m flightMessage
	if err := json.Unmarshal(body, &m); err != nil {
		b.counts.Refused++
		return http.StatusBadRequest
	}
	switch {
	case now.Before(b.back):
		b.counts.Unanswered++
		return noAnswer
	case m.Flight == b.poison.flight && b.mended.IsZero():
		b.counts.Refused++
		return http.StatusUnprocessableEntity
	case b.r.Float64() < b.failing:
		b.counts.Failed++
		return http.StatusServiceUnavailable
	}
	b.got[m.Flight]++
	if b.got[m.Flight] > 1 {
		b.counts.Twice++
		return http.StatusOK
	}
	key := m.Origin + "-" + m.Destination
	if m.Flight != b.poison.flight { // which comes late
		if last, ok := b.last[key]; ok && last > m.Flight {
			b.counts.OutOfOrder++
		}
		b.last[key] = m.Flight
	}
	if b.taken++; b.taken >= b.away && !b.wasAway {
		b.wasAway, b.back = true, now.Add(b.down)
	}
	b.arriveLocked(now)
	return http.StatusOK
}

func (b *receiver) takeLater(now time.Time, body []byte) int {
	at, err := time.Parse(time.RFC3339Nano, string(body))
	if err != nil {
		return http.StatusBadRequest
	}
	if now.Before(at) {
		b.early++
	}
	b.later++
	b.worst = max(b.worst, now.Sub(at))
	b.arriveLocked(now)
	return http.StatusOK
}

func (b *receiver) arriveLocked(now time.Time) {
	b.lastTook = now
	close(b.arrived)
	b.arrived = make(chan struct{})
}

// mend has it take the poisoned flight from now on.
func (b *receiver) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mended = time.Now()
}

func (b *receiver) mendedAt() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mended
}

// wait returns when so many flights have arrived.
func (b *receiver) wait(ctx context.Context, n int, progress func(int)) error {
	return b.until(ctx, func() (have, want int) { return b.taken, n }, progress)
}

func (b *receiver) waitLater(ctx context.Context, n int) error {
	return b.until(ctx, func() (have, want int) { return b.later, n }, nil)
}

// until waits for what state tells, and no longer than nothing arrives, but for the time that the receiver is away.
func (b *receiver) until(ctx context.Context, state func() (have, want int), progress func(int)) error {
	for {
		b.mu.Lock()
		have, want := state()
		arrived, limit := b.arrived, time.Until(b.lastTook)+stalled+b.down
		b.mu.Unlock()
		if progress != nil {
			progress(have)
		}
		if have >= want {
			return nil
		}
		t := time.NewTimer(limit)
		select {
		case <-arrived:
			t.Stop()
		case <-t.C:
			return fmt.Errorf("%d of %d messages have arrived, and none for %v; see headwater status", have, want, stalled+b.down)
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// report tells what it has seen.
func (b *receiver) report(r *DeliveryReport) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.Keys, r.DownSeconds = len(b.last), b.down.Seconds()
	r.Attempts, r.Failed, r.Unanswered = b.counts.Attempts, b.counts.Failed, b.counts.Unanswered
	r.Refused, r.Twice, r.OutOfOrder = b.counts.Refused, b.counts.Twice, b.counts.OutOfOrder
	r.Delayed, r.Early, r.WorstLateness = b.later, b.early, b.worst.Seconds()
}
