package cli

import (
	"bytes"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/headwater-db/headwater/client"
)

const defaultInterval = time.Second

// watching is one run of counter get --watch.
type watching struct {
	interval time.Duration
	limit    int
}

// run reads until the limit or the end of the context. A change is one of value
// or held; the first reading is one.
func (w *watching) run(s *session, n *client.Counter, names []string, o client.CountOptions) error {
	if w.interval <= 0 {
		return usagef("--interval %v: it must be above zero", w.interval)
	}
	if w.limit < 0 {
		return usagef("--limit %d: it must not be negative", w.limit)
	}
	last := make(map[string]client.Count, len(names))
	redraw := s.terminal && !s.json
	drawn, changes := 0, 0
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for {
		counts, err := n.GetMany(s.ctx, names, o)
		if err != nil {
			return notAccurate(err, o.Accuracy)
		}
		for _, name := range names {
			c, before := counts[name], last[name]
			if _, seen := last[name]; seen && c.Value == before.Value && c.Held == before.Held {
				continue
			}
			last[name] = c
			if !redraw {
				if err := s.changed(name, &c); err != nil {
					return err
				}
			}
			if changes++; changes == w.limit {
				if redraw {
					return s.draw(names, counts, drawn)
				}
				return nil
			}
		}
		if redraw {
			if err := s.draw(names, counts, drawn); err != nil {
				return err
			}
			drawn = len(names) + 1
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return nil // that is how watching ends
		}
	}
}

// changed prints one change.
func (s *session) changed(name string, c *client.Count) error {
	if s.json {
		return s.line(s.countLine(name, c))
	}
	return s.printf("%s\t%s\t%d\t%d\n", stamp(c.Time), s.cell([]byte(name)), c.Value, c.Held)
}

// draw draws the table over the one of drawn lines that was drawn before.
func (s *session) draw(names []string, counts map[string]client.Count, drawn int) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "COUNTER\tVALUE\tHELD\tACCURACY\tPENDING\tAS_OF") // into memory
	for _, name := range names {
		c := counts[name]
		_, _ = fmt.Fprintln(t, strings.Join(s.countCells(name, &c), "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	up := ""
	if drawn > 0 {
		up = fmt.Sprintf("\x1b[%dA", drawn)
	}
	return s.printf("%s%s", up, strings.ReplaceAll(b.String(), "\n", "\x1b[K\n"))
}
