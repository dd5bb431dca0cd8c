package kafkalog

import (
	"sync"
	"time"
)

// ages is when the buffered records of a partition that are in flight were
// handed over. They are settled in about the order that they were handed over
// in, so each outcome takes the oldest. It holds no more than the append queue.
type ages struct {
	mu    sync.Mutex
	times []time.Time
	first int // of times that count
}

func (a *ages) begin(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, t)
}

func (a *ages) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.first++
	switch {
	case a.first == len(a.times):
		a.times, a.first = a.times[:0], 0
	case a.first >= 1024 && a.first > len(a.times)/2:
		a.times, a.first = append(a.times[:0], a.times[a.first:]...), 0
	}
}

// age is how long the oldest has been in flight, 0 when none is.
func (a *ages) age() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.first == len(a.times) {
		return 0
	}
	return time.Since(a.times[a.first])
}
