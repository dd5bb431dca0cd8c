package cli

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
)

// fetchedLine is a fetched message in JSON.
type fetchedLine struct {
	payloadLine
	Attempt int    `json:"attempt"`
	Outcome string `json:"outcome,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Refused []int  `json:"refused,omitempty"`
}

func logConsumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "consume NAMESPACE CONSUMER",
		Short: "Print the messages that a named consumer has not had, and acknowledge them",
		Long: `Print the messages of a log that a named consumer has not had yet, and acknowledge
those that were printed. Several commands may share a consumer: each message is
printed by one of them. A consumer that does not exist is made, from the log's
beginning. Without --follow it ends when there is nothing more to fetch.`,
		Args: Args(cobra.ExactArgs(2)),
	}
	follow := cmd.Flags().BoolP("follow", "f", false, "wait for new messages; end with Ctrl-C")
	limit := cmd.Flags().Int("limit", 0, "stop after so many; 0: all")
	refused := cmd.Flags().Bool("include-refused", false, "records of other abstractions that had no effect too")
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		if *limit < 0 {
			return usagef("--limit %d: it must not be negative", *limit)
		}
		log, n := s.Log(a[0]), 0
		for {
			o := client.FetchOptions{IncludeRefused: *refused}
			if *follow {
				o.Wait = 5 * time.Second
			}
			if *limit > 0 {
				o.Max = min(*limit-n, 100)
			}
			ms, err := log.Fetch(s.ctx, a[1], o)
			switch {
			case *follow && errors.Is(err, context.Canceled) && s.ctx.Err() != nil:
				return nil // that is how following ends
			case err != nil:
				return err
			case len(ms) == 0 && !*follow:
				return nil
			}
			if err := s.consumed(log, a[1], ms, n == 0); err != nil {
				return err
			}
			if n += len(ms); *limit > 0 && n >= *limit {
				return nil
			}
		}
	})
	return cmd
}

// consumed prints messages and acknowledges them.
func (s *session) consumed(log *client.Log, consumer string, ms []client.FetchedMessage, first bool) error {
	if len(ms) == 0 {
		return nil
	}
	if first && !s.json {
		if err := s.printf(tailRow, "PARTITION", "OFFSET", "TIME", "KIND", "KEY", "PAYLOAD"); err != nil {
			return err
		}
	}
	acks := make([]client.Acknowledgement, len(ms))
	for i := range ms {
		m := &ms[i]
		acks[i] = m.Ack()
		if !s.json {
			if err := s.message(&m.Message); err != nil {
				return err
			}
			continue
		}
		l := fetchedLine{payloadLine: s.messageLine(&m.Message), Attempt: m.Attempt, Outcome: m.Outcome, Reason: m.Reason, Refused: m.Refused}
		if err := s.line(l); err != nil {
			return err
		}
	}
	_, err := log.Acknowledge(s.ctx, consumer, acks...) // what is late is printed again, by whoever fetches it
	return err
}

func logConsumersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "consumers NAMESPACE", Short: "List the named consumers of a log, make, move and delete them", Args: Args(cobra.ExactArgs(1)),
	}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		all, err := s.Log(a[0]).Consumers(s.ctx)
		if err != nil {
			return err
		}
		return s.consumers(all)
	})
	cmd.AddCommand(consumersApplyCommand(), consumersDeleteCommand())
	return cmd
}

func (s *session) consumers(all []*headwaterv1.Consumer) error {
	out := s.rows("CONSUMER", "LAG", "IN FLIGHT", "REDELIVERING", "MISSED", "GIVEN UP", "ACK WAIT")
	for _, c := range all {
		if s.json {
			if err := s.answer(c); err != nil {
				return err
			}
			continue
		}
		number := func(n int64) string { return strconv.FormatInt(n, 10) }
		err := out.add(c.GetConsumer(), number(c.GetLagRecords()), number(c.GetInFlight()), number(c.GetRedelivering()), number(c.GetMissed()),
			number(c.GetGivenUp()), c.GetAckWait().AsDuration().String())
		if err != nil {
			return err
		}
	}
	return out.flush()
}

func consumersApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "apply NAMESPACE CONSUMER", Short: "Make a consumer, change its settings, or have it begin elsewhere", Args: Args(cobra.ExactArgs(2)),
	}
	from := cmd.Flags().String("from", "", fromUsage+"; none: where it is, and a new one at the log's beginning")
	var o client.ConsumerOptions
	cmd.Flags().IntVar(&o.MaxInFlight, "max-in-flight", 0, "how many messages may be fetched and not acknowledged, up to 10000")
	cmd.Flags().DurationVar(&o.AckWait, "ack-wait", 0, "after how long a message is handed out again that was not acknowledged")
	attempts := cmd.Flags().Int("max-attempts", 0, "after how many a message is given up as a dead letter; 0: never")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		if *from != "" {
			at := startAt(*from)
			o.From = &at
		}
		o.MaxAttempts = given(cmd, "max-attempts", attempts)
		c, err := s.Log(a[0]).ApplyConsumer(s.ctx, a[1], o)
		if err != nil {
			return err
		}
		return s.consumers([]*headwaterv1.Consumer{c})
	})
	return cmd
}

func consumersDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "delete NAMESPACE CONSUMER", Short: "Forget a consumer", Args: Args(cobra.ExactArgs(2))}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		if err := s.Log(a[0]).DeleteConsumer(s.ctx, a[1]); err != nil {
			return err
		}
		return s.printf("deleted\n")
	})
	return cmd
}
