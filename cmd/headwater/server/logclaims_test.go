package server

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/wal"
)

// TestALogIsAnsweredByWhoStays: each worker keeps a store of a log namespace of its own, and gateways ask the one that
// has claimed it last. When that one leaves, another claims it.
func TestALogIsAnsweredByWhoStays(t *testing.T) {
	t.Parallel()
	for how, leave := range map[string]func(*Server) error{
		"stops":         func(s *Server) error { return s.Drain(t.Context()) },
		"ends abruptly": (*Server).Close,
	} {
		k, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Close)
		c := newSplit(t, k.ListenAddrs())
		for i := range 16 {
			is(t, "a message", send(t, c.gateway, "POST", fmt.Sprintf("/v1/log/demo-log/k%d", i), "x"), "durable", "SUCCEEDED")
		}
		more := c.open(t, Worker, t.TempDir())
		until(t, "the other worker has claimed a part", func() bool {
			x := spaceOf(t, c.gateway, "demo-log")
			for p := range wal.Partition(x.log.Info().Partitions) {
				if h, ok := x.claims.Holder(p); ok && h.Process == more.process {
					return true
				}
			}
			return false
		})
		if err := leave(more); err != nil {
			t.Fatal(err)
		}
		until(t, "after the other worker "+how+" all of the log is read", func() bool {
			return len(send(t, c.gateway, "GET", "/v1/log/demo-log?from=earliest", "").lines()) == 16
		})
	}
}
