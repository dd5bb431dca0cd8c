package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: engines [flags] up|down [ENGINE...] | fetch [ENGINE...] | status | kill|stop|restart ENGINE N
engines: kafka, kafka3, clickhouse, cassandra; all when none is named
flags:`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		logf("%v", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("engines", flag.ContinueOnError)
	flags.Usage = func() {
		logf(usage)
		flags.PrintDefaults()
	}
	dir := flags.String("dir", os.Getenv("HEADWATER_ENGINES_DIR"), "folder of cache, data and env `file` (default .engines beside go.mod)")
	kafkaPort := portFlag(flags, "kafka", 19092)
	kafka3Port := portFlag(flags, "kafka3", 19192)
	clickHousePort := portFlag(flags, "clickhouse", 19292)
	cassandraPort := portFlag(flags, "cassandra", 19392)
	if err := flags.Parse(args); err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	if *dir == "" {
		*dir = filepath.Join(root, ".engines")
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return fmt.Errorf("find folder %s: %w", *dir, err)
	}
	f := folder(abs)
	kafka3 := kafka{name: "kafka3", port: *kafka3Port, brokers: 3, heapMiB: 512}.engine()
	all := []engine{kafka{name: "kafka", port: *kafkaPort, brokers: 1, heapMiB: 768}.engine(), kafka3, clickHouse{root, *clickHousePort}.engine(), cassandra{port: *cassandraPort, heapMiB: 1024}.engine()}
	// For tests, whose working directory is their package's.
	tool := fmt.Sprintf("go -C %s run ./deploy/engines --dir %s", quote(root), quote(abs))

	verb, names := flags.Arg(0), flags.Args()[min(1, flags.NArg()):]
	switch verb {
	case "up", "down", "fetch":
		chosen, err := choose(all, names)
		if err != nil {
			return err
		}
		for _, e := range chosen {
			switch verb {
			case "up":
				err = f.up(ctx, e)
			case "down":
				err = f.down(e.name)
			case "fetch":
				err = e.fetch(ctx, f.cache())
			}
			if err != nil {
				break
			}
		}
		return errors.Join(err, f.writeEnv(all, tool))
	case "status":
		return f.status(ctx, all)
	case "kill", "stop", "restart":
		if len(names) != 2 {
			return fmt.Errorf("%s takes an engine and the number of one of its processes", verb)
		}
		chosen, err := choose(all, names[:1])
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(names[1])
		if err != nil {
			return fmt.Errorf("read process number: %w", err)
		}
		switch verb {
		case "kill":
			_, err := f.kill(chosen[0], n)
			return err
		case "stop":
			_, err := f.end(chosen[0], n, syscall.SIGTERM)
			return err
		}
		pid, err := f.restart(ctx, chosen[0], n)
		if err := errors.Join(err, f.writeEnv(all, tool)); err != nil {
			return err
		}
		fmt.Println(pid)
		return nil
	default:
		flags.Usage()
		return fmt.Errorf("unknown command %q", verb)
	}
}

// portFlag takes its default from HEADWATER_ENGINES_<NAME>_PORT.
func portFlag(flags *flag.FlagSet, name string, port int) *int {
	env := "HEADWATER_ENGINES_" + strings.ToUpper(name) + "_PORT"
	p := flags.Int(name+"-port", port, "first `port` of "+name+"; also "+env)
	if s := os.Getenv(env); s != "" {
		if n, err := strconv.Atoi(s); err == nil {
			*p = n
		} else {
			logf("%s is %q, which is no number: using %d", env, s, port)
		}
	}
	return p
}

// choose returns the named engines, all of them for no name.
func choose(all []engine, names []string) ([]engine, error) {
	if len(names) == 0 {
		return all, nil
	}
	byName := map[string]engine{}
	for _, e := range all {
		byName[e.name] = e
	}
	var chosen []engine
	for _, name := range names {
		e, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("unknown engine %q\n%s", name, usage)
		}
		chosen = append(chosen, e)
	}
	return chosen, nil
}

// status prints one line per engine that was started.
func (f folder) status(ctx context.Context, all []engine) error {
	var sick error
	for _, e := range all {
		st, err := f.load(e.name)
		if err != nil {
			return err
		}
		if len(st.Processes) == 0 {
			fmt.Printf("%s\tdown\n", e.name)
			continue
		}
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err = e.ready(attempt, st.Port)
		cancel()
		answer := "up"
		if err != nil {
			answer = "sick: " + err.Error()
			sick = fmt.Errorf("%s does not answer; logs in %s", e.name, f.run(e.name))
		}
		fmt.Printf("%s\t127.0.0.1:%d\t%s\n", e.name, st.Port, answer)
		for _, p := range st.Processes {
			fmt.Printf("\t%s\tprocess %d\talive %t\n", p.Name, p.PID, p.alive())
		}
	}
	return sick
}

// variable is one line of the env file.
type variable struct{ name, value string }

// writeEnv describes what runs now; with nothing running there is no file.
func (f folder) writeEnv(all []engine, tool string) error {
	var b strings.Builder
	for _, e := range all {
		st, err := f.load(e.name)
		if err != nil {
			return err
		}
		if st.alive() == 0 {
			continue
		}
		for _, v := range e.env(tool, st) {
			fmt.Fprintf(&b, "export %s=%s\n", v.name, quote(v.value))
		}
	}
	path := filepath.Join(string(f), "env")
	if b.Len() == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove env file: %w", err)
		}
		return nil
	}
	return writeFile(path, []byte(b.String()))
}

// quote makes s one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// moduleRoot is the nearest folder upwards with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find working directory: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("find go.mod: run this inside the repository")
		}
		dir = parent
	}
}

// logf talks to the person at the terminal; standard output is for what a script reads.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "engines: "+format+"\n", args...)
}
