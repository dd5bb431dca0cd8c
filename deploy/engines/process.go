package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is one server process. It outlives the command that started it.
type process struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
	// Log receives standard output and error; a restart appends.
	Log string `json:"log"`
	// Mark is a part of Args that no other process of the machine has: a path in our folder.
	Mark string `json:"mark"`
	// PID is 0 for a process that is to be started.
	PID int `json:"pid"`
}

// start starts p in a session of its own, so that an interrupt at the terminal reaches
// the command and not the server. If p exits while the command runs, exited gets the reason.
func (p *process) start(exited chan<- error) error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", p.Name, err)
	}
	defer log.Close() //nolint:errcheck // The child has its own descriptor; nothing was written through this one.
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// What our own parent left open must not live on in the server: a flock(1) around this command would
	// stay locked, and a pipe would never end. Go's own descriptors are marked already; marking a closed one does nothing.
	for fd := 3; fd < 256; fd++ {
		syscall.CloseOnExec(fd)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	p.PID = cmd.Process.Pid
	name, path := p.Name, p.Log
	go func() { // Ends with the child or with the command, whichever is first; the channel has room for every child.
		err := cmd.Wait()
		if err == nil {
			err = errors.New("exit status 0")
		}
		exited <- fmt.Errorf("%s stopped while starting: %w; the end of %s:\n%s", name, err, path, tail(path))
	}()
	return nil
}

// alive says whether p's process id still belongs to p. A zombie has no command line and counts as gone.
func (p *process) alive() bool {
	return p.PID != 0 && strings.Contains(commandLine(p.PID), p.Mark)
}

// kill ends p at once and returns when it is gone. Killing what is gone is no error.
func (p *process) kill() error { return p.end(syscall.SIGKILL) }

// end sends p a signal that ends it, and returns when it is gone.
func (p *process) end(sig syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s, process %d: %w", p.Name, p.PID, err)
	}
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(30 * time.Second); p.alive(); <-again.C {
		if time.Now().After(deadline) {
			return fmt.Errorf("kill %s: process %d is still there after 30 s", p.Name, p.PID)
		}
	}
	return nil
}

// commandLine returns "" for a process that is not there.
func commandLine(pid int) string {
	if _, err := os.Stat("/proc/self/cmdline"); err == nil {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			return ""
		}
		return string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
	}
	// No /proc: macOS and the BSDs. ps fails for a process that is not there.
	b, err := exec.Command("ps", "-ww", "-o", "command=", "-p", fmt.Sprint(pid)).Output()
	if err != nil {
		return ""
	}
	return string(b)
}

// tail returns the last lines of a log, enough for a Java stack trace.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}
