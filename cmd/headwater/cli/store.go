package cli

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func storeCommand() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "store", Short: "Show the stores of a namespace, compare them, promote one, drop one"})
	cmd.AddCommand(storeListCommand(), storeCompareCommand(), storePromoteCommand(), storeRollbackCommand(), storeDropCommand())
	return cmd
}

func storeListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list NAMESPACE",
		Short: "Show the stores of a namespace and how far each is",
		Args:  Args(cobra.ExactArgs(1)),
	}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		stores, err := s.Admin().Stores(s.ctx, a[0])
		if err != nil {
			return err
		}
		return s.stores(stores...)
	})
	return cmd
}

// stores prints stores as rows, or as lines of JSON.
func (s *session) stores(stores ...*headwaterv1.Store) error {
	out := s.rows("STORE", "ROLE", "TYPE", "GENERATION", "STATE", "DONE", "COMPARED", "MESSAGE")
	for _, st := range stores {
		if s.json {
			if err := s.answer(st); err != nil {
				return err
			}
			continue
		}
		compared := "-"
		if c := st.GetCompared(); c != nil {
			compared = fmt.Sprintf("%d differences in %d", c.GetDifferences(), c.GetItems())
		}
		done := fmt.Sprintf("%d of %d", st.GetItemsDone(), st.GetItemsTotal())
		err := out.add(st.GetName(), st.GetRole(), st.GetType(), strconv.FormatInt(st.GetGeneration(), 10), st.GetState().String(), done, compared, dash(st.GetMessage()))
		if err != nil {
			return err
		}
	}
	return out.flush()
}

func storeCompareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compare NAMESPACE STORE",
		Short: "Compare a store with the PRIMARY at one position, item by item",
		Args:  Args(cobra.ExactArgs(2)),
	}
	wait := cmd.Flags().Bool("wait", false, "wait for the end and show what was found")
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		job, err := s.Admin().CompareStore(s.ctx, a[0], a[1])
		if err != nil {
			return err
		}
		return s.started(job, *wait)
	})
	return cmd
}

// started prints a job, when it has ended if wait is set.
func (s *session) started(id string, wait bool) error {
	for {
		j, err := s.Admin().Job(s.ctx, id)
		if err != nil {
			return err
		}
		if !wait || j.GetState() != headwaterv1.Job_RUNNING {
			if err := s.jobs(j); err != nil {
				return err
			}
			if wait && j.GetState() != headwaterv1.Job_DONE {
				return fmt.Errorf("job %s: %s: %s", id, j.GetState(), j.GetMessage())
			}
			return nil
		}
		t := time.NewTimer(200 * time.Millisecond)
		select {
		case <-t.C:
		case <-s.ctx.Done():
			t.Stop()
			return s.ctx.Err()
		}
	}
}

func storePromoteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote NAMESPACE STORE",
		Short: "Make a compared SHADOW the PRIMARY; the former PRIMARY follows it",
		Args:  Args(cobra.ExactArgs(2)),
	}
	accept := cmd.Flags().Bool("accept-differences", false, "promote it though the last comparison found differences")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		st, err := s.Admin().PromoteStore(s.ctx, a[0], a[1], *accept)
		if err != nil {
			return err
		}
		return s.stores(st)
	})
	return cmd
}

func storeRollbackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rollback NAMESPACE STORE",
		Short: "Make a RETIRING store the PRIMARY again",
		Args:  Args(cobra.ExactArgs(2)),
	}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		st, err := s.Admin().RollbackStore(s.ctx, a[0], a[1])
		if err != nil {
			return err
		}
		return s.stores(st)
	})
	return cmd
}

func storeDropCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drop NAMESPACE STORE --confirm STORE",
		Short: "Remove a store that does not serve, and all that it holds",
		Args:  Args(cobra.ExactArgs(2)),
	}
	confirm := cmd.Flags().String("confirm", "", "the store's name once more")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		if *confirm != a[1] {
			return usagef("this removes store %s of namespace %s and all that it holds; to do it, add --confirm %s", printable(a[1]), printable(a[0]), printable(a[1]))
		}
		if err := s.Admin().DropStore(s.ctx, a[0], a[1], *confirm); err != nil {
			return err
		}
		if s.json {
			return s.line(map[string]any{"namespace": a[0], "store": a[1]})
		}
		return s.printf("store %s of namespace %s is dropped\n", printable(a[1]), printable(a[0]))
	})
	return cmd
}

func rebuildCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rebuild NAMESPACE",
		Short: "Make the PRIMARY of a namespace anew from its log, while it serves",
		Long: `Make the PRIMARY of a namespace anew from its log, while it serves. The new store is
compared with the PRIMARY and takes its place when the two are equal.

With --omit and --from the new store leaves something out: the writes of a token, or
all records before a place in the log. It waits then in state COMPARING, whatever the
comparison found: look at "headwater store list", and promote it if it is right.`,
		Args: Args(cobra.ExactArgs(1)),
	}
	dryRun := cmd.Flags().Bool("dry-run", false, "only say whether the log reaches back far enough")
	wait := cmd.Flags().Bool("wait", false, "wait for the end")
	from := cmd.Flags().String("from", "earliest", "begin with this record: earliest, a time such as 2026-01-31T12:00:00Z, how long ago such as 90m, or behind a position")
	omit := cmd.Flags().StringArray("omit", nil, "leave out the writes of this token: a business key, or base64:NONCE; may be repeated")
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		req := &headwaterv1.RebuildRequest{Namespace: a[0], DryRun: *dryRun}
		if *from != "earliest" {
			req.From = &headwaterv1.RebuildRequest_From{At: &headwaterv1.RebuildRequest_From_Position{Position: *from}}
			if t, err := moment("--from", *from); err == nil {
				req.From.At = &headwaterv1.RebuildRequest_From_Time{Time: timestamppb.New(t)}
			}
		}
		for _, token := range *omit {
			t := &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Key{Key: token}}
			if nonce, ok := strings.CutPrefix(token, "base64:"); ok {
				b, err := base64.StdEncoding.DecodeString(nonce)
				if err != nil {
					return usagef("--omit %s: what follows base64: is not base64", token)
				}
				t.Identity = &headwaterv1.IdempotencyToken_Nonce{Nonce: b}
			}
			req.Omit = append(req.Omit, t)
		}
		job, err := s.Admin().Rebuild(s.ctx, req)
		if err != nil {
			return err
		}
		if *dryRun {
			return s.printf("namespace %s can be rebuilt from its log\n", printable(a[0]))
		}
		return s.started(job, *wait)
	})
	return cmd
}

func jobsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "jobs [ID]",
		Short: "Show what runs in the background, or cancel it",
		Args:  Args(cobra.MaximumNArgs(1)),
	}
	cancel := cmd.Flags().Bool("cancel", false, "end the job")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		switch {
		case len(a) == 0 && *cancel:
			return usagef("--cancel needs the id of a job")
		case len(a) == 0:
			jobs, err := s.Admin().Jobs(s.ctx)
			if err != nil {
				return err
			}
			return s.jobs(jobs...)
		case *cancel:
			j, err := s.Admin().CancelJob(s.ctx, a[0])
			if err != nil {
				return err
			}
			return s.jobs(j)
		}
		j, err := s.Admin().Job(s.ctx, a[0])
		if err != nil {
			return err
		}
		return s.jobs(j)
	})
	return cmd
}

func (s *session) jobs(jobs ...*headwaterv1.Job) error {
	out := s.rows("JOB", "KIND", "NAMESPACE", "STATE", "DONE", "MESSAGE")
	for _, j := range jobs {
		if s.json {
			if err := s.answer(j); err != nil {
				return err
			}
			continue
		}
		done := fmt.Sprintf("%d of %d", j.GetDone(), j.GetTotal())
		if err := out.add(j.GetId(), j.GetKind(), j.GetNamespace(), j.GetState().String(), done, dash(j.GetMessage())); err != nil {
			return err
		}
	}
	return out.flush()
}
