package demo

import (
	"errors"
	"fmt"
	"strings"
)

// CrashReport is what `headwater demo crash` measured.
type CrashReport struct {
	Source string `json:"source"`
	Seed   uint64 `json:"seed"`
	// FileRows are the rows of the file, and Flights how many were counted, in
	// passes over it, in so many Counters.
	FileRows int   `json:"fileRows"`
	Flights  int64 `json:"flights"`
	Counters int   `json:"counters"`
	// Runs are of Headwater, then of Redis where there is one; NoRedis says why
	// there is none.
	Runs    []*Run   `json:"runs"`
	NoRedis string   `json:"noRedis,omitempty"`
	Rebuild *Rebuild `json:"rebuild"`
	Drift   Drift    `json:"drift"`

	work  *work
	truth []int64 // by the places of names
	rows  []int32 // that are shown
}

// verdict is an error when Headwater has not kept what it promises.
func (r *CrashReport) verdict() error {
	h := r.Runs[0]
	var errs []error
	if h.Differ > 0 {
		errs = append(errs, fmt.Errorf("%d counters differ from the file: %d increments that were acknowledged are lost, %d were counted twice", h.Differ, h.Lost, h.Extra))
	}
	if r.Drift.Drift != 0 {
		errs = append(errs, fmt.Errorf("the counts drift from their events by %d", r.Drift.Drift))
	}
	if r.Rebuild.Wrong > 0 {
		errs = append(errs, fmt.Errorf("%d reads were wrong while the store was rebuilt", r.Rebuild.Wrong))
	}
	if r.Rebuild.Known != r.Rebuild.Resent {
		errs = append(errs, fmt.Errorf("of %d calls that were sent once more after the rebuild only %d were known", r.Rebuild.Resent, r.Rebuild.Known))
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("headwater has failed: %w; --seed %d tries the same again", errors.Join(errs...), r.Seed)
}

// columns are the widths of the tables of a report.
const (
	firstColumn = 30
	column      = 22
)

func (r *CrashReport) text() string {
	var b strings.Builder
	h := r.Runs[0]
	fmt.Fprintf(&b, "source    %s\n", r.Source)
	fmt.Fprintf(&b, "counted   %s flights (%s rows, %.1f times) in %s counters: %s increments, %d a call, from %d clients; seed %d\n\n",
		count(int(r.Flights)), count(r.FileRows), float64(r.Flights)/float64(r.FileRows), count(r.Counters), count(int(h.Increments)), crashPerCall*IncrementsPerFlight, r.work.clients, r.Seed)
	line := func(first string, truth string, cell func(*Run) string) {
		fmt.Fprintf(&b, "%-*s%*s", firstColumn, first, 14, truth)
		for _, run := range r.Runs {
			fmt.Fprintf(&b, "%*s", column, cell(run))
		}
		b.WriteByte('\n')
	}
	line("counter", "the file", func(run *Run) string { return run.Name })
	for _, i := range r.rows {
		line(r.work.flights.names.all[i], count(int(r.truth[i])), func(run *Run) string { return against(run.counts[i], r.truth[i]) })
	}
	line(fmt.Sprintf("all %s counters", count(r.Counters)), "", func(run *Run) string {
		if run.Differ == 0 {
			return "all equal"
		}
		return count(run.Differ) + " differ"
	})
	b.WriteByte('\n')
	number := func(first string, of func(*Run) int64) {
		line(first, "", func(run *Run) string { return count(int(of(run))) })
	}
	number("acknowledged increments lost", func(run *Run) int64 { return run.Lost })
	number("increments counted twice", func(run *Run) int64 { return run.Extra })
	number("killed with -9", func(run *Run) int64 { return int64(run.Kills) })
	number("answers dropped", func(run *Run) int64 { return run.RepliesDropped })
	number("sent again", func(run *Run) int64 { return run.Resent })
	number("duplicates absorbed", func(run *Run) int64 { return run.Duplicates })
	number("increments/s, while up", func(run *Run) int64 { return int64(run.IncrementsPerSec) })
	line("seconds, and down of those", "", func(run *Run) string {
		down := 0.0
		for _, o := range run.Outages {
			down += o
		}
		return fmt.Sprintf("%.1f, %.1f", run.Seconds, down)
	})
	b.WriteByte('\n')
	x, d := r.Rebuild, &r.Drift
	fmt.Fprintf(&b, "rebuild   the store of %s was deleted and made again from the log in %.1f s, from the start of the process to the last of the counts, ready for writes after %.1f s\n", size(x.StoreBytes), x.Seconds, x.ReadySeconds)
	fmt.Fprintf(&b, "readers   %s reads meanwhile, %s wrong; they asked again %s times, and the longest took %.1f s\n", count(int(x.Reads)), count(int(x.Wrong)), count(int(x.AsksAgain)), x.LongestWait)
	fmt.Fprintf(&b, "resent    %d calls once more after that: %d were known by their tokens\n", x.Resent, x.Known)
	fmt.Fprintf(&b, "drift     %d, in %s of %s counters counted again from their events in %.1f s\n", d.Drift, count(d.Counters), count(d.Of), d.Seconds)
	if r.NoRedis != "" {
		fmt.Fprintf(&b, "redis     %s\n", r.NoRedis)
	} else {
		b.WriteString("redis     appendfsync always; a pipeline of INCRBY sends again what had no answer, the script sends all of it with its token\n")
	}
	b.WriteString("sent again counts attempts that found no server; up is without the time from each kill until every client has answers again\n")
	if r.verdict() == nil {
		b.WriteString("verdict   every count of Headwater is the file's\n")
	}
	return b.String()
}

// against writes a count, with what it differs by.
func against(got, want int64) string {
	if got == want {
		return count(int(got))
	}
	sign := "+"
	if got < want {
		sign = ""
	}
	return fmt.Sprintf("%s (%s%s)", count(int(got)), sign, count(int(got-want)))
}

// size writes bytes.
func size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", (n+1<<10-1)>>10)
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
