package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func counterReserveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reserve NAMESPACE COUNTER AMOUNT",
		Short: "Hold a part of what is available of a counter",
		Long: `Hold AMOUNT of what is available of a counter, its value less what is held, until
it is settled or cancelled, or the lease ends. Prints the id of the reservation.
The exit code is 4 when less is available.`,
		Args:        Args(cobra.ExactArgs(3)),
		Annotations: map[string]string{takesNegatives: "AMOUNT"}, // to be refused as what it is
	}
	lease := cmd.Flags().Duration("lease", time.Minute, "how long it is held, 1ms to 720h")
	token := tokenFlag(cmd)
	cmd.RunE = verb(once, func(s *session, a []string) error {
		name, err := s.counter(a[1])
		if err != nil {
			return err
		}
		amount, err := integer("AMOUNT", a[2])
		if err != nil {
			return err
		}
		if amount <= 0 {
			return usagef("AMOUNT %d: it must be above zero", amount)
		}
		r, err := s.Counter(a[0]).Reserve(s.ctx, name, amount, *lease, client.CounterWriteOptions{Token: client.Token{Key: *token}})
		if err != nil {
			return err
		}
		if !s.json {
			return s.printf("%s\n", r.ID)
		}
		return s.line(struct {
			ID        string            `json:"reservationId"`
			Counter   string            `json:"counter"`
			Value     int64             `json:"value"`
			Held      int64             `json:"held"`
			ExpiresAt time.Time         `json:"expiresAt"`
			Position  string            `json:"position"`
			Duplicate client.Duplicate  `json:"duplicate"`
			Durable   client.Durability `json:"durability"`
			Token     string            `json:"token"`
		}{r.ID, s.cellText(name), r.Count.Value, r.Count.Held, r.ExpiresAt, r.Position, r.Duplicate, r.Durability, r.Token.String()})
	})
	return cmd
}

func counterSettleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settle NAMESPACE ID",
		Short: "Take what was reserved from the value, and free the hold",
		Args:  Args(cobra.ExactArgs(2)),
	}
	amount := cmd.Flags().Int64("amount", 0, "take only so much; the rest is free again (default all of it)")
	token := tokenFlag(cmd)
	cmd.RunE = verb(once, func(s *session, a []string) error {
		r := s.Counter(a[0]).Reservation(a[1])
		settle := r.Settle
		if cmd.Flags().Changed("amount") {
			if *amount < 0 {
				return usagef("--amount %d: it must not be negative", *amount)
			}
			settle = func(ctx context.Context, o client.CounterWriteOptions) (client.Count, error) {
				return r.SettleAmount(ctx, *amount, o)
			}
		}
		return s.ended(a[1], *token, settle)
	})
	return cmd
}

func counterCancelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cancel NAMESPACE ID",
		Short: "Free what a reservation holds",
		Long:  "Free what a reservation holds. Doing it again changes nothing; after a settlement it is refused.",
		Args:  Args(cobra.ExactArgs(2)),
	}
	token := tokenFlag(cmd)
	cmd.RunE = verb(once, func(s *session, a []string) error {
		return s.ended(a[1], *token, s.Counter(a[0]).Reservation(a[1]).Cancel)
	})
	return cmd
}

// ended ends a reservation and prints what that makes of the counter.
func (s *session) ended(id, token string, end func(context.Context, client.CounterWriteOptions) (client.Count, error)) error {
	c, err := end(s.ctx, client.CounterWriteOptions{Token: client.Token{Key: token}})
	if err != nil {
		return err
	}
	if s.json {
		return s.line(struct {
			ID       string `json:"reservationId"`
			Value    int64  `json:"value"`
			Held     int64  `json:"held"`
			Position string `json:"position"`
		}{id, c.Value, c.Held, c.Position})
	}
	return s.printf("value %d, held %d\n", c.Value, c.Held)
}
