package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
)

// puts is what an application does that writes one item at a time from many
// goroutines: the client sends the puts of a moment together, the server shares
// an fsync among them.
func puts(ctx context.Context, h *harness) (err error) {
	s, c, err := h.served(ctx, filepath.Join(h.data, "server"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop()) }()
	var last *benchload.Report
	subject := side{"client", func(ctx context.Context, round int) (rate float64, err error) {
		d := 2 * h.duration
		err = s.profile(ctx, fmt.Sprintf("puts.%d", round), d, func() (err error) {
			last, err = benchload.Run(ctx, c, benchload.Options{Workload: "kv-put", Duration: d})
			return err
		})
		if err != nil {
			return 0, err
		}
		for e, n := range last.Errors {
			return 0, fmt.Errorf("%d puts failed: %s", n, e)
		}
		if n := last.Durable[client.Sync]; n != last.Calls {
			return 0, fmt.Errorf("%d of %d puts were acknowledged as SYNC", n, last.Calls)
		}
		return last.PerSecond, nil
	}}
	err = h.compare(ctx, "single durable puts of 100 B from 64 goroutines, server in another process", "puts/s",
		&bar{limit: 60_000, atLeast: true, absolute: true}, subject, nil, "")
	if err != nil {
		return err
	}
	h.note("puts: latency of the last turn: p50 %s, p99 %s, p99.9 %s", last.P50, last.P99, last.P999)
	return nil
}

// served starts a server that is ready, and a client of it.
func (h *harness) served(ctx context.Context, dir string, args ...string) (*child, *client.Client, error) {
	s, err := h.serve(ctx, dir, args...)
	if err != nil {
		return nil, nil, err
	}
	wait, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := s.ready(wait); err != nil {
		return nil, nil, errors.Join(err, s.kill())
	}
	c, err := client.Dial(s.grpc, client.Config{})
	if err != nil {
		return nil, nil, errors.Join(err, s.kill())
	}
	return s, c, nil
}
