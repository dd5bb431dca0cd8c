package proof

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/cmd/headwater/server"
)

// TestNothingIsLeftRunning closes and drains a server that is busy: with writes in
// hand, readers that follow, and watchers. Every goroutine must have ended, and
// every caller been answered.
func TestNothingIsLeftRunning(t *testing.T) {
	seed, _ := seedOf(t)
	for how, end := range map[string]func(*server.Server) error{
		"close": func(s *server.Server) error { return s.Close() },
		"drain": func(s *server.Server) error {
			ctx, cancel := callContext()
			defer cancel()
			return s.Drain(ctx)
		},
	} {
		t.Run(how, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			s := open(t, t.TempDir(), nil)
			c := connect(t, s.GRPCAddr())
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			tail, err := c.log.ReadLog(ctx, &headwaterv1.ReadLogRequest{Namespace: "demo-log", Follow: true, From: &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Earliest_{Earliest: &headwaterv1.LogStart_Earliest{}}}})
			if err != nil {
				t.Fatal(err)
			}
			watch, err := headwaterv1.NewNamespaceServiceClient(c.cc).WatchNamespaces(ctx, &headwaterv1.WatchNamespacesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 2)
			follow := func(next func() error) {
				var err error
				for err == nil {
					err = next()
				}
				ended <- err
			}
			go follow(func() error { _, err := tail.Recv(); return err })
			go follow(func() error { _, err := watch.Recv(); return err })
			b := &book{}
			b.setStopping(true)
			stop, loaded := make(chan struct{}), make(chan struct{})
			go func() {
				l := &load{book: b, ids: 4, keys: 4, kvName: "demo-kv", logName: "demo-log"}
				l.run(c, seed, 4, stop)
				close(loaded)
			}()
			if _, err := tail.Header(); err != nil { // the load runs by the time that the first message is there
				t.Fatal(err)
			}
			if err := end(s); err != nil {
				t.Errorf("%s: %v", how, err)
			}
			close(stop)
			<-loaded
			for range 2 {
				if err := <-ended; status.Code(err) == codes.OK || errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a stream ended with %v", err)
				}
			}
			if err := b.err(); err != nil {
				t.Error(err)
			}
			cancel()
			c.close()
			goleak.VerifyNone(t, before)
		})
	}
}
