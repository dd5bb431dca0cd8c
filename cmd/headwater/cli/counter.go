package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func counterCommand() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "counter", Short: "Add to counters, read, verify and reserve of them"})
	cmd.AddCommand(counterAddCommand(), counterGetCommand(), counterListCommand(), counterSeriesCommand(), counterVerifyCommand(),
		counterClearCommand(), counterReserveCommand(), counterSettleCommand(), counterCancelCommand())
	return cmd
}

// countLine is a count in JSON.
type countLine struct {
	Counter  string     `json:"counter"`
	Value    int64      `json:"value"`
	Held     int64      `json:"held"`
	Accuracy string     `json:"accuracy"`
	Pending  int64      `json:"pending"`
	Position string     `json:"position"`
	Time     *time.Time `json:"time,omitempty"`
}

func (s *session) countLine(counter string, c *client.Count) countLine {
	l := countLine{
		Counter: s.cellText(counter), Value: c.Value, Held: c.Held, Accuracy: c.Accuracy.String(), Pending: c.Pending, Position: c.Position,
	}
	if !c.Time.IsZero() {
		l.Time = &c.Time
	}
	return l
}

// cellText is a counter's name in JSON: as it is, or base64 with --base64.
func (s *session) cellText(name string) string {
	if s.base64 {
		return s.cell([]byte(name))
	}
	return name
}

// counter reads the name of a counter from the command line.
func (s *session) counter(text string) (string, error) {
	b, err := s.decode("COUNTER", text)
	return string(b), err
}

func tokenFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("token", "", "name of this write: with the same name it happens once")
}

func accuracyFlag(cmd *cobra.Command, value string) *string {
	return cmd.Flags().String("accuracy", value, "accurate, eventual, best_effort, or namespace: as the namespace says")
}

func accuracy(v string) (client.Accuracy, error) {
	switch strings.ToLower(v) {
	case "accurate":
		return client.CountAccurate, nil
	case "eventual":
		return client.CountEventual, nil
	case "best_effort":
		return client.CountBestEffort, nil
	case "namespace":
		return client.CountAsConfigured, nil
	}
	return 0, usagef("--accuracy %q: use accurate, eventual, best_effort or namespace", v)
}

func counterClearCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "clear NAMESPACE COUNTER",
		Short: "Set a counter to 0",
		Long:  "Set a counter to 0 at its place in the log: what was added before is gone, what is added after counts.\nReservations that are held stay held.",
		Args:  Args(cobra.ExactArgs(2)),
	}
	token := tokenFlag(cmd)
	cmd.RunE = verb(once, func(s *session, a []string) error {
		name, err := s.counter(a[1])
		if err != nil {
			return err
		}
		r, err := s.Counter(a[0]).Clear(s.ctx, name, client.CounterWriteOptions{Token: client.Token{Key: *token}})
		if err != nil {
			return err
		}
		return s.wrote(&r)
	})
	return cmd
}
