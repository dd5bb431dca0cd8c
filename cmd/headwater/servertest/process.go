// Package servertest builds the real binary and runs it as a process, for tests
// that need one: to kill it, or to type at it what the documentation says.
//
// A Process is on free ports of the loopback interface. It ends with its test, by
// SIGKILL if it still runs then.
package servertest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds how long a start may take; it is there for hangs, not to measure.
const patience = 2 * time.Minute

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "headwater-binary")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "headwater")
	cmd := exec.Command("go", "build", "-o", path, "github.com/headwater-db/headwater/cmd/headwater")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.Join(fmt.Errorf("build headwater: %w\n%s", err, out), os.RemoveAll(dir))
	}
	return path, nil
})

var built atomic.Bool

// Binary is the path of the binary, built once for a run of tests. It lies alone in
// its directory.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	built.Store(true)
	return path
}

// Cleanup removes the binary. TestMain calls it after the tests.
func Cleanup() error {
	if !built.Load() {
		return nil
	}
	path, err := build()
	if err != nil {
		return err
	}
	return os.RemoveAll(filepath.Dir(path))
}

// Process is a running `headwater dev`.
type Process struct {
	// HTTP, GRPC, Admin and Internal are addresses, "127.0.0.1:4711"; empty where its role has none.
	HTTP, GRPC, Admin, Internal string

	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended; err is set then
	err  error

	mu     sync.Mutex // guards output
	output bytes.Buffer
}

// FreePorts are the flags that put `headwater dev` on free ports, and let it run on
// a disk that is nearly full.
var FreePorts = []string{"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--free-space-floor", "-1"}

// GatewayPorts and WorkerPorts are FreePorts of `headwater gateway` and `headwater consume`.
var (
	GatewayPorts = []string{"--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
	WorkerPorts  = []string{"--internal", "127.0.0.1:0", "--admin", "127.0.0.1:0"}
)

// Start starts `headwater dev` on a data directory, with more arguments, and
// returns when it takes writes.
func Start(t testing.TB, dir string, args ...string) *Process {
	t.Helper()
	args = append(append([]string{"dev", "--data-dir", dir}, FreePorts...), args...)
	return Run(t, exec.Command(Binary(t), args...))
}

// Run starts a command that ends up as `headwater dev`, and returns when it takes
// writes. The command gets a process group of its own; signals go to the group.
func Run(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{cmd: cmd, gone: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = lockedWriter{p}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(stdout); s.Scan(); {
			p.line(s.Text(), ready)
		}
	}()
	go func() {
		<-read // Wait closes the pipe
		p.err = p.cmd.Wait()
		close(p.gone)
	}()
	t.Cleanup(func() { p.Kill(t) })
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-ready:
	case <-p.gone:
		t.Fatalf("headwater ended while it started: %v\n%s", p.err, p.Output())
	case <-limit.C:
		t.Fatalf("headwater is not ready after %v\n%s", patience, p.Output())
	}
	return p
}

// line reads one line of the start-up. The addresses come before "ready".
func (p *Process) line(text string, ready chan struct{}) {
	_, _ = lockedWriter{p}.Write([]byte(text + "\n")) // into memory: does not fail
	f := strings.Fields(text)
	switch {
	case len(f) == 2 && f[0] == "http":
		p.HTTP = strings.TrimPrefix(f[1], "http://")
	case len(f) == 2 && f[0] == "internal":
		p.Internal = f[1]
	case len(f) == 2 && f[0] == "grpc":
		p.GRPC = f[1]
	case len(f) == 2 && f[0] == "admin":
		p.Admin = strings.TrimPrefix(f[1], "http://")
	case strings.HasPrefix(text, "ready in "):
		close(ready) // the output has the line by now
	}
}

// Output is what the process has printed and logged.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// Gone is closed when the process has ended.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// Terminate sends SIGTERM; Gone tells when the process has ended.
func (p *Process) Terminate(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
}

// Kill ends the process by SIGKILL and waits for its end. Safe to call again.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	<-p.gone
}

// Stop ends the process by SIGTERM and waits for its end, which must be a good one.
func (p *Process) Stop(t testing.TB) {
	t.Helper()
	p.signal(t, syscall.SIGTERM)
	<-p.gone
	if p.err != nil {
		t.Errorf("headwater after SIGTERM: %v\n%s", p.err, p.Output())
	}
}

func (p *Process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	select {
	case <-p.gone: // its id may be another's by now
		return
	default:
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("send %v to headwater: %v", s, err)
	}
}

type lockedWriter struct{ p *Process }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	return w.p.output.Write(b)
}
