package demo

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-db/headwater/cmd/headwater/servertest"
)

func TestTheTruthOfAWorkIsThePlainPassOfItsCalls(t *testing.T) {
	t.Parallel()
	f := flights(t, 1000)
	w := newWork(f, 2600, 250, 1)
	if w.calls != 11 {
		t.Errorf("2,600 flights are %d calls of 250 over a file of 1,000", w.calls)
	}
	truth, n := w.truth()
	if n != 2750 {
		t.Errorf("the calls count %d flights", n)
	}
	sent, tokens := map[string]int64{}, map[string]bool{}
	for i := range w.calls {
		b, token := w.call(i)
		tokens[token] = true
		for _, a := range b.Adds(nil) {
			sent[a.Counter] += a.Delta
		}
	}
	for i, v := range truth {
		if sent[f.names.all[i]] != v {
			t.Errorf("%s is sent %d times, and the truth is %d", f.names.all[i], sent[f.names.all[i]], v)
		}
	}
	if len(tokens) != w.calls {
		t.Errorf("%d calls have %d tokens", w.calls, len(tokens))
	}
	w.cut(5)
	if _, n := w.truth(); n != 1250 || w.again().calls != 5 {
		t.Errorf("a work of 5 calls counts %d flights", n)
	}
}

func TestTheSeedChoosesWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	f := flights(t, 1000)
	seen := map[int]bool{}
	for seed := range uint64(50) {
		k := newWork(f, 100_000, 250, seed).kills
		if !slices.Equal(k, newWork(f, 100_000, 250, seed).kills) || !slices.IsSorted(k) || len(k) != 3 || k[0] < 1 || k[2] >= 390 {
			t.Errorf("seed %d kills after %v of 400 calls", seed, k)
		}
		seen[k[0]] = true
	}
	if len(seen) < 10 {
		t.Errorf("50 seeds have %d first moments", len(seen))
	}
}

func TestLostAndExtraIncrementsAreTold(t *testing.T) {
	t.Parallel()
	f := flights(t, 1000)
	r := &CrashReport{work: newWork(f, 1000, 250, 1), FileRows: 1000, Rebuild: &Rebuild{Resent: 3, Known: 3}, NoRedis: "none here"}
	var n int64
	r.truth, n = r.work.truth()
	r.rows, r.Flights, r.Counters = r.work.rows(r.truth), n, len(r.truth)
	good := &Run{Name: headwaterName, Seconds: 1}
	good.judge(slices.Clone(r.truth), r.truth)
	r.Runs = []*Run{good}
	if err := r.verdict(); err != nil || !strings.Contains(r.text(), "every count of Headwater is the file's") || !strings.Contains(r.text(), "none here") {
		t.Errorf("%v\n%s", err, r.text())
	}
	counts := slices.Clone(r.truth)
	counts[r.rows[0]] += 1200
	counts[r.rows[1]] -= 7
	bad := &Run{Name: headwaterName, Seconds: 1}
	bad.judge(counts, r.truth)
	if bad.Differ != 2 || bad.Extra != 1200 || bad.Lost != 7 {
		t.Errorf("judged %+v", bad)
	}
	r.Runs = []*Run{bad}
	text := r.text()
	if r.verdict() == nil || strings.Contains(text, "is the file's") || !strings.Contains(text, "(+1,200)") || !strings.Contains(text, "(-7)") || !strings.Contains(text, "2 differ") {
		t.Errorf("%v\n%s", r.verdict(), text)
	}
	for _, spoil := range []func(){func() { r.Drift.Drift = 1 }, func() { r.Rebuild.Wrong = 1 }, func() { r.Rebuild.Known = 2 }} {
		r.Runs, r.Drift, r.Rebuild = []*Run{good}, Drift{}, &Rebuild{Resent: 3, Known: 3}
		if spoil(); r.verdict() == nil {
			t.Errorf("%+v, %+v is good enough", r.Drift, r.Rebuild)
		}
	}
}

func TestAnOutageEndsWithTheLastClientThatIsBack(t *testing.T) {
	t.Parallel()
	s := &storm{work: &work{clients: 3}}
	s.heard(0, 10)
	s.fall(time.Now())
	s.heard(0, 20)
	s.heard(0, 30)
	s.heard(2, 40)
	if len(s.run.Outages) != 0 || s.down != 90 {
		t.Errorf("client 1 is not back, and the outages are %v, with %d increments in them", s.run.Outages, s.down)
	}
	s.heard(1, 0) // it asks no more
	s.heard(1, 50)
	if len(s.run.Outages) != 1 || s.down != 90 || s.run.Increments != 150 {
		t.Errorf("%v, %d of %d increments in them", s.run.Outages, s.down, s.run.Increments)
	}
	s.fall(time.Now())
	s.fall(time.Now()) // before anybody is back
	s.heard(0, 1)
	if len(s.run.Outages) != 2 || s.run.Kills != 3 || s.down != 91 {
		t.Errorf("%v in %d kills", s.run.Outages, s.run.Kills)
	}
}

// crashed runs `headwater demo crash` of the binary, with path as PATH.
func crashed(t *testing.T, path string, args ...string) (cmd *exec.Cmd, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	cmd = exec.Command(servertest.Binary(t), append([]string{"demo", "crash"}, args...)...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PATH=") && !strings.HasPrefix(v, "TMPDIR=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "PATH="+path, "TMPDIR="+tmp)
	return cmd, tmp
}

func isEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("%v are left behind (%v)", left, err)
	}
}

// runCrashed runs it to its end, and looks at what it leaves and prints.
func runCrashed(t *testing.T, path string, args ...string) CrashReport {
	t.Helper()
	cmd, tmp := crashed(t, path, append(args, "-o", "json")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}
	isEmpty(t, tmp)
	if said := append(out, stderr.Bytes()...); bytes.ContainsAny(said, "\r\x1b") {
		t.Errorf("there are control codes, where there is no terminal: %q", said)
	}
	if !strings.Contains(stderr.String(), " EVENTUAL, pending ") {
		t.Errorf("no line shows a count with its accuracy: %s", stderr.String())
	}
	var r CrashReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatal(err)
	}
	h := r.Runs[0]
	if h.Differ != 0 || h.Lost != 0 || h.Extra != 0 || h.Kills != 3 || len(h.Outages) != 3 || h.Increments != r.Flights*int64(IncrementsPerFlight) ||
		h.Duplicates == 0 || h.Resent < h.RepliesDropped || h.RepliesDropped == 0 {
		t.Errorf("Headwater: %+v", h)
	}
	if x := r.Rebuild; x.Seconds < x.ReadySeconds || x.StoreBytes == 0 || x.Reads == 0 || x.Wrong != 0 || x.Known != 50 || r.Drift.Drift != 0 || r.Drift.Counters < 10 {
		t.Errorf("%+v, %+v", r.Rebuild, r.Drift)
	}
	return r
}

func TestCrashWithoutRedis(t *testing.T) {
	t.Parallel()
	r := runCrashed(t, t.TempDir(), "--seed", "7", "--rows", "100000")
	if len(r.Runs) != 1 || !strings.Contains(r.NoRedis, "PATH") || r.Seed != 7 || r.Flights != 100_000 {
		t.Errorf("%d runs, %q, seed %d, %d flights", len(r.Runs), r.NoRedis, r.Seed, r.Flights)
	}
}

func TestCrashBesideRedis(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not on the PATH")
	}
	r := runCrashed(t, filepath.Dir(path), "--seed", "7", "--rows", "100000")
	if len(r.Runs) != 3 || r.NoRedis != "" {
		t.Fatalf("%d runs, %q", len(r.Runs), r.NoRedis)
	}
	plain, script := r.Runs[1], r.Runs[2]
	// What was lost on its way was done, and done again by the retry; the script
	// knows its tokens. Neither forgets what it acknowledged.
	if plain.Extra == 0 || plain.Lost != 0 || plain.Duplicates != 0 || plain.Kills != 3 || plain.Resent == 0 {
		t.Errorf("pipelines: %+v", plain)
	}
	if script.Differ != 0 || script.Kills != 3 || script.Duplicates == 0 || script.Calls != r.Runs[0].Calls {
		t.Errorf("the script: %+v", script)
	}
}

func TestCrashEndsWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	cmd, tmp := crashed(t, "", "--rows", "100000000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(out)
	for s.Scan() && !strings.Contains(s.Text(), "EVENTUAL") {
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for s.Scan() {
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("%v, %s", err, stderr.String())
	}
	isEmpty(t, tmp)
}

func TestCrashIsBoundedByItsDuration(t *testing.T) {
	t.Parallel()
	r := runCrashed(t, t.TempDir(), "--seed", "7", "--rows", "100000000", "--duration", "4s")
	if r.Flights >= 100_000_000 || r.Runs[0].Calls < 10 {
		t.Errorf("%d flights were counted in %d calls", r.Flights, r.Runs[0].Calls)
	}
}

func TestCrashTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"demo crash --rows 0", 2, "use 1 to"},
		{"demo crash --duration -1s", 2, "must not be negative"},
		{"demo crash now", 2, "takes no arguments"},
		{"demo crash -o xml", 2, "use table or json"},
		{"demo crash --address 127.0.0.1:1", 2, "starts one of its own"},
		{"demo crash --file nowhere.csv", 1, "open flights"},
	} {
		t.Run(c.args, func(t *testing.T) {
			cmd := exec.Command(servertest.Binary(t), strings.Fields(c.args)...)
			out, _ := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
				t.Errorf("exit code %d: %s; want %d and %q", cmd.ProcessState.ExitCode(), out, c.code, c.want)
			}
		})
	}
}
