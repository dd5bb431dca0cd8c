package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/servertest"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// source is the file of HEADWATER_FLIGHTS, all of it, or the sample.
func source(t *testing.T) (f *Flights, args []string) {
	t.Helper()
	name := os.Getenv("HEADWATER_FLIGHTS")
	if name == "" {
		return flights(t, 0), nil
	}
	f, err := File(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f, []string{"--file", name}
}

// runDemo runs `headwater demo` of the binary and decodes what it prints.
func runDemo(t *testing.T, address string, args ...string) result {
	t.Helper()
	cmd := exec.Command(servertest.Binary(t), append([]string{"demo", "--address", address, "-o", "json"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("headwater demo: %v\n%s", err, stderr.String())
	}
	if stderr.Len() > 0 {
		t.Errorf("headwater demo says, where there is no terminal: %q", stderr.String())
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("decode %q: %v", out, err)
	}
	if r.Counts == nil || r.Counts.Report.Counters == 0 || r.Counts.Report.Others != 0 || len(r.Counts.Report.Top["route"]) != topOf {
		t.Errorf("the counters: %+v", r.Counts)
	}
	if r.Events == nil || r.Events.Report.Others != 0 || len(r.Events.Report.Worst) != worstRoutes {
		t.Errorf("the events: %+v", r.Events)
	}
	return r
}

// kill -9 of the server in the middle of a load, at three places; the load is
// started again on the same directory with the same tokens.
func TestKilledServerLosesNoRow(t *testing.T) {
	t.Parallel()
	f, args := source(t)
	dir := t.TempDir()
	seen := &versions{of: map[[2]string]string{}}
	for _, part := range []int{4, 2, 1} { // killed when 1/part of what is left is done
		p := servertest.Start(t, dir, "--log-level", "warn")
		known := seen.n
		enough := known + max(1, (len(f.batches(500))-known)/(part+1))
		var once sync.Once
		c := dial(t, p.GRPC, client.Config{FailFast: true, Timeout: 5 * time.Second})
		l, err := Load(t.Context(), c, f, Options{Namespace: namespace, Acknowledged: func(id string, keys []string, res client.WriteResult) {
			if res.Duplicate == client.Repeated {
				return
			}
			seen.acknowledged(id, keys, res)
			seen.mu.Lock()
			full := seen.n >= enough
			seen.mu.Unlock()
			if full {
				once.Do(func() { p.Kill(t) })
			}
		}})
		if err == nil {
			t.Fatalf("the load finished before the kill: %+v", l)
		}
	}
	p := servertest.Start(t, dir, "--log-level", "warn")
	r := runDemo(t, p.GRPC, args...)
	if r.Report.Rows != f.Rows || r.Loaded.Rows != f.Rows || r.Report.Others != 0 {
		t.Errorf("the resumed load reports %+v", r)
	}
	if r.Loaded.Repeated < seen.n || r.Loaded.Repeated == r.Loaded.Batches {
		t.Errorf("%d of %d batches were known; %d were acknowledged before the kills", r.Loaded.Repeated, r.Loaded.Batches, seen.n)
	}
	seen.check(t, dial(t, p.GRPC, client.Config{}))
	p.Stop(t)
	t.Logf("%d rows; %d of %d batches were acknowledged before the kills, %d known at the end", r.Report.Rows, seen.n, r.Loaded.Batches, r.Loaded.Repeated)
}

// kill -9 of the server in the middle of the counting; `headwater demo` completes
// it, and finds the counts of the file.
func TestKilledServerLosesNoCount(t *testing.T) {
	t.Parallel()
	f, args := source(t)
	dir := t.TempDir()
	p := servertest.Start(t, dir, "--log-level", "warn")
	var once sync.Once
	c := dial(t, p.GRPC, client.Config{FailFast: true, Timeout: 5 * time.Second})
	l, err := CountFlights(t.Context(), c, f, CounterOptions{Namespace: "demo-counter", Progress: func(done int) {
		if done >= f.Rows/3 {
			once.Do(func() { p.Kill(t) })
		}
	}})
	if err == nil {
		t.Fatalf("the load finished before the kill: %+v", l)
	}
	p = servertest.Start(t, dir, "--log-level", "warn")
	r := runDemo(t, p.GRPC, args...).Counts
	if r.Counted.Present < r.Counted.Calls/3 || r.Counted.Present == r.Counted.Calls || r.Report.Counters != len(f.Counts()) {
		t.Errorf("the resumed load reports %+v", r)
	}
	p.Stop(t)
	t.Logf("%d of %d calls were there, %d were repeated", r.Counted.Present, r.Counted.Calls, r.Counted.Repeated)
}

// eventsKilled writes the flights as events and kills the server by SIGKILL in the middle, at three
// places; the load is started again on the same directory with the same tokens. It returns the server
// and a client of it.
func eventsKilled(t *testing.T, f *Flights, ns string, doc string, args ...string) (*servertest.Process, *client.Client) {
	t.Helper()
	dir := t.TempDir()
	args = append([]string{"--log-level", "warn"}, args...)
	p := servertest.Start(t, dir, args...)
	c := dial(t, p.GRPC, client.Config{FailFast: true, Timeout: 5 * time.Second})
	if doc != "" {
		if _, err := c.Namespaces().Apply(t.Context(), doc, client.ApplyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []int{4, 3, 2} { // killed when 1/part is done
		var once sync.Once
		victim := p
		l, err := RecordFlights(t.Context(), c, f, EventOptions{Namespace: ns, Batch: 500, Progress: func(done int) {
			if done >= f.Rows/part {
				once.Do(func() { victim.Kill(t) })
			}
		}})
		if err == nil {
			t.Fatalf("the load finished before the kill: %+v", l)
		}
		p = servertest.Start(t, dir, args...)
		c = dial(t, p.GRPC, client.Config{Timeout: 30 * time.Second})
	}
	l, err := RecordFlights(t.Context(), c, f, EventOptions{Namespace: ns, Batch: 500})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events; %d of %d calls were there already", l.Events, l.Repeated, l.Calls)
	return p, c
}

// addUp fails unless every hour and every route is what the file says.
func addUp(t *testing.T, c *client.Client, f *Flights, ns string) {
	t.Helper()
	r, err := ReadDelays(t.Context(), c, f, EventOptions{Namespace: ns})
	if err != nil || r.Others != 0 || len(r.Worst) != worstRoutes {
		t.Errorf("%d other events, %d routes: %v", r.Others, len(r.Worst), err)
	}
}

// The events of the file are there once, on Pebble.
func TestKilledServerLosesNoEvent(t *testing.T) {
	t.Parallel()
	f, _ := source(t)
	p, c := eventsKilled(t, f, "demo-timeseries", "")
	addUp(t, c, f, "demo-timeseries")
	p.Stop(t)
}

// The events of the file are there once, on a real ClickHouse and on Pebble, which follows it.
func TestEngineKilledServerLosesNoEvent(t *testing.T) {
	f, _ := source(t)
	config := filepath.Join(t.TempDir(), "headwater.yaml")
	url := enginetest.Need(t, "HEADWATER_TEST_CLICKHOUSE", "clickhouse")
	if err := os.WriteFile(config, []byte("clusters:\n  main: { type: clickhouse, url: '"+url+"' }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, c := eventsKilled(t, f, "flights", "namespace: flights\nabstraction: timeseries\nlog: {partitions: 2}\nstorage:\n"+
		"  - {role: PRIMARY, type: clickhouse, cluster: main}\n  - {role: SHADOW, type: pebble, name: near}\n", "--config", config)
	addUp(t, c, f, "flights")
	job, err := c.Admin().CompareStore(t.Context(), "flights", "near")
	for err == nil {
		j, jerr := c.Admin().Job(t.Context(), job)
		if err = jerr; err == nil && j.GetState() != headwaterv1.Job_RUNNING {
			break
		}
		<-time.After(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Admin().Stores(t.Context(), "flights")
	if err != nil {
		t.Fatal(err)
	}
	if near := all[1].GetCompared(); near.GetDifferences() != 0 || near.GetItems() != int64(f.Rows) {
		t.Errorf("the store on Pebble: %v", near)
	}
	if _, err := c.Admin().PromoteStore(t.Context(), "flights", "near", false); err != nil {
		t.Fatal(err)
	}
	addUp(t, c, f, "flights")
	p.Stop(t)
}

// kill -9 of the client in the middle of a load.
func TestKilledLoadIsResumed(t *testing.T) {
	t.Parallel()
	f, args := source(t)
	p := servertest.Start(t, t.TempDir(), "--log-level", "warn")
	cmd := exec.Command(servertest.Binary(t), append([]string{"demo", "--address", p.GRPC}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The first airport's flights are there: the load is under way.
	c := dial(t, p.GRPC, client.Config{})
	for {
		items, err := c.KV(namespace).GetAll(t.Context(), f.airports[0].code, client.ReadOptions{Limit: 1, OmitValues: true})
		if err != nil {
			t.Fatal(err)
		}
		if len(items) > 0 {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := cmd.Wait()
	r := runDemo(t, p.GRPC, args...)
	if r.Report.Rows != f.Rows || r.Report.Others != 0 || r.Loaded.Repeated == 0 {
		t.Errorf("the resumed load reports %+v", r)
	}
	p.Stop(t)
	t.Logf("the first load ended with %v; %d of %d batches were known to the second", ended, r.Loaded.Repeated, r.Loaded.Batches)
}

func TestCommandTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	p := servertest.Start(t, t.TempDir(), "--log-level", "warn")
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"demo --address 127.0.0.1:1", 5, "cannot be reached"},
		{"demo --rows -1", 2, "must not be negative"},
		{"demo --rows 25001", 2, "there are 25000"},
		{"demo now", 2, "takes no arguments"},
		{"demo -o xml", 2, "use table or json"},
		{"demo --file nowhere.csv", 1, "open flights"},
		{"demo --namespace nowhere", 3, "nowhere"},
		{"demo --namespace demo-log", 1, "demo-log"},
		{"demo --counter-namespace nowhere", 3, "headwater namespace apply -f -"},
		{"demo --counter-namespace demo-kv", 1, "demo-kv"},
		{"demo --event-namespace nowhere", 3, "headwater namespace apply -f -"},
		{"demo --event-namespace demo-kv", 1, "demo-kv"},
	} {
		t.Run(c.args, func(t *testing.T) {
			cmd := exec.Command(servertest.Binary(t), strings.Fields(c.args)...)
			cmd.Env = append(os.Environ(), "HEADWATER_ADDRESS="+p.GRPC)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
				t.Errorf("%v, exit code %d: %s; want %d and %q", err, cmd.ProcessState.ExitCode(), out, c.code, c.want)
			}
		})
	}
	out, err := exec.Command(servertest.Binary(t), "demo", "--rows", "100", "--address", p.GRPC).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{Source, "100 rows", "every one equals its source", fmt.Sprint("acknowledged as ", client.Sync),
		"400 increments in 1 calls", "origin: LAS 18, ATL 15", "every one of 190 counters, and each top ten, equals a plain pass over the file",
		"100 in 1 calls", "every hour and every route equals a plain pass over the file"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the report does not say %q:\n%s", want, out)
		}
	}
}
