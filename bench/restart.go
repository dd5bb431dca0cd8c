package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
)

// restarts measures from the start of the process to its first 200 from /readyz:
// on directories that hold a small and a large log and were left by kill -9
// during writes, and on an empty directory.
func restarts(ctx context.Context, h *harness) error {
	small, large := filepath.Join(h.data, "small"), filepath.Join(h.data, "large")
	if err := h.prepare(ctx, small, h.smallLog); err != nil {
		return err
	}
	if err := h.prepare(ctx, large, h.largeLog); err != nil {
		return err
	}
	var turns, ready []turn
	for round := 0; len(turns) < h.rounds || h.disturbedAmong(turns) > 0 && round < h.rounds+h.repeats; round++ {
		a, err := h.killAndRestart(ctx, small)
		if err != nil {
			return fmt.Errorf("small log: %w", err)
		}
		b, err := h.killAndRestart(ctx, large)
		if err != nil {
			return fmt.Errorf("large log: %w", err)
		}
		turns = append(turns, turn{peer: a.subject, subject: b.subject, elsewhere: max(a.elsewhere, b.elsewhere)})
		ready = append(ready, b)
	}
	name := number(float64(h.largeLog)) + " log records"
	h.add("restart after kill -9 during writes, until ready", "ms", atMost(1.5), name, number(float64(h.smallLog))+" log records", turns,
		"every token is younger than the token window, which is the worst case; page cache warm")
	second := &bar{limit: 1000, absolute: true}
	h.add("ready on "+name+", after kill -9", "ms", second, "start", "", ready, "")
	empty := side{"start", func(ctx context.Context, round int) (float64, error) {
		dir := filepath.Join(h.data, fmt.Sprintf("empty-%d", round))
		s, took, err := h.timedStart(ctx, dir)
		if err != nil {
			return 0, err
		}
		return took, errors.Join(s.stop(), os.RemoveAll(dir))
	}}
	return h.compare(ctx, "ready on an empty directory", "ms", second, empty, nil, "with the making of the demo namespaces")
}

// manyTokens lets the namespace hold the tokens of a log that was written within
// one token window.
const manyTokens = "namespace: demo-kv\nabstraction: kv\ntokens: { max_live: 100000000 }\n"

// prepare makes a data directory whose demo-kv namespace holds n records, all of
// them applied. They are written to the log directly, one put each.
func (h *harness) prepare(ctx context.Context, dir string, n int) error {
	s, _, err := h.timedStart(ctx, dir) // makes the namespaces
	if err != nil {
		return err
	}
	c, err := client.Dial(s.grpc, client.Config{})
	if err != nil {
		return errors.Join(err, s.kill())
	}
	_, err = c.Namespaces().Apply(ctx, manyTokens, client.ApplyOptions{})
	if err := errors.Join(err, c.Close(), s.stop()); err != nil {
		return fmt.Errorf("configure the namespace: %w", err)
	}
	if err := writeLog(ctx, dir, n); err != nil {
		return err
	}
	start := time.Now()
	s, _, err = h.timedStart(ctx, dir) // applies them
	if err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	h.note("restart: the first start on %s records, none of them applied, took %.1f s (%s records/s)", number(float64(n)), took, number(float64(n)/took))
	return s.stop()
}

func writeLog(ctx context.Context, dir string, n int) (err error) {
	b, err := openLog(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	log, err := b.Open(ctx, "headwater.kv.demo-kv.1")
	if err != nil {
		return err
	}
	return writePuts(ctx, log, 0, n, 1, b.Now())
}

// timedStart starts a server and waits, for up to ten minutes, until it is ready.
func (h *harness) timedStart(ctx context.Context, dir string) (*child, float64, error) {
	s, err := h.serve(ctx, dir)
	if err != nil {
		return nil, 0, err
	}
	wait, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	took, err := s.ready(wait)
	if err != nil {
		return nil, 0, errors.Join(err, s.kill())
	}
	return s, float64(took.Microseconds()) / 1000, nil
}

// killAndRestart writes to a server for a while, kills it in the middle, and
// measures how long the next start takes.
func (h *harness) killAndRestart(ctx context.Context, dir string) (t turn, err error) {
	s, _, err := h.timedStart(ctx, dir)
	if err != nil {
		return t, err
	}
	if err := h.firstWrite(ctx, s); err != nil {
		return t, errors.Join(err, s.kill())
	}
	c, err := client.Dial(s.grpc, client.Config{FailFast: true, Timeout: time.Second})
	if err != nil {
		return t, errors.Join(err, s.kill())
	}
	ended := make(chan error, 1)
	writing, stop := context.WithCancel(ctx)
	go func() {
		rep, err := benchload.Run(writing, c, benchload.Options{Workload: "kv-put", Duration: time.Minute})
		if err == nil && rep.Calls == 0 {
			err = fmt.Errorf("no write was taken before the kill: %v", rep.Errors)
		}
		ended <- err
	}()
	timer := time.NewTimer(h.duration)
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	kerr := s.kill()
	stop()
	if err := errors.Join(kerr, <-ended, c.Close(), ctx.Err()); err != nil {
		return t, err
	}
	w := h.watch()
	s, took, err := h.timedStart(ctx, dir)
	if err != nil {
		return t, err
	}
	t = turn{subject: took, elsewhere: w.elsewhere()}
	return t, s.stop()
}

// firstWrite waits until a server that is ready takes a write: it may shed them
// while it holds more tokens than the namespace allows, and how long it does is
// part of the results.
func (h *harness) firstWrite(ctx context.Context, s *child) (err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, err := client.Dial(s.grpc, client.Config{Timeout: time.Minute, RetryMax: 100 * time.Millisecond})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	start := time.Now()
	if _, err := c.KV("demo-kv").Put(ctx, "first", "write", []byte("taken")); err != nil {
		return fmt.Errorf("write to a server that is ready: %w", err)
	}
	if took := time.Since(start); took > time.Second {
		h.note("restart: a server that was ready shed its writes for another %.1f s", took.Seconds())
	}
	return nil
}
