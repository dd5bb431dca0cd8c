package demo

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// process is a server that was started here.
type process struct {
	addr string // that clients use
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended

	mu   sync.Mutex // guards what follows
	tail []byte     // the end of what it has printed
	line []byte     // of what it prints on standard output, as far as it is there
}

// keptOutput bounds what is remembered of what a process prints.
const keptOutput = 4 << 10

// launch starts a command. onLine, when set, is called for each line that it
// prints on standard output, one at a time.
func launch(cmd *exec.Cmd, onLine func(line string)) (*process, error) {
	p := &process{cmd: cmd, gone: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &output{p, onLine}, &output{p, nil}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		defer close(p.gone)
		_ = cmd.Wait() // that it was killed is known, and what it said is kept
	}()
	return p, nil
}

// output takes what a process prints.
type output struct {
	p      *process
	onLine func(string)
}

func (o *output) Write(b []byte) (int, error) {
	p := o.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tail = append(p.tail, b...)
	p.tail = p.tail[max(0, len(p.tail)-keptOutput):]
	if o.onLine == nil {
		return len(b), nil
	}
	p.line = append(p.line, b...)
	for {
		i := bytes.IndexByte(p.line, '\n')
		if i < 0 {
			return len(b), nil
		}
		o.onLine(string(p.line[:i]))
		p.line = p.line[i+1:]
	}
}

// said is the end of what the process has printed.
func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.TrimSpace(string(p.tail))
}

// kill ends the process by SIGKILL and waits for its end. Safe to call again.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.gone
}

// startHeadwater starts `headwater dev` of this binary on a directory and free
// ports, and waits until it takes writes.
func startHeadwater(ctx context.Context, exe, dir string, args ...string) (*process, error) {
	cmd := exec.Command(exe, append([]string{"dev", "--data-dir", dir, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn"}, args...)...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HEADWATER_") { // settings of somebody's own server
			cmd.Env = append(cmd.Env, v)
		}
	}
	ready := make(chan struct{})
	var addr string
	p, err := launch(cmd, func(line string) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "grpc" {
			addr = f[1]
		}
		if strings.HasPrefix(line, "ready in ") {
			close(ready)
		}
	})
	if err != nil {
		return nil, err
	}
	select {
	case <-ready:
		p.addr = addr
		return p, nil
	case <-p.gone:
		return nil, fmt.Errorf("headwater dev ended while it started: %s", p.said())
	case <-ctx.Done():
		p.kill()
		return nil, fmt.Errorf("headwater dev is not ready: %w; it says: %s", context.Cause(ctx), p.said())
	}
}
