package proof

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-db/headwater/cmd/headwater/servertest"
)

// limit is when a process that should have ended hangs, and when what should come
// about by itself does not.
const limit = time.Minute

// volume is a file system of its own, in memory.
type volume struct{ dir string }

func mount(t *testing.T, dir string, size string) *volume {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if errors.Is(err, syscall.EPERM) {
			t.Skip("mounting needs rights that this process has not")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return &volume{dir}
}

func (v *volume) ballast() string { return filepath.Join(v.dir, "ballast") }

// fill leaves no byte.
func (v *volume) fill(t *testing.T) { v.leave(t, 0) }

// leave leaves so many bytes, about.
func (v *volume) leave(t *testing.T, bytes int64) {
	t.Helper()
	f, err := os.OpenFile(v.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); err == nil; {
		var st syscall.Statfs_t
		if err := syscall.Statfs(v.dir, &st); err != nil {
			t.Fatal(err)
		}
		free := int64(st.Bavail) * st.Bsize
		if free <= bytes {
			return
		}
		_, err = f.Write(block[:min(int64(len(block)), free-bytes)])
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func (v *volume) free(t *testing.T) {
	t.Helper()
	if err := os.Remove(v.ballast()); err != nil {
		t.Fatal(err)
	}
}

// verb runs a command of the binary to its end.
func verb(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, servertest.Binary(t), args...).CombinedOutput()
	exit, ended := errors.AsType[*exec.ExitError](err)
	if ctx.Err() != nil || err != nil && !ended {
		t.Fatalf("headwater %q: %v, %v\n%.2000s", args, err, ctx.Err(), out)
	}
	if err != nil {
		code = exit.ExitCode()
	}
	return code, string(out)
}

// startRefused starts `headwater dev`, which must end by itself, with exit code 1, and
// say what is expected in its last line, and nothing like a stack.
func startRefused(t *testing.T, dir string, want ...string) {
	t.Helper()
	code, out := verb(t, append([]string{"dev", "--data-dir", dir}, servertest.FreePorts...)...)
	last := out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:]
	for _, w := range append(want, "error: ") {
		if !strings.Contains(last, w) {
			t.Errorf("the start says %q, and not %q", last, w)
		}
	}
	if code != 1 || strings.Contains(out, "goroutine ") {
		t.Errorf("exit code %d\n%.3000s", code, out)
	}
	t.Log(strings.TrimSpace(last))
}

func put(t *testing.T, p *servertest.Process, id string) (code int, output string) {
	t.Helper()
	return verb(t, "kv", "put", "demo-kv", id, "k", strings.Repeat("v", 1000), "--address", p.GRPC)
}

func mustPut(t *testing.T, p *servertest.Process, id string) {
	t.Helper()
	if code, out := put(t, p, id); code != 0 {
		t.Fatalf("put %s: %d %s\n%s", id, code, out, p.Output())
	}
}

func mustGet(t *testing.T, p *servertest.Process, id string) {
	t.Helper()
	if code, out := verb(t, "kv", "get", "demo-kv", id, "k", "--address", p.GRPC); code != 0 || !strings.HasPrefix(out, "vvv") {
		t.Fatalf("get %s: %d %.200s\n%s", id, code, out, p.Output())
	}
}

// ready asks /readyz.
func ready(t *testing.T, p *servertest.Process, query string) (ok bool, why string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Admin+"/readyz"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode == http.StatusOK, string(b)
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s did not come about", what)
		}
	}
}

// TestStartOnADiskThatCannotBeWritten: the start says why and ends, and with the
// disk mended it succeeds, with everything there.
func TestStartOnADiskThatCannotBeWritten(t *testing.T) {
	t.Run("full, empty directory", func(t *testing.T) {
		v := mount(t, t.TempDir(), "100m")
		dir := filepath.Join(v.dir, "data")
		v.fill(t)
		startRefused(t, dir, "the disk is full", "(HW-1503)")
		v.free(t)
		v.leave(t, 300<<10) // enough for the small files, and not for a log
		startRefused(t, dir, "the disk is full", "(HW-1503)")
		v.free(t)
		mustPut(t, servertest.Start(t, dir), "a")
	})
	t.Run("full, with data", func(t *testing.T) {
		v := mount(t, t.TempDir(), "100m")
		dir := filepath.Join(v.dir, "data")
		p := servertest.Start(t, dir)
		for i := range 20 {
			mustPut(t, p, fmt.Sprint(i))
		}
		p.Kill(t) // so that there is something to replay
		v.fill(t)
		for range 2 {
			startRefused(t, dir, "the disk is full", "(HW-1503)")
		}
		v.free(t)
		p = servertest.Start(t, dir)
		for i := range 20 {
			mustGet(t, p, fmt.Sprint(i))
		}
		p.Stop(t)
	})
	t.Run("read-only", func(t *testing.T) {
		v := mount(t, t.TempDir(), "100m")
		dir := filepath.Join(v.dir, "data")
		p := servertest.Start(t, dir)
		mustPut(t, p, "a")
		p.Stop(t)
		if err := syscall.Mount("", v.dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		startRefused(t, dir, "read-only file system")
		startRefused(t, filepath.Join(v.dir, "other"), "read-only file system")
		if err := syscall.Mount("", v.dir, "", syscall.MS_REMOUNT, ""); err != nil {
			t.Fatal(err)
		}
		mustGet(t, servertest.Start(t, dir), "a")
	})
	t.Run("a file", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(dir, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		startRefused(t, dir, "not a directory", "--data-dir")
		startRefused(t, filepath.Join(dir, "below"), "not a directory", "--data-dir")
	})
}

// TestStoresOnAFullDisk: the log has a disk of its own, so the process starts, and says
// which namespaces it cannot serve, and why.
func TestStoresOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	v := mount(t, filepath.Join(dir, "stores"), "100m")
	p := servertest.Start(t, dir)
	mustPut(t, p, "a")
	p.Kill(t)
	v.fill(t)
	p = servertest.Start(t, dir)
	if code, out := put(t, p, "b"); code != 5 || !strings.Contains(out, "no space left on device (HW-1514)") {
		t.Errorf("put without a store: %d %s", code, out)
	}
	if ok, why := ready(t, p, "?namespace=demo-kv"); ok || !strings.Contains(why, "no space left on device") {
		t.Errorf("ready: %v %s", ok, why)
	}
	p.Stop(t)
	v.free(t)
	p = servertest.Start(t, dir)
	mustGet(t, p, "a")
	p.Stop(t)
}

// TestTheDiskFillsWhileItRuns: at the floor writes are refused until there is space,
// and reads go on. Without a floor the log, or a store, stops for good and says so,
// SIGTERM ends the process, and what was acknowledged is there at the next start.
func TestTheDiskFillsWhileItRuns(t *testing.T) {
	t.Run("floor", func(t *testing.T) {
		v := mount(t, t.TempDir(), "100m")
		dir := filepath.Join(v.dir, "data")
		p := servertest.Start(t, dir, "--free-space-floor", fmt.Sprint(20<<20))
		mustPut(t, p, "a")
		v.leave(t, 10<<20)
		eventually(t, "that writes are refused", func() bool { ok, _ := ready(t, p, ""); return !ok })
		if code, out := put(t, p, "b"); code != 5 || !strings.Contains(out, "(HW-1503)") {
			t.Errorf("put at the floor: %d %s", code, out)
		}
		mustGet(t, p, "a")
		v.free(t)
		eventually(t, "that writes are taken again", func() bool { ok, _ := ready(t, p, ""); return ok })
		mustPut(t, p, "b")
	})
	t.Run("no floor", func(t *testing.T) {
		v := mount(t, t.TempDir(), "100m")
		dir := filepath.Join(v.dir, "data")
		p := servertest.Start(t, dir)
		acked := 0
		v.leave(t, 100<<10)
		eventually(t, "that the process takes no more writes", func() bool {
			for code := 0; code == 0; acked++ {
				code, _ = put(t, p, fmt.Sprint(acked))
			}
			acked--
			ok, why := ready(t, p, "")
			return !ok && strings.Contains(why, "no space left on device")
		})
		t.Logf("%d puts were acknowledged", acked)
		p.Terminate(t)
		select {
		case <-p.Gone():
		case <-time.After(limit): // it hangs
			t.Fatal("SIGTERM does not end it")
		}
		startRefused(t, dir, "(HW-1503)")
		v.free(t)
		p = servertest.Start(t, dir)
		for i := range acked {
			mustGet(t, p, fmt.Sprint(i))
		}
	})
}
