package cli

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

// lifecycleFlags say where a message goes, and when.
type lifecycleFlags struct {
	targets   []string
	delay     time.Duration
	deliverAt string
	replace   bool
}

func (f *lifecycleFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.targets, "target", nil, "name of a target of the namespace's document; may be repeated; none: those that are default")
	cmd.Flags().DurationVar(&f.delay, "delay", 0, "deliver it so long after it is written, such as 90s or 24h")
	cmd.Flags().BoolVar(&f.replace, "replace", false, "deliver it in place of those of its key that wait for their time")
	cmd.Flags().StringVar(&f.deliverAt, "deliver-at", "", "deliver it at this time, such as 2026-01-31T12:00:00Z")
}

func (f *lifecycleFlags) given() bool {
	return len(f.targets) > 0 || f.delay != 0 || f.deliverAt != "" || f.replace
}

func (f *lifecycleFlags) into(m *client.NewMessage) (err error) {
	m.Targets, m.Delay, m.Replace = f.targets, f.delay, f.replace
	if f.deliverAt != "" {
		if m.DeliverAt, err = time.Parse(time.RFC3339Nano, f.deliverAt); err != nil {
			return usagef("--deliver-at %q: use a time such as 2026-01-31T12:00:00Z", f.deliverAt)
		}
	}
	return nil
}

// messageLine is how far a message is, in JSON.
type messageLine struct {
	MessageID string       `json:"messageId"`
	State     string       `json:"state"`
	WrittenAt time.Time    `json:"writtenAt"`
	Due       time.Time    `json:"due"`
	Targets   []targetLine `json:"targets"`
}

type targetLine struct {
	Name        string     `json:"name"`
	State       string     `json:"state"`
	Attempts    int        `json:"attempts"`
	LastError   string     `json:"lastError,omitempty"`
	DeliveredAt *time.Time `json:"deliveredAt,omitempty"`
}

func logMessageCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "message NAMESPACE MESSAGE-ID", Short: "Tell how far a message is that targets are to get", Args: Args(cobra.ExactArgs(2)),
	}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		m, err := s.Log(a[0]).Message(s.ctx, a[1])
		if err != nil {
			return err
		}
		if s.json {
			l := messageLine{MessageID: m.ID, State: m.State, WrittenAt: m.WrittenAt, Due: m.Due, Targets: []targetLine{}}
			for i := range m.Targets {
				t := &m.Targets[i]
				one := targetLine{Name: t.Name, State: t.State, Attempts: t.Attempts, LastError: t.LastError}
				if !t.DeliveredAt.IsZero() {
					one.DeliveredAt = &t.DeliveredAt
				}
				l.Targets = append(l.Targets, one)
			}
			return s.line(l)
		}
		out := s.rows("TARGET", "STATE", "ATTEMPTS", "DUE", "LAST ERROR")
		for i := range m.Targets {
			t := &m.Targets[i]
			if err := out.add(t.Name, t.State, strconv.Itoa(t.Attempts), stamp(m.Due), printable(t.LastError)); err != nil {
				return err
			}
		}
		return out.flush()
	})
	return cmd
}

// delayedLine is a delayed message in JSON.
type delayedLine struct {
	MessageID string    `json:"messageId"`
	Key       string    `json:"key"`
	Due       time.Time `json:"due"`
	WrittenAt time.Time `json:"writtenAt"`
	Targets   []string  `json:"targets"`
}

func logDelayedCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "delayed NAMESPACE", Short: "List messages that wait for their time, the soonest first", Args: Args(cobra.ExactArgs(1))}
	key := cmd.Flags().String("key", "", "those of this key")
	after := cmd.Flags().String("due-after", "", "those that are due at this time or later, such as 2026-01-31T12:00:00Z")
	before := cmd.Flags().String("due-before", "", "those that are due before this time")
	limit := cmd.Flags().Int("limit", 0, "stop after so many; 0: all")
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		sel := client.DelayedSelection{Key: given(cmd, "key", key)}
		for flag, to := range map[string]struct {
			v  string
			at *time.Time
		}{"--due-after": {*after, &sel.DueAfter}, "--due-before": {*before, &sel.DueBefore}} {
			var err error
			if to.v == "" {
				continue
			}
			if *to.at, err = time.Parse(time.RFC3339Nano, to.v); err != nil {
				return usagef("%s %q: use a time such as 2026-01-31T12:00:00Z", flag, to.v)
			}
		}
		out, n := s.rows("MESSAGE-ID", "KEY", "DUE", "TARGETS"), 0
		for m, err := range s.Log(a[0]).Delayed(s.ctx, sel) {
			if err != nil {
				return err
			}
			if s.json {
				err = s.line(delayedLine{m.ID, m.Key, m.Due, m.WrittenAt, m.Targets})
			} else {
				err = out.add(m.ID, printable(m.Key), stamp(m.Due), strings.Join(m.Targets, " "))
			}
			if err != nil {
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

func logCancelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel NAMESPACE [MESSAGE-ID]",
		Short: "Have delayed messages not delivered",
		Long: `Have a delayed message not delivered, or with --key all of a key. One of which an
attempt has begun is delivered all the same: it is counted as too late.`,
		Args: Args(cobra.RangeArgs(1, 2)),
	}
	key := cmd.Flags().String("key", "", "all delayed messages of this key")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		if (len(a) == 2) == (*key != "") {
			return usagef("name a message, or the key of several with --key")
		}
		log := s.Log(a[0])
		var c client.Cancelled
		var err error
		if len(a) == 2 {
			c, err = log.Cancel(s.ctx, a[1])
		} else {
			c, err = log.CancelKey(s.ctx, *key)
		}
		if err != nil {
			return err
		}
		if s.json {
			return s.line(map[string]int64{"cancelled": c.Cancelled, "tooLate": c.TooLate})
		}
		return s.printf("%d cancelled, %d too late\n", c.Cancelled, c.TooLate)
	})
	return cmd
}
