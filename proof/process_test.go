package proof

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// process is a running headwater.
type process struct {
	cmd   *exec.Cmd
	grpc  string
	ready chan struct{} // closed when it takes writes
	gone  chan struct{} // closed when it has ended; err is set then
	err   error

	mu     sync.Mutex // guards output
	output bytes.Buffer
}

// launch starts `headwater dev` on dir and does not wait for anything.
func launch(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	return launchAs(t, append([]string{"dev", "--data-dir", dir, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn", "--free-space-floor", "-1"}, args...)...)
}

// launchAs starts headwater in the role that args begin with.
func launchAs(t *testing.T, args ...string) *process {
	t.Helper()
	path, err := theBinary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(path, args...), ready: make(chan struct{}), gone: make(chan struct{})}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = lockedWriter{p}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			line := s.Text()
			if f := strings.Fields(line); len(f) == 2 && f[0] == "grpc" {
				p.grpc = f[1]
			}
			if strings.HasPrefix(line, "ready") {
				close(p.ready)
			}
		}
	}()
	go func() {
		<-read // Wait closes the pipe
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	t.Cleanup(func() {
		p.kill(t)
		if said := p.said(); strings.Contains(said, "DATA RACE") { // the binary is built with -race where the tests are
			t.Errorf("headwater has a data race:\n%s", said)
		}
	})
	return p
}

type lockedWriter struct{ p *process }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.output.Write(b)
}

// said is what the process has logged.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// start launches headwater and waits until it takes writes.
func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := launch(t, dir, args...)
	p.waitReady(t)
	return p
}

func (p *process) waitReady(t *testing.T) {
	t.Helper()
	limit := time.NewTimer(2 * time.Minute)
	defer limit.Stop()
	select {
	case <-p.ready:
	case <-p.gone:
		t.Fatalf("headwater ended while it started: %v\n%s", p.err, p.said())
	case <-limit.C:
		t.Fatalf("headwater did not become ready\n%s", p.said())
	}
}

// kill ends the process by SIGKILL and waits for its end. Safe to call twice.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.gone
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, syscall.ESRCH) && !strings.Contains(err.Error(), "finished") {
		t.Errorf("signal %v: %v", s, err)
	}
}

// conn is a connection to one server with the services that the tests use.
type conn struct {
	cc  *grpc.ClientConn
	kv  headwaterv1.KeyValueServiceClient
	log headwaterv1.LogServiceClient
}

func connect(t *testing.T, addr string) *conn {
	t.Helper()
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 250 * time.Millisecond}, MinConnectTimeout: 20 * time.Second,
		}))
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{cc: cc, kv: headwaterv1.NewKeyValueServiceClient(cc), log: headwaterv1.NewLogServiceClient(cc)}
	t.Cleanup(c.close)
	return c
}

func (c *conn) close() { _ = c.cc.Close() } // an error says that it is closed already

// timeout bounds one call: long enough never to matter, so that a call that
// hangs fails instead.
const timeout = 30 * time.Second

func callContext() (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(context.Background(), timeout, fmt.Errorf("the call took longer than %v", timeout))
}
