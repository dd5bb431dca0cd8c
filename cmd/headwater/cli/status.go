package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [NAMESPACE]",
		Short: "Show how the server, its log and its stores are",
		Args:  Args(cobra.MaximumNArgs(1)),
	}
	partitions := cmd.Flags().Bool("partitions", false, "a row for each partition")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		name := ""
		if len(a) == 1 {
			name = a[0]
		}
		st, err := s.Admin().Status(s.ctx, name)
		if err != nil {
			return err
		}
		if s.json {
			return s.answer(st)
		}
		if err := s.serverStatus(st); err != nil {
			return err
		}
		if *partitions {
			return s.partitionStatus(st)
		}
		if err := s.namespaceStatus(st); err != nil {
			return err
		}
		return s.consumerStatus(st)
	})
	return cmd
}

func (s *session) serverStatus(st *headwaterv1.StatusResponse) error {
	b, l := st.GetBuild(), st.GetLog()
	built := b.GetGoVersion()
	if b.GetCommit() != "" {
		built = b.GetCommit() + ", " + built
	}
	if err := s.printf("headwater %s (%s)  incarnation %s\n", b.GetVersion(), built, st.GetIncarnation()); err != nil {
		return err
	}
	log := fmt.Sprintf("log %s, %s, durability %s", l.GetType(), l.GetState(), st.GetDurability())
	if l.GetBytes() >= 0 {
		log += ", " + size(l.GetBytes())
	}
	if l.GetDiskFreeBytes() >= 0 {
		log += ", " + size(l.GetDiskFreeBytes()) + " of disk free"
	}
	if l.GetReason() != "" {
		log += ": " + printable(l.GetReason())
	}
	if l.GetTrimBlockedBy() != "" {
		log += "; trim is blocked by " + printable(l.GetTrimBlockedBy())
	}
	for _, w := range st.GetWarnings() {
		log += "\nwarning: " + printable(w)
	}
	return s.printf("%s\n\n", log)
}

func (s *session) namespaceStatus(st *headwaterv1.StatusResponse) error {
	out := s.rows("NAMESPACE", "ABSTRACTION", "VERSION", "PARTITIONS", "RECORDS", "LAG", "LAG_SECONDS", "PARKED", "DEAD_LETTERS", "TOKENS", "STORES")
	for _, n := range st.GetNamespaces() {
		records, lag, seconds := int64(0), int64(0), 0.0
		for _, p := range n.GetPartitions() {
			records += p.GetAppended() - p.GetTrimmed()
			lag += p.GetLagRecords()
			seconds = max(seconds, p.GetLagSeconds())
		}
		stores := make([]string, len(n.GetStores()))
		for i, t := range n.GetStores() {
			stores[i] = storeCell(t)
			if t.GetReason() != "" {
				stores[i] += " (" + printable(t.GetReason()) + ")"
			}
		}
		if err := out.add(n.GetName(), n.GetAbstraction(), strconv.FormatInt(n.GetVersion(), 10), strconv.Itoa(len(n.GetPartitions())),
			strconv.FormatInt(records, 10), strconv.FormatInt(lag, 10), strconv.FormatFloat(seconds, 'f', 1, 64),
			strconv.FormatInt(n.GetParkedKeys(), 10), strconv.FormatInt(n.GetDeadLetters(), 10),
			strconv.FormatInt(n.GetTokensLive(), 10)+"/"+strconv.FormatInt(n.GetTokensLimit(), 10), dash(strings.Join(stores, " "))); err != nil {
			return err
		}
	}
	return out.flush()
}

// consumerStatus tells of the named consumers, where there are any.
func (s *session) consumerStatus(st *headwaterv1.StatusResponse) error {
	some := slices.ContainsFunc(st.GetNamespaces(), func(n *headwaterv1.NamespaceStatus) bool { return len(n.GetConsumers()) > 0 })
	if !some {
		return nil
	}
	if err := s.printf("\n"); err != nil {
		return err
	}
	out := s.rows("NAMESPACE", "CONSUMER", "LAG", "IN_FLIGHT", "REDELIVERING", "GIVEN_UP")
	for _, n := range st.GetNamespaces() {
		for _, c := range n.GetConsumers() {
			number := func(n int64) string { return strconv.FormatInt(n, 10) }
			err := out.add(n.GetName(), c.GetConsumer(), number(c.GetLagRecords()), number(c.GetInFlight()), number(c.GetRedelivering()), number(c.GetGivenUp()))
			if err != nil {
				return err
			}
		}
	}
	return out.flush()
}

// storeCell says how one store stands. Example: SHADOW/pebble=catching up (next, BUILDING, 1200 records behind).
func storeCell(t *headwaterv1.StoreStatus) string {
	cell := t.GetRole() + "/" + t.GetType() + "=" + t.GetState()
	if t.GetName() == "" || t.GetRole() == "PRIMARY" {
		return cell
	}
	return fmt.Sprintf("%s (%s, %s, %d records behind)", cell, printable(t.GetName()), t.GetStage(), t.GetLagRecords())
}

func (s *session) partitionStatus(st *headwaterv1.StatusResponse) error {
	out := s.rows("NAMESPACE", "PARTITION", "FIRST", "LAST", "APPLIED", "LAG", "LAG_SECONDS", "PARKED", "TRIM_BLOCKED_BY")
	for _, n := range st.GetNamespaces() {
		for _, p := range n.GetPartitions() {
			applied := make([]string, 0, len(p.GetApplied()))
			for _, role := range slices.Sorted(maps.Keys(p.GetApplied())) {
				applied = append(applied, role+"="+strconv.FormatInt(p.GetApplied()[role], 10))
			}
			if err := out.add(n.GetName(), strconv.Itoa(int(p.GetPartition())), strconv.FormatInt(p.GetTrimmed()+1, 10), strconv.FormatInt(p.GetAppended(), 10),
				dash(strings.Join(applied, " ")), strconv.FormatInt(p.GetLagRecords(), 10), strconv.FormatFloat(p.GetLagSeconds(), 'f', 1, 64),
				strconv.FormatInt(p.GetParkedKeys(), 10), dash(p.GetTrimBlockedBy())); err != nil {
				return err
			}
		}
	}
	return out.flush()
}

// size is a number of bytes for people.
func size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, u := float64(n)/1024, 0
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + " " + units[u:u+1] + "iB"
}
