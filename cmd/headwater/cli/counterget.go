package cli

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/client"
)

func counterGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get NAMESPACE COUNTER...",
		Short: "Print counters",
		Long: `Print counters: the value by itself when one COUNTER is given, else a table. A
counter that was never added to is 0.

With --watch they are read again and again: drawn anew on a terminal, elsewhere a
line for each change. End it with Ctrl-C.`,
		Args: Args(cobra.MinimumNArgs(2)),
	}
	how := accuracyFlag(cmd, "accurate")
	after := afterFlag(cmd)
	watch := cmd.Flags().Bool("watch", false, "read again and again")
	w := watching{}
	cmd.Flags().DurationVar(&w.interval, "interval", defaultInterval, "with --watch: how often")
	cmd.Flags().IntVar(&w.limit, "limit", 0, "with --watch: stop after so many changes; 0: never")
	watches := func(*cobra.Command, []string) bool { return *watch }
	cmd.RunE = verb(watches, func(s *session, a []string) error {
		o := client.CountOptions{After: *after}
		var err error
		if o.Accuracy, err = accuracy(*how); err != nil {
			return err
		}
		names, err := s.decodeAll("COUNTER", a[1:])
		if err != nil {
			return err
		}
		n := s.Counter(a[0])
		if *watch {
			return w.run(s, n, names, o)
		}
		counts, err := n.GetMany(s.ctx, names, o)
		if err != nil {
			return notAccurate(err, o.Accuracy)
		}
		if len(names) == 1 && !s.json {
			return s.printf("%d\n", counts[names[0]].Value)
		}
		out := s.countRows()
		for _, name := range names {
			c := counts[name]
			if err := out.add(name, &c); err != nil {
				return err
			}
		}
		return out.flush()
	})
	return cmd
}

// notAccurate adds to the refusal of an accurate read how to read nevertheless.
func notAccurate(err error, a client.Accuracy) error {
	e, ok := errors.AsType[*client.Error](err)
	if ok && a == client.CountAccurate && e.Reason == apierrors.NotAccurate {
		return fmt.Errorf("%w; --accuracy namespace reads what the namespace has", err)
	}
	return err
}

// countRows prints counts: a table, or one JSON object a line.
type countRows struct {
	s    *session
	rows *rows
}

func (s *session) countRows() *countRows {
	return &countRows{s: s, rows: s.rows("COUNTER", "VALUE", "HELD", "ACCURACY", "PENDING", "AS_OF")}
}

func (r *countRows) add(name string, c *client.Count) error {
	if r.s.json {
		return r.s.line(r.s.countLine(name, c))
	}
	return r.rows.add(r.s.countCells(name, c)...)
}

func (s *session) countCells(name string, c *client.Count) []string {
	return []string{
		s.cell([]byte(name)), strconv.FormatInt(c.Value, 10), strconv.FormatInt(c.Held, 10), c.Accuracy.String(), strconv.FormatInt(c.Pending, 10), stamp(c.Time),
	}
}

func (r *countRows) flush() error { return r.rows.flush() }

func counterListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list NAMESPACE",
		Short: "Print the counters of a namespace, by name",
		Args:  Args(cobra.ExactArgs(1)),
	}
	prefix := cmd.Flags().String("prefix", "", "only those whose names begin with this")
	limit := cmd.Flags().Int("limit", 0, "stop after so many; 0: all")
	how, positions := accuracyFlag(cmd, "namespace"), afterFlag(cmd)
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		if *limit < 0 {
			return usagef("--limit %d: it must not be negative", *limit)
		}
		p, err := s.decode("--prefix", *prefix)
		if err != nil {
			return err
		}
		o := client.ListCountsOptions{Prefix: string(p), After: *positions}
		if o.Accuracy, err = accuracy(*how); err != nil {
			return err
		}
		if *limit > 0 {
			o.PageSize = min(*limit, client.MaxAdds)
		}
		out, n := s.countRows(), 0
		for c, err := range s.Counter(a[0]).List(s.ctx, o) {
			if err != nil {
				return notAccurate(err, o.Accuracy)
			}
			if err := out.add(c.Counter, &c.Count); err != nil {
				return err
			}
			if n++; n == *limit {
				break
			}
		}
		return out.flush()
	})
	return cmd
}

func counterVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify NAMESPACE COUNTER",
		Short: "Count a counter again from its events",
		Long:  "Count a counter again from its events and compare. The exit code is 1 when they differ, which is a bug.",
		Args:  Args(cobra.ExactArgs(2)),
	}
	how, positions := accuracyFlag(cmd, "namespace"), afterFlag(cmd)
	cmd.RunE = verb(once, func(s *session, a []string) error {
		name, err := s.counter(a[1])
		if err != nil {
			return err
		}
		o := client.CountOptions{After: *positions}
		if o.Accuracy, err = accuracy(*how); err != nil {
			return err
		}
		v, err := s.Counter(a[0]).VerifyWith(s.ctx, name, o)
		if err != nil {
			return notAccurate(err, o.Accuracy)
		}
		if s.json {
			err = s.line(struct {
				Counter   string `json:"counter"`
				Stored    int64  `json:"stored"`
				Recounted int64  `json:"recounted"`
				Drift     int64  `json:"drift"`
				Events    int64  `json:"events"`
				Position  string `json:"position"`
			}{s.cellText(name), v.Stored.Value, v.Recounted, v.Drift, v.Events, v.Stored.Position})
		} else {
			err = s.printf("stored %d, recounted %d from %d events, drift %d\n", v.Stored.Value, v.Recounted, v.Events, v.Drift)
		}
		if err == nil && v.Drift != 0 {
			return fmt.Errorf("the counter is off by %d; report it with the position of -o json, and rebuild the store from the log", v.Drift)
		}
		return err
	})
	return cmd
}
