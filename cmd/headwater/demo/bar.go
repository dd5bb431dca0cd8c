package demo

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// bar is a progress bar, on a terminal only. Safe for concurrent use.
type bar struct {
	w     io.Writer // nil: not a terminal
	total int

	mu   sync.Mutex // guards what follows
	last time.Time
}

func newBar(w io.Writer, total int) *bar { return &bar{w: terminal(w), total: total} }

const barWidth = 30

// of returns a function that shows progress, at most ten times a second; nil where
// there is nobody to see it.
func (b *bar) of(what string) func(done int) {
	if b.w == nil {
		return nil
	}
	return func(done int) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if done < b.total && time.Since(b.last) < 100*time.Millisecond {
			return
		}
		b.last = time.Now()
		full := barWidth * min(done, b.total) / b.total
		// The terminal's loss of it is nobody's.
		_, _ = fmt.Fprintf(b.w, "\r%-12s [%s%s] %s of %s", what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), count(done), count(b.total))
	}
}

// end clears the bar.
func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.w != nil && !b.last.IsZero() {
		_, _ = fmt.Fprint(b.w, "\r\x1b[K")
	}
}
