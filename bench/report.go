package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

// number prints a number with three digits that count.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f k", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

func (r *row) verdict() string {
	switch {
	case r.Pass == nil:
		return "-"
	case *r.Pass:
		return "pass"
	}
	return "MISS"
}

func (r *row) String() string {
	s := fmt.Sprintf("%-5s %.2f x", r.verdict(), r.Ratio)
	if r.Bar != "" {
		s += " (bar " + r.Bar + ")"
	}
	s += fmt.Sprintf("  %s: %s %s %s", r.Name, r.Subject.Name, number(r.Subject.Median), r.Unit)
	if r.Peer != nil {
		s += fmt.Sprintf(", %s %s %s", r.Peer.Name, number(r.Peer.Median), r.Unit)
	}
	return s + fmt.Sprintf("; turns %.2f to %.2f x, %.2f CPUs elsewhere", r.Spread[0], r.Spread[1], r.Elsewhere[0])
}

// markdown is the table of the results.
func (h *harness) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "`%s`\n\n%s. Medians of %d turns; ratio is subject to peer, or subject to bar where there is no peer.\n\n", h.command, h.machine, h.rounds)
	b.WriteString("| ratio | bar | | what | subject | peer | turns | CPUs elsewhere |\n|---|---|---|---|---|---|---|---|\n")
	for _, r := range h.rows {
		peer := ""
		if r.Peer != nil {
			peer = fmt.Sprintf("%s %s %s", r.Peer.Name, number(r.Peer.Median), r.Unit)
		}
		turns := fmt.Sprintf("%.2f to %.2f", r.Spread[0], r.Spread[1])
		if r.Repeated > 0 {
			turns += fmt.Sprintf(", %d repeated", r.Repeated)
		}
		fmt.Fprintf(&b, "| %.2f | %s | %s | %s: %s | %s %s %s | %s | %s | %.2f (at most %.2f) |\n", r.Ratio, r.Bar, r.verdict(), r.Measure, r.Name,
			r.Subject.Name, number(r.Subject.Median), r.Unit, peer, turns, r.Elsewhere[0], r.Elsewhere[1])
	}
	b.WriteString("\n")
	for _, r := range h.rows {
		if r.Note != "" {
			fmt.Fprintf(&b, "- %s: %s: %s\n", r.Measure, r.Name, r.Note)
		}
	}
	for _, n := range h.notes {
		fmt.Fprintf(&b, "- %s\n", n)
	}
	return b.String()
}

// note adds a line to the results.
func (h *harness) note(format string, a ...any) {
	n := fmt.Sprintf(format, a...)
	h.notes = append(h.notes, n)
	h.printf("  %s\n", n)
}

// finish prints the table and writes the results.
func (h *harness) finish() error {
	md := h.markdown()
	h.printf("\n%s", md)
	missed := 0
	for _, r := range h.rows {
		if r.Pass != nil && !*r.Pass {
			missed++
		}
	}
	h.printf("\n%d rows, %d missed\n", len(h.rows), missed)
	if h.out != "" {
		js, err := json.MarshalIndent(struct {
			Command string   `json:"command"`
			Machine machine  `json:"machine"`
			Rounds  int      `json:"rounds"`
			Rows    []*row   `json:"rows"`
			Notes   []string `json:"notes"`
		}{h.command, h.machine, h.rounds, h.rows, h.notes}, "", "  ")
		if err != nil {
			return fmt.Errorf("encode results: %w", err)
		}
		err = errors.Join(os.WriteFile(h.out+".json", append(js, '\n'), 0o644), os.WriteFile(h.out+".md", []byte(md), 0o644))
		if err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	if missed > 0 && h.strict {
		return fmt.Errorf("%d bars were missed", missed)
	}
	return nil
}
