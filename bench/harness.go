package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// harness holds what is asked for and what was found.
type harness struct {
	rounds, repeats            int
	duration                   time.Duration
	catchUp, bigRecord         int
	smallLog, largeLog         int
	dir, binary, out, profiles string
	strict                     bool
	only                       []string
	command                    string
	machine                    machine
	w                          io.Writer
	measure, data              string // of the measure that runs
	rows                       []*row
	notes                      []string
	watched                    []int // processes of ours beside this one
}

func (h *harness) printf(format string, a ...any) {
	_, _ = fmt.Fprintf(h.w, format, a...) // progress; what counts is returned and written by finish
}

// side is one of the two that take turns. It returns a rate or a cost.
type side struct {
	name string
	run  func(ctx context.Context, round int) (float64, error)
}

// bar is what a row has to reach.
type bar struct {
	limit   float64
	atLeast bool // else at most
	// absolute: limit is of the subject's own number, in the row's unit; else of
	// the ratio.
	absolute bool
}

func atLeast(ratio float64) *bar { return &bar{limit: ratio, atLeast: true} }
func atMost(ratio float64) *bar  { return &bar{limit: ratio} }

// series is what one side did.
type series struct {
	Name   string    `json:"name"`
	Median float64   `json:"median"`
	Turns  []float64 `json:"turns"`
}

// row is one line of the results.
type row struct {
	Measure string `json:"measure"`
	Name    string `json:"name"`
	// Ratio is subject to peer where there is a peer, else subject to bar.
	Ratio float64 `json:"ratio"`
	// Spread is the lowest and highest ratio of a single turn.
	Spread  [2]float64 `json:"spread"`
	Unit    string     `json:"unit"`
	Subject series     `json:"subject"`
	Peer    *series    `json:"peer,omitempty"`
	Bar     string     `json:"bar,omitempty"`
	Pass    *bool      `json:"pass,omitempty"`
	// Elsewhere is how many CPUs other processes used meanwhile, at the median
	// turn and at the worst one that counts.
	Elsewhere [2]float64 `json:"cpusElsewhere"`
	Repeated  int        `json:"turnsRepeated"`
	Note      string     `json:"note,omitempty"`
}

// disturbed is how many CPUs of other processes make a turn worth doing again.
const disturbed = 0.1

// turn is one A and one B.
type turn struct {
	peer, subject, elsewhere float64
}

// compare lets peer (may be nil) and subject take turns and adds the row.
func (h *harness) compare(ctx context.Context, name, unit string, b *bar, subject side, peer *side, note string) error {
	var turns []turn
	for i := 0; len(turns) < h.rounds || h.disturbedAmong(turns) > 0 && i < h.rounds+h.repeats; i++ {
		var t turn
		m := h.watch()
		var err error
		if peer != nil {
			if t.peer, err = peer.run(ctx, i); err != nil {
				return fmt.Errorf("%s: %s: %w", name, peer.name, err)
			}
		}
		if t.subject, err = subject.run(ctx, i); err != nil {
			return fmt.Errorf("%s: %s: %w", name, subject.name, err)
		}
		t.elsewhere = m.elsewhere()
		turns = append(turns, t)
	}
	h.add(name, unit, b, subject.name, peerName(peer), turns, note)
	return nil
}

func peerName(p *side) string {
	if p == nil {
		return ""
	}
	return p.name
}

// disturbedAmong counts the disturbed ones of the quietest turns.
func (h *harness) disturbedAmong(turns []turn) (n int) {
	for _, t := range quietest(turns, h.rounds) {
		if t.elsewhere > disturbed {
			n++
		}
	}
	return n
}

// quietest returns the n turns with the least CPU used elsewhere.
func quietest(turns []turn, n int) []turn {
	s := slices.Clone(turns)
	slices.SortStableFunc(s, func(a, b turn) int {
		switch {
		case a.elsewhere < b.elsewhere:
			return -1
		case a.elsewhere > b.elsewhere:
			return 1
		}
		return 0
	})
	return s[:min(n, len(s))]
}

// add makes a row of the quietest turns, without a peer when peer is "".
func (h *harness) add(name, unit string, b *bar, subject, peer string, turns []turn, note string) {
	kept := quietest(turns, h.rounds)
	r := &row{Measure: h.measure, Name: name, Unit: unit, Subject: series{Name: subject}, Note: note, Repeated: len(turns) - len(kept)}
	var elsewhere, ratios []float64
	if peer != "" {
		r.Peer = &series{Name: peer}
	}
	for _, t := range kept {
		r.Subject.Turns = append(r.Subject.Turns, t.subject)
		elsewhere = append(elsewhere, t.elsewhere)
		if r.Peer != nil {
			r.Peer.Turns = append(r.Peer.Turns, t.peer)
			ratios = append(ratios, t.subject/t.peer)
		} else if b != nil {
			ratios = append(ratios, t.subject/b.limit)
		}
	}
	r.Subject.Median = median(r.Subject.Turns)
	r.Elsewhere = [2]float64{median(elsewhere), slices.Max(elsewhere)}
	if r.Peer != nil {
		r.Peer.Median = median(r.Peer.Turns)
		r.Ratio = r.Subject.Median / r.Peer.Median
	} else if b != nil {
		r.Ratio = r.Subject.Median / b.limit
	}
	if len(ratios) > 0 {
		r.Spread = [2]float64{slices.Min(ratios), slices.Max(ratios)}
	}
	r.judge(b)
	h.rows = append(h.rows, r)
	h.printf("  %s\n", r)
}

// judge says whether the row reaches its bar.
func (r *row) judge(b *bar) {
	if b == nil {
		return
	}
	value, unit := r.Ratio, " x"
	if b.absolute {
		value, unit = r.Subject.Median, " "+r.Unit
	}
	pass, sign := value <= b.limit, "<="
	if b.atLeast {
		pass, sign = value >= b.limit, ">="
	}
	r.Pass, r.Bar = &pass, fmt.Sprintf("%s %s%s", sign, number(b.limit), unit)
}

// median of an odd or even number of values; 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
