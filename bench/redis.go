package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// redis is the peer of the counters: redis-server with appendfsync always, so
// that an acknowledged increment is on the disk, as ours is.
type redis struct {
	h    *harness
	cmd  *exec.Cmd
	log  bytes.Buffer
	port string
}

var errNoRedis = errors.New("redis-server and redis-benchmark are not on the PATH (Debian: apt-get install redis-server redis-tools)")

// startRedis starts a server with its data in dir.
func (h *harness) startRedis(ctx context.Context, dir string) (*redis, error) {
	for _, name := range []string{"redis-server", "redis-benchmark"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, errNoRedis
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory for redis: %w", err)
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	r := &redis{h: h, port: port}
	r.cmd = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", dir, "--appendonly", "yes", "--appendfsync", "always",
		"--save", "", "--auto-aof-rewrite-percentage", "0")
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	h.watched = append(h.watched, r.cmd.Process.Pid)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var d net.Dialer
		if c, err := d.DialContext(ctx, "tcp", "127.0.0.1:"+port); err == nil {
			return r, c.Close()
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("redis-server does not answer: %s", r.log.String()), r.stop())
		}
	}
}

func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, errors.Join(err, l.Close())
}

func (r *redis) stop() error {
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop redis-server: %w", err)
	}
	err := r.cmd.Wait()
	r.h.watched = slices.DeleteFunc(r.h.watched, func(pid int) bool { return pid == r.cmd.Process.Pid })
	if err != nil {
		return fmt.Errorf("stop redis-server: %w\n%s", err, r.log.String())
	}
	return nil
}

// incr has redis-benchmark increment random ones of keys counters for about d
// and returns increments per second. The number of requests is taken from a
// short run before.
func (r *redis) incr(ctx context.Context, connections, pipeline, keys int, d time.Duration) (float64, error) {
	short := max(20*connections*pipeline, 20_000)
	rate, err := r.benchmark(ctx, connections, pipeline, keys, short)
	if err != nil {
		return 0, err
	}
	return r.benchmark(ctx, connections, pipeline, keys, max(short, int(rate*d.Seconds())))
}

func (r *redis) benchmark(ctx context.Context, connections, pipeline, keys, requests int) (float64, error) {
	out, err := exec.CommandContext(ctx, "redis-benchmark", "-p", r.port, "-c", strconv.Itoa(connections), "-P", strconv.Itoa(pipeline),
		"-r", strconv.Itoa(keys), "-n", strconv.Itoa(requests), "--csv", "INCR", "plays/title-__rand_int__").Output()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w", err)
	}
	rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(rows) == 0 || len(rows[len(rows)-1]) < 2 {
		return 0, fmt.Errorf("redis-benchmark printed %q: %w", out, err)
	}
	return strconv.ParseFloat(rows[len(rows)-1][1], 64)
}
