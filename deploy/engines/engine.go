package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// readyTimeout bounds the time from a process's start to its first answered request. A broker
// needs 3 to 10 seconds on two idle cores; the rest is for a machine that is busy compiling.
const readyTimeout = 3 * time.Minute

// engine is one kind of server that can be started. The next one is one more value in engines.
type engine struct {
	name string
	// port is the first of the portCount consecutive ports that the engine listens on.
	port, portCount int
	// fetch puts the programs into the cache folder, or finds them there.
	fetch func(ctx context.Context, cache string) error
	// prepare fills the empty folder dir with configuration and formatted data and
	// says which processes to start.
	prepare func(ctx context.Context, cache, dir string) ([]process, error)
	// ready makes one attempt to be served by the whole engine.
	ready func(ctx context.Context, port int) error
	// rejoined makes one attempt to see process n serve, with all of its data caught up.
	rejoined func(ctx context.Context, port, n int) error
	// env is what tests are told about the running engine.
	env func(tool string, st state) []variable
}

// state is what is known of an engine that was started; it is kept in state.json of its folder,
// written before the first process can be lost sight of.
type state struct {
	Engine    string    `json:"engine"`
	Port      int       `json:"port"`
	Processes []process `json:"processes"`
}

// alive is how many of the processes run.
func (st state) alive() int {
	n := 0
	for _, p := range st.Processes {
		if p.alive() {
			n++
		}
	}
	return n
}

// up starts e unless it runs and answers. When it cannot be started nothing is left running,
// and its folder stays for its logs.
func (f folder) up(ctx context.Context, e engine) error {
	if st, err := f.load(e.name); err != nil {
		return err
	} else if st.alive() > 0 {
		if err := e.ready(ctx, st.Port); err == nil {
			logf("%s is up on 127.0.0.1:%d", e.name, st.Port)
			return nil
		}
		logf("%s runs and does not answer: starting it anew", e.name)
	}
	begin := time.Now()
	if err := e.fetch(ctx, f.cache()); err != nil {
		return err
	}
	fetched := time.Since(begin)
	if err := f.down(e.name); err != nil {
		return err
	}
	if err := portsFree(e); err != nil {
		return err
	}
	dir := f.run(e.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create folder of %s: %w", e.name, err)
	}
	ps, err := e.prepare(ctx, f.cache(), dir)
	if err != nil {
		return err
	}
	st := state{Engine: e.name, Port: e.port, Processes: ps}
	err = f.start(ctx, &st, func(ctx context.Context) error { return e.ready(ctx, st.Port) })
	if err != nil {
		for _, p := range st.Processes {
			err = errors.Join(err, p.kill())
		}
		return err
	}
	logf("%s is up on 127.0.0.1:%d: fetched in %.1f s, ready %.1f s later", e.name, st.Port,
		fetched.Seconds(), (time.Since(begin) - fetched).Seconds())
	return nil
}

// start starts those processes of st that have no process id and waits until ready says so.
func (f folder) start(ctx context.Context, st *state, ready func(context.Context) error) error {
	exited := make(chan error, len(st.Processes))
	for i := range st.Processes {
		p := &st.Processes[i]
		if p.PID != 0 {
			continue
		}
		if err := p.start(exited); err != nil {
			return err
		}
		// Saved after each one: whatever happens to us, `down` finds what was started.
		if err := f.save(*st); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("not ready after %s", readyTimeout))
	defer cancel()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := ready(attempt)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case dead := <-exited:
			return dead
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last answer: %w; logs in %s)", st.Engine, context.Cause(ctx), err, f.run(st.Engine))
		case <-again.C:
		}
	}
}

// down kills the engine's processes and removes its data. An engine that is not there is no error.
func (f folder) down(name string) error {
	st, err := f.load(name)
	if err != nil {
		return err
	}
	for _, p := range st.Processes {
		if err := p.kill(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(f.run(name)); err != nil {
		return fmt.Errorf("remove data of %s: %w", name, err)
	}
	return nil
}

// kill kills process n of e without warning and leaves its data.
func (f folder) kill(e engine, n int) (state, error) { return f.end(e, n, syscall.SIGKILL) }

// end ends process n of e by a signal.
func (f folder) end(e engine, n int, sig syscall.Signal) (state, error) {
	st, err := f.load(e.name)
	if err != nil {
		return st, err
	}
	if n < 0 || n >= len(st.Processes) {
		return st, fmt.Errorf("process %d: %s has %d processes, counted from 0", n, e.name, len(st.Processes))
	}
	return st, st.Processes[n].end(sig)
}

// restart starts process n of e on the data that it left, killing it first if it runs, and
// returns its new process id once it serves and has caught up.
func (f folder) restart(ctx context.Context, e engine, n int) (int, error) {
	st, err := f.kill(e, n)
	if err != nil {
		return 0, err
	}
	st.Processes[n].PID = 0
	err = f.start(ctx, &st, func(ctx context.Context) error { return e.rejoined(ctx, st.Port, n) })
	return st.Processes[n].PID, err
}

// portsFree names the taken port before a server's own log would.
func portsFree(e engine) error {
	for port := e.port; port < e.port+e.portCount; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return fmt.Errorf("%s needs ports %d to %d of 127.0.0.1 (move them with --%s-port): %w",
				e.name, e.port, e.port+e.portCount-1, e.name, err)
		}
		if err := l.Close(); err != nil {
			return fmt.Errorf("close probe of port %d: %w", port, err)
		}
	}
	return nil
}

// folder is the one that holds everything of ours: cache/, run/<engine>/ and env.
type folder string

func (f folder) cache() string          { return filepath.Join(string(f), "cache") }
func (f folder) run(name string) string { return filepath.Join(string(f), "run", name) }

// load returns the zero state for an engine that is not there.
func (f folder) load(name string) (state, error) {
	var st state
	b, err := os.ReadFile(filepath.Join(f.run(name), "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("read state of %s: %w", name, err)
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return st, fmt.Errorf("decode state of %s: %w", name, err)
	}
	return st, nil
}

func (f folder) save(st state) error {
	b, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state of %s: %w", st.Engine, err)
	}
	return writeFile(filepath.Join(f.run(st.Engine), "state.json"), append(b, '\n'))
}

// writeFile replaces path as a whole, so that a reader never sees half of it.
func writeFile(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
