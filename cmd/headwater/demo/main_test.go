package demo

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/cmd/headwater/servertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := servertest.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left over:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// serve runs a server in this process, on an empty directory, and returns a client.
func serve(t *testing.T) *client.Client {
	t.Helper()
	s, err := server.Open(t.Context(), server.Config{DataDir: t.TempDir(), Demo: true, FreeSpaceFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return dial(t, s.GRPCAddr(), client.Config{})
}

func dial(t *testing.T, address string, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.Dial(address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	})
	return c
}

const namespace = "demo-kv"

func flights(t *testing.T, rows int) *Flights {
	t.Helper()
	f, err := Sample(rows)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
