package docs

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/cmd/headwater/servertest"
)

// notExecuted is why the blocks that are marked so are not run, by their first
// command.
var notExecuted = map[string]string{
	"make test": "it runs this test",
}

// TestCommands runs the sessions of every page.
func TestCommands(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, name := range pages(t) {
		blocks := blocksOf(t, name)
		for _, b := range blocks {
			if b.has("not-executed") {
				first := b.steps()[0].command
				if notExecuted[first] == "" {
					t.Errorf("%s: %q is marked as not executed, and notExecuted does not say why", b.where(), first)
				}
				used[first] = true
			}
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			t.Parallel()
			run(t, blocks)
		})
	}
	for c := range notExecuted {
		if !used[c] {
			t.Errorf("notExecuted has %q, which no page has", c)
		}
	}
}

// TestReadmeOverGatewayAndWorker types the session of the README once more, to a gateway with a worker
// behind it and a log on Kafka. What the server prints when it starts is another's.
func TestReadmeOverGatewayAndWorker(t *testing.T) {
	t.Parallel()
	blocks := blocksOf(t, filepath.Join(root, "README.md"))
	other := strings.NewReplacer("log embedded, running, durability SYNC, ...", "log kafka, running, durability QUORUM...", "SYNC", "QUORUM")
	for i := range blocks {
		for j, l := range blocks[i].lines {
			blocks[i].lines[j] = other.Replace(l)
		}
	}
	s := &session{dir: t.TempDir(), bin: t.TempDir(), split: true}
	s.run(t, blocks)
}

// roles starts what is not running of a gateway and a worker. The worker is what a session kills: its
// data directory has the LOCK.
func (s *session) roles(t *testing.T, b *block) {
	t.Helper()
	if s.worker != nil {
		limit := time.NewTimer(time.Minute)
		defer limit.Stop()
		select {
		case <-s.worker.Gone():
		case <-limit.C:
			t.Fatalf("%s: the worker before this one still runs", b.where())
		}
	}
	command := func(role string, flags []string) *exec.Cmd {
		return s.shell(t, b, withFlags("exec headwater "+role+s.onKafka(t, b, " --kafka-brokers "+brokers), flags))
	}
	s.worker = servertest.Run(t, command("consume", append([]string{"--data-dir", filepath.Join(s.dir, "headwater-data")}, servertest.WorkerPorts...)))
	if s.server != nil {
		return
	}
	demos := filepath.Join(t.TempDir(), "demo-%s.yaml")
	for _, a := range []string{"kv", "counter", "timeseries", "log"} {
		if err := os.WriteFile(fmt.Sprintf(demos, a), fmt.Appendf(nil, "namespace: demo-%s\nabstraction: %s\n", a, a), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.server = servertest.Run(t, command("gateway", append([]string{"--namespaces", "'" + fmt.Sprintf(demos, "*") + "'"}, servertest.GatewayPorts...)))
}

// block is a fenced block of a page.
type block struct {
	page  string
	line  int
	words []string // of the fence, the language first
	lines []string
}

func (b *block) where() string        { return fmt.Sprintf("%s:%d", b.page, b.line) }
func (b *block) has(word string) bool { return slices.Contains(b.words[1:], word) }

// languages are those of blocks without commands. Commands belong into console.
var languages = []string{"yaml", "json", "text", "go"}

func blocksOf(t *testing.T, page string) []block {
	t.Helper()
	var all []block
	var open *block
	for i, line := range strings.Split(readPage(t, page), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{page: page, line: i + 1, words: strings.Fields(fence)}
			if len(open.words) == 0 || open.words[0] != "console" && !slices.Contains(languages, open.words[0]) {
				t.Fatalf("%s: a block of %q; use console for commands, else one of %v", open.where(), fence, languages)
			}
		case isFence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.lines = append(open.lines, line)
		}
	}
	if open != nil {
		t.Fatalf("%s: the block is not closed", open.where())
	}
	return all
}

// step is one command and what it prints.
type step struct {
	line    int
	command string
	want    []string
}

func (b *block) steps() []step {
	var all []step
	for i, l := range b.lines {
		if c, ok := strings.CutPrefix(l, "$ "); ok {
			all = append(all, step{line: b.line + 1 + i, command: c})
			continue
		}
		last := &all[len(all)-1]
		if c, ok := strings.CutPrefix(l, "> "); ok && len(last.want) == 0 {
			last.command += "\n" + c
			continue
		}
		last.want = append(last.want, l)
	}
	return all
}

// stepLimit is for commands that hang, not to measure.
const stepLimit = 2 * time.Minute

// session is the shell that a page's commands are typed into.
type session struct {
	dir, bin string
	server   *servertest.Process
	cluster  *kfake.Cluster // of the blocks that need Kafka; nil until the first
	// split has blocks of `headwater dev` started as a gateway and a worker.
	split  bool
	worker *servertest.Process // of split
}

// brokers are those that pages name.
const brokers = "kafka-1:9092,kafka-2:9092,kafka-3:9092"

// onKafka puts the addresses of the page's cluster into a command.
func (s *session) onKafka(t *testing.T, b *block, command string) string {
	t.Helper()
	if !strings.Contains(command, brokers) {
		t.Fatalf("%s: a block on Kafka does not name %s", b.where(), brokers)
	}
	if s.cluster == nil {
		var err error
		if s.cluster, err = kfake.NewCluster(kfake.NumBrokers(3)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.cluster.Close)
	}
	return strings.ReplaceAll(command, brokers, strings.Join(s.cluster.ListenAddrs(), ","))
}

// run types the commands of a page. One that does not begin with a server block talks
// to a server that is running already.
func run(t *testing.T, blocks []block) {
	s := &session{dir: t.TempDir(), bin: t.TempDir()}
	s.run(t, blocks)
}

func (s *session) run(t *testing.T, blocks []block) {
	roles := slices.ContainsFunc(blocks, func(b block) bool { return b.has("gateway") }) // the page starts them itself
	if first := slices.IndexFunc(blocks, executed); first >= 0 && !blocks[first].has("server") && !roles {
		s.server = servertest.Start(t, filepath.Join(s.dir, "headwater-data"))
	}
	for i := range blocks {
		b := &blocks[i]
		switch {
		case b.words[0] == "go":
			s.program(t, b)
		case !executed(*b):
		case b.has("server"), b.has("gateway"):
			s.serve(t, b)
		case b.has("worker"):
			s.consume(t, b)
		default:
			for _, st := range b.steps() {
				s.step(t, b, st)
			}
		}
		if t.Failed() {
			return // what follows builds on it
		}
	}
}

func executed(b block) bool { return b.words[0] == "console" && !b.has("not-executed") }

func (s *session) shell(t *testing.T, b *block, command string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = s.dir
	if b.has("repo") {
		dir, err := filepath.Abs(root)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Dir = dir
	}
	// What the tester has set for a server of their own is none of the session's.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HEADWATER_") })
	cmd.Env = append(cmd.Env, "GOBIN="+s.bin, "PATH="+s.bin+":"+filepath.Dir(servertest.Binary(t))+":"+os.Getenv("PATH"), "LC_ALL=C")
	if s.server != nil {
		cmd.Env = append(cmd.Env, "HEADWATER_ADDRESS="+s.server.GRPC)
	}
	return cmd
}

// serve starts the server of a block, after the end of the one before it.
func (s *session) serve(t *testing.T, b *block) {
	t.Helper()
	if s.split {
		s.roles(t, b)
		return
	}
	s.ended(t, b)
	steps := b.steps()
	if len(steps) != 1 {
		t.Fatalf("%s: a block that is a server has %d commands", b.where(), len(steps))
	}
	dir := filepath.Join(s.dir, "headwater-data")
	if b.has("poisoned") {
		poison(t, dir)
	}
	if b.has("copied") {
		if err := os.CopyFS(filepath.Join(s.dir, "copy"), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	command := "exec " + steps[0].command
	if b.has("kafka") {
		command = s.onKafka(t, b, command)
	}
	flags := append([]string{"--data-dir", dir}, servertest.FreePorts...)
	if b.has("gateway") {
		flags = servertest.GatewayPorts
	}
	s.server = servertest.Run(t, s.shell(t, b, withFlags(command, flags)))
	if len(steps[0].want) > 0 {
		s.compare(t, b, steps[0], strings.ReplaceAll(s.server.Output(), s.dir, "."))
	}
}

// withFlags puts flags behind a command that it does not have.
func withFlags(command string, flags []string) string {
	for i := 0; i < len(flags); i += 2 {
		if !strings.Contains(command, flags[i]+" ") {
			command += " " + flags[i] + " " + flags[i+1]
		}
	}
	return command
}

// consume starts the worker of a block, which runs beside the session's server.
func (s *session) consume(t *testing.T, b *block) {
	t.Helper()
	st := b.steps()[0]
	command := withFlags("exec "+s.onKafka(t, b, st.command), append([]string{"--data-dir", filepath.Join(s.dir, "worker-data")}, servertest.WorkerPorts...))
	w := servertest.Run(t, s.shell(t, b, command))
	out := strings.NewReplacer(w.Internal, "127.0.0.1:7082", w.Admin, "127.0.0.1:7190", s.dir, ".").Replace(w.Output())
	s.compare(t, b, st, out)
}

// ended waits until a server that was told to end has done so.
func (s *session) ended(t *testing.T, b *block) {
	t.Helper()
	if s.server == nil {
		return
	}
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	select {
	case <-s.server.Gone():
	case <-limit.C:
		t.Fatalf("%s: the server before this one still runs", b.where())
	}
}

// addresses of `headwater dev`, and those of the session's server.
func (s *session) addresses() [][2]string {
	if s.server == nil {
		return nil
	}
	return [][2]string{{"127.0.0.1:7080", s.server.HTTP}, {"127.0.0.1:7081", s.server.GRPC}, {"127.0.0.1:7090", s.server.Admin}}
}

func (s *session) step(t *testing.T, b *block, st step) {
	t.Helper()
	command := st.command
	for _, a := range s.addresses() {
		command = strings.ReplaceAll(command, a[0], a[1])
	}
	cmd := s.shell(t, b, command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A command that does not end would hang the test; all that it started goes with it.
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(stepLimit, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err := cmd.Wait()
	stop.Stop()
	if err != nil {
		t.Errorf("%s:%d: %s\n%v\n%s", b.page, st.line, st.command, err, out.String())
		return
	}
	s.compare(t, b, st, out.String())
}

func (s *session) compare(t *testing.T, b *block, st step, out string) {
	t.Helper()
	for _, a := range s.addresses() {
		out = strings.ReplaceAll(out, a[1], a[0])
	}
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t\r")
	}
	got := strings.Join(lines, "\n") + "\n"
	if len(st.want) == 0 {
		st.want = []string{""}
	}
	if !pattern(st.want).MatchString(got) {
		t.Errorf("%s:%d: %s\nprints\n%s\nand not\n%s", b.page, st.line, st.command, got, strings.Join(st.want, "\n"))
	}
}

// pattern matches output.
func pattern(want []string) *regexp.Regexp {
	var p strings.Builder
	p.WriteString(`\A`)
	for _, l := range want {
		l = strings.TrimRight(l, " ")
		if l == "..." {
			p.WriteString(`(?:.*\n)*`)
			continue
		}
		p.WriteString(strings.ReplaceAll(regexp.QuoteMeta(l), `\.\.\.`, `.*`) + `\n`)
	}
	return regexp.MustCompile(p.String() + `\z`)
}

// program builds a Go program and runs it; one that fails fails the test.
func (s *session) program(t *testing.T, b *block) {
	t.Helper()
	source := strings.Join(b.lines, "\n") + "\n"
	for _, a := range s.addresses() {
		source = strings.ReplaceAll(source, a[0], a[1])
	}
	file := filepath.Join(s.dir, "main.go")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "run", file)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", b.where(), err, out)
	}
}

// The runner itself: a comparison that takes anything proves nothing.
func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"a", "a\n", true},
		{"a", "a\nb\n", false},
		{"a", "ab\n", false},
		{"a...", "ab\n", true},
		{"a...c", "ab\nc\n", false},
		{"a\n...\nd", "a\nb\nc\nd\n", true},
		{"a\n...\nd", "a\nd\n", true},
		{"a\n...\nd", "a\nb\n", false},
		{"", "\n", true},
		{"", "a\n", false},
		{"a.c", "abc\n", false},
	} {
		if pattern(strings.Split(c.want, "\n")).MatchString(c.got) != c.ok {
			t.Errorf("%q and %q: want %v", c.want, c.got, c.ok)
		}
	}
}
