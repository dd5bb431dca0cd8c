package proof

import (
	"context"
	"testing"

	"github.com/headwater-db/headwater/cmd/headwater/server"
)

// open starts the whole service in this process and waits until it takes writes.
func open(t *testing.T, dir string, change func(*server.Config)) *server.Server {
	t.Helper()
	cfg := server.Config{DataDir: dir, Demo: true, FreeSpaceFloor: -1}
	if change != nil {
		change(&cfg)
	}
	s, err := server.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := callContext()
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve is open for the whole test, with a connection.
func serve(t *testing.T) *conn {
	t.Helper()
	s := open(t, t.TempDir(), nil)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return connect(t, s.GRPCAddr())
}
