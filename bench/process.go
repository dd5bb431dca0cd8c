package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// child is a process that is measured: the headwater binary, or the peer of the
// empty call.
type child struct {
	h       *harness
	cmd     *exec.Cmd
	errors  strings.Builder
	started time.Time
	grpc    string // address
	admin   string // address, of a server
}

// build builds the binary once.
func (h *harness) build(ctx context.Context) error {
	if h.binary != "" {
		return nil
	}
	to := filepath.Join(h.dir, "headwater")
	out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", to, "./cmd/headwater").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build headwater (run it at the top of the module): %w\n%s", err, out)
	}
	h.binary = to
	return nil
}

// serve starts `headwater dev` on a data directory, with more flags, and returns once it has said
// where it listens. It may not be ready yet.
func (h *harness) serve(ctx context.Context, data string, args ...string) (*child, error) {
	if err := h.build(ctx); err != nil {
		return nil, err
	}
	return h.start(ctx, h.binary, append([]string{"dev", "--data-dir", data, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn"}, args...)...)
}

// servePeerProcess starts the peer of the empty call.
func (h *harness) servePeerProcess(ctx context.Context) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return h.start(ctx, self, peerUnary)
}

// worker is the role that has no listener of the API.
const worker = "consume"

// start starts a process that prints lines "grpc ADDRESS" and, a server, "admin
// http://ADDRESS".
func (h *harness) start(ctx context.Context, name string, args ...string) (_ *child, err error) {
	c := &child{h: h, cmd: exec.Command(name, args...)}
	c.cmd.Stderr = &c.errors
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	c.started = time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	h.watched = append(h.watched, c.cmd.Process.Pid)
	lines := bufio.NewScanner(out)
	for (c.grpc == "" && args[0] != worker || c.admin == "" && args[0] != peerUnary) && lines.Scan() {
		switch f := strings.Fields(lines.Text()); {
		case len(f) != 2:
		case f[0] == "grpc":
			c.grpc = f[1]
		case f[0] == "admin":
			c.admin = strings.TrimPrefix(f[1], "http://")
		}
	}
	if c.grpc == "" && args[0] != worker {
		return nil, fmt.Errorf("start %s: it did not say where it listens: %w", args[0], c.kill())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
	return c, ctx.Err()
}

// ready waits for /readyz and returns how long it took from the start of the
// process.
func (c *child) ready(ctx context.Context) (time.Duration, error) {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+"/readyz", nil)
		if err != nil {
			return 0, fmt.Errorf("ask whether it is ready: %w", err)
		}
		if res, err := http.DefaultClient.Do(req); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return time.Since(c.started), nil
			}
		}
		t := time.NewTimer(2 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for the server to be ready: %w\n%s", ctx.Err(), c.errors.String())
		}
	}
}

// kill ends the process as kill -9 does. Killing it is what is wanted, so that it
// was killed is no error.
func (c *child) kill() error { return c.end(syscall.SIGKILL) }

// stop drains it.
func (c *child) stop() error { return c.end(syscall.SIGTERM) }

func (c *child) end(sig syscall.Signal) error {
	if err := c.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal: %w", err)
	}
	err := c.cmd.Wait()
	c.h.watched = slices.DeleteFunc(c.h.watched, func(pid int) bool { return pid == c.cmd.Process.Pid })
	if e, ok := errors.AsType[*exec.ExitError](err); ok && sig == syscall.SIGKILL && e.Sys() != nil {
		if s, ok := e.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, c.errors.String())
	}
	return nil
}

// profile fetches a CPU profile of the server for as long as f runs, at most d,
// when profiles are asked for.
func (c *child) profile(ctx context.Context, name string, d time.Duration, f func() error) error {
	if c.h.profiles == "" {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.admin, max(1, int(d.Seconds()))), nil)
			if err != nil {
				return err
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(c.h.profiles, name+".server.pprof"), b, 0o644)
		}()
	}()
	err := f()
	if perr := <-done; perr != nil {
		err = errors.Join(err, fmt.Errorf("profile the server: %w", perr))
	}
	return err
}
