package cli

import (
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
)

func dlqCommand() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "dlq", Short: "See, redrive and drop what could not be applied"})
	cmd.AddCommand(dlqListCommand(), dlqShowCommand(), dlqRedriveCommand(), dlqDropCommand(), dlqJobsCommand())
	return cmd
}

func dlqJobsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "jobs [NAMESPACE]", Short: "List what redrives and drops dead letters, or did; headwater jobs ID --cancel ends one", Args: Args(cobra.MaximumNArgs(1)),
	}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		all, err := s.Admin().Jobs(s.ctx)
		if err != nil {
			return err
		}
		return s.jobs(slices.DeleteFunc(all, func(j *headwaterv1.Job) bool {
			return j.GetKind() != "redrive" && j.GetKind() != "drop" || len(a) == 1 && j.GetNamespace() != a[0]
		})...)
	})
	return cmd
}

// letterFlags are the flags that select dead letters.
type letterFlags struct {
	cmd          *cobra.Command
	ids          []string
	key, reason  string
	target       string
	since, until string
}

func (f *letterFlags) add(cmd *cobra.Command) {
	f.cmd = cmd
	cmd.Flags().StringArrayVar(&f.ids, "id", nil, "this dead letter; may be repeated")
	cmd.Flags().StringVar(&f.key, "key", "", "those of this key; \"\" is that of messages without one")
	cmd.Flags().StringVar(&f.reason, "reason", "", "those of this reason, such as bound, poison or undeliverable")
	cmd.Flags().StringVar(&f.target, "target", "", "those of deliveries to this target")
	cmd.Flags().StringVar(&f.since, "since", "", "those at or after this time, or so long ago at most, such as 2h")
	cmd.Flags().StringVar(&f.until, "until", "", "those before this time, or longer ago")
}

func (f *letterFlags) empty() bool {
	return len(f.ids) == 0 && given(f.cmd, "key", &f.key) == nil && f.reason == "" && f.target == "" && f.since == "" && f.until == ""
}

func (f *letterFlags) selection() (client.DeadLetterSelection, error) {
	s := client.DeadLetterSelection{IDs: f.ids, Key: given(f.cmd, "key", &f.key), Reason: f.reason, Target: f.target}
	var err error
	if s.Since, err = moment("--since", f.since); err != nil {
		return s, err
	}
	s.Until, err = moment("--until", f.until)
	return s, err
}

// letterLine is a dead letter in JSON.
type letterLine struct {
	ID            string    `json:"id"`
	Partition     int       `json:"partition"`
	Offset        int64     `json:"offset"`
	MutationIndex int       `json:"mutationIndex"`
	Key           string    `json:"key"`
	Reason        string    `json:"reason"`
	Target        string    `json:"target,omitempty"`
	Disposition   string    `json:"disposition"`
	Detail        string    `json:"detail"`
	Attempts      int       `json:"attempts"`
	Time          time.Time `json:"time"`
	Payload       *string   `json:"payload,omitempty"`
	PayloadBase64 *string   `json:"payloadBase64,omitempty"`
}

func (s *session) letterLine(l *client.DeadLetter, payload bool) letterLine {
	o := letterLine{
		ID: l.ID, Partition: l.Partition, Offset: l.Offset, MutationIndex: l.Index, Key: l.Key, Reason: l.Reason, Target: l.Target,
		Disposition: l.Disposition, Detail: l.Detail, Attempts: l.Attempts, Time: l.Time,
	}
	if payload {
		p := s.text(l.Payload)
		o.Payload, o.PayloadBase64 = p.Text, p.Bytes
	}
	return o
}

func dlqListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list NAMESPACE", Short: "List dead letters, oldest first", Args: Args(cobra.ExactArgs(1))}
	var f letterFlags
	f.add(cmd)
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		sel, err := f.selection()
		if err != nil {
			return err
		}
		out := s.rows("ID", "DISPOSITION", "REASON", "KEY", "ATTEMPTS", "TIME", "DETAIL")
		for l, err := range s.DeadLetters(a[0]).List(s.ctx, sel) {
			if err != nil {
				return err
			}
			if s.json {
				err = s.line(s.letterLine(&l, false))
			} else {
				err = out.add(l.ID, l.Disposition, l.Reason, printable(l.Key), strconv.Itoa(l.Attempts), stamp(l.Time), printable(l.Detail))
			}
			if err != nil {
				return err
			}
		}
		return out.flush()
	})
	return cmd
}

func dlqShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show NAMESPACE ID", Short: "Show one dead letter with its record", Args: Args(cobra.ExactArgs(2))}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		for l, err := range s.DeadLetters(a[0]).List(s.ctx, client.DeadLetterSelection{IDs: a[1:2]}) {
			if err != nil {
				return err
			}
			if s.json {
				return s.line(s.letterLine(&l, true))
			}
			out := s.rows("FIELD", "VALUE")
			for _, f := range [][2]string{
				{"id", l.ID}, {"disposition", l.Disposition}, {"reason", l.Reason}, {"target", printable(l.Target)}, {"detail", printable(l.Detail)}, {"key", printable(l.Key)},
				{"partition", strconv.Itoa(l.Partition)}, {"offset", strconv.FormatInt(l.Offset, 10)}, {"mutation", strconv.Itoa(l.Index)},
				{"attempts", strconv.Itoa(l.Attempts)}, {"time", stamp(l.Time)}, {"record", s.cell(l.Payload)},
			} {
				if err := out.add(f[0], f[1]); err != nil {
					return err
				}
			}
			return out.flush()
		}
		return notFound("there is no such dead letter")
	})
	return cmd
}

func dlqRedriveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redrive NAMESPACE",
		Short: "Apply parked records again, in order",
		Long:  "Apply parked records again, in order, under their original position and token. Without a selection: all of them.",
		Args:  Args(cobra.ExactArgs(1)),
	}
	var f letterFlags
	f.add(cmd)
	var o client.RedriveOptions
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say how many match, change nothing")
	cmd.Flags().IntVar(&o.Rate, "rate", 0, "records a second; 0: as fast as they apply")
	cmd.Flags().IntVar(&o.Max, "max", 0, "stop after so many; 0: all that match")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		if o.Rate < 0 || o.Max < 0 {
			return usagef("--rate and --max must not be negative")
		}
		sel, err := f.selection()
		if err != nil {
			return err
		}
		d, err := s.DeadLetters(a[0]).Redrive(s.ctx, sel, o)
		if err != nil {
			return err
		}
		return s.disposed("redriven", &d)
	})
	return cmd
}

func dlqDropCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop NAMESPACE",
		Short: "Give parked records up, so that their keys flow again",
		Long:  "Give parked records up: they never have an effect, and what waits behind them is applied. Needs a selection, or --all.",
		Args:  Args(cobra.ExactArgs(1)),
	}
	var f letterFlags
	f.add(cmd)
	all := cmd.Flags().Bool("all", false, "drop every parked record")
	dryRun := cmd.Flags().Bool("dry-run", false, "say how many match, change nothing")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		if f.empty() && !*all {
			return usagef("nothing is selected; use --id, --key, --reason, --since or --until, or --all")
		}
		if *all && !f.empty() {
			return usagef("--all does not go together with a selection")
		}
		sel, err := f.selection()
		if err != nil {
			return err
		}
		d, err := s.DeadLetters(a[0]).Drop(s.ctx, sel, *dryRun)
		if err != nil {
			return err
		}
		return s.disposed("dropped", &d)
	})
	return cmd
}

func (s *session) disposed(what string, d *client.Disposal) error {
	if s.json {
		return s.line(map[string]any{"job": d.Job, "matched": d.Matched, what: d.Done, "dryRun": d.DryRun, "running": d.Running})
	}
	if d.DryRun {
		return s.printf("%d match; nothing was changed\n", d.Matched)
	}
	if d.Running {
		return s.printf("%d of %d %s so far; the job goes on, see headwater jobs %s\n", d.Done, d.Matched, what, d.Job)
	}
	return s.printf("%d of %d %s\n", d.Done, d.Matched, what)
}
