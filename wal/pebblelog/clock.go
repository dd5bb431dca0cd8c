package pebblelog

import (
	"sync/atomic"
	"time"
)

// clock is log time: the wall clock at start-up and monotonic time since. Setting
// the machine's clock does not move it, and after a restart it goes on at or above
// the largest time in the log.
type clock struct {
	origin time.Time // with a monotonic reading
	base   atomic.Int64
}

func (c *clock) start(wall time.Time) {
	c.origin = time.Now()
	c.base.Store(wall.UnixMicro())
}

// raise makes the clock show at least t microseconds from now on.
func (c *clock) raise(t int64) {
	if d := t - c.micros(); d > 0 {
		c.base.Add(d)
	}
}

func (c *clock) elapsed() time.Duration { return time.Since(c.origin) }

// micros is the time in microseconds since 1970. It never falls.
func (c *clock) micros() int64 { return c.base.Load() + c.elapsed().Microseconds() }
