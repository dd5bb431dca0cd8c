package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: cluster [flags] up|down
flags:`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1) //nolint:gocritic // stop only undoes the signal handler, which ends with the process
	}
}

// cluster is what is started, and where.
type cluster struct {
	root    string // of the module
	dir     string // of configuration, data and logs
	engines bool   // they are started and stopped too
	// prefix begins the names of topics; keyspace is that of the tables.
	prefix, keyspace string
	// Addresses of the gateway, and of the first worker; the others follow.
	http, grpc, gatewayAdmin string
	internal, workerAdmin    int // ports
}

const workers = 2

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintln(os.Stderr, usage)
		flags.PrintDefaults()
	}
	var c cluster
	flags.StringVar(&c.dir, "dir", "", "`folder` of configuration, data and logs (default .engines/cluster beside go.mod)")
	flags.BoolVar(&c.engines, "engines", true, "start and stop the brokers and Cassandra too; else they have to be up")
	flags.StringVar(&c.prefix, "topic-prefix", "headwater", "beginning of the names of topics")
	flags.StringVar(&c.keyspace, "keyspace", "headwater", "keyspace in Cassandra")
	flags.StringVar(&c.http, "http", "127.0.0.1:7080", "HTTP `address` of the gateway")
	flags.StringVar(&c.grpc, "grpc", "127.0.0.1:7081", "gRPC `address` of the gateway")
	flags.StringVar(&c.gatewayAdmin, "admin", "127.0.0.1:7090", "admin `address` of the gateway")
	flags.IntVar(&c.internal, "internal-port", 7082, "`port` of the first worker's internal listener")
	flags.IntVar(&c.workerAdmin, "worker-admin-port", 7190, "`port` of the first worker's admin listener")
	if err := flags.Parse(args); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find go.mod: %w", err)
	}
	c.root = filepath.Dir(strings.TrimSpace(string(out)))
	if c.dir == "" {
		c.dir = filepath.Join(c.root, ".engines", "cluster")
	}
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return err
	}
	switch flags.Arg(0) {
	case "up":
		return c.up(ctx)
	case "down":
		return c.down(ctx)
	default:
		flags.Usage()
		return fmt.Errorf("unknown command %q", flags.Arg(0))
	}
}

func (c *cluster) binary() string { return filepath.Join(c.dir, "headwater") }

// tool runs a command at the top of the module, whose output is this one's.
func (c *cluster) tool(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.root, os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return nil
}

func (c *cluster) up(ctx context.Context) error {
	if c.engines {
		if err := c.tool(ctx, "go", "run", "./deploy/engines", "up", "kafka3", "cassandra"); err != nil {
			return err
		}
	}
	brokers, cassandra, err := c.where()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return err
	}
	config := filepath.Join(c.dir, "headwater.yaml")
	if err := os.WriteFile(config, []byte(c.config(brokers, cassandra)), 0o600); err != nil {
		return err
	}
	if err := c.tool(ctx, "go", "build", "-o", c.binary(), "./cmd/headwater"); err != nil {
		return err
	}
	if err := c.tool(ctx, c.binary(), "schema", "apply", "--config", config); err != nil {
		return err
	}
	for i := range workers {
		admin := fmt.Sprintf("127.0.0.1:%d", c.workerAdmin+i)
		err := c.process(ctx, fmt.Sprintf("worker-%d", i+1), admin, "consume", "--config", config, "--admin", admin,
			"--internal", fmt.Sprintf("127.0.0.1:%d", c.internal+i), "--data-dir", filepath.Join(c.dir, fmt.Sprintf("worker-%d", i+1)))
		if err != nil {
			return err
		}
	}
	err = c.process(ctx, "gateway", c.gatewayAdmin, "gateway", "--config", config, "--http", c.http, "--grpc", c.grpc, "--admin", c.gatewayAdmin)
	if err != nil {
		return err
	}
	fmt.Printf("http    http://%s\ngrpc    %s\nlogs    %s\ntry     headwater demo --address %s\n", c.http, c.grpc, filepath.Join(c.dir, "*.log"), c.grpc)
	return nil
}

// config is the configuration file of all processes.
func (c *cluster) config(brokers, cassandra string) string {
	return fmt.Sprintf(`log: { type: kafka, brokers: [%s], replication_factor: 3, topic_prefix: %s, session_timeout: 6s }
clusters:
  main: { type: cassandra, hosts: ['%s'], keyspace: %s, replication: { datacenter1: 1 } }
namespaces: ['%s']
`, "'"+strings.ReplaceAll(brokers, ",", "', '")+"'", c.prefix, cassandra, c.keyspace, filepath.Join(c.root, "deploy", "cluster", "namespaces", "*.yaml"))
}

// The variables in which deploy/engines says where they are.
const (
	brokersVariable   = "HEADWATER_TEST_KAFKA3"
	cassandraVariable = "HEADWATER_TEST_CASSANDRA"
)

// where is where the engines are: as the environment says, or their own file.
func (c *cluster) where() (brokers, cassandra string, err error) {
	found := map[string]string{brokersVariable: os.Getenv(brokersVariable), cassandraVariable: os.Getenv(cassandraVariable)}
	f, err := os.Open(filepath.Join(c.root, ".engines", "env"))
	if err == nil {
		defer f.Close() //nolint:errcheck // it was read
		for lines := bufio.NewScanner(f); lines.Scan(); {
			name, value, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
			if was, ok := found[name]; ok && was == "" {
				found[name] = strings.Trim(value, "'")
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", "", err
	}
	for name, value := range found {
		if value == "" {
			return "", "", fmt.Errorf("%s is not set, and .engines/env does not have it: run `go run ./deploy/engines up kafka3 cassandra`", name)
		}
	}
	return found[brokersVariable], found[cassandraVariable], nil
}

// readyWithin bounds how long a process may take until it is ready.
const readyWithin = 2 * time.Minute

// process starts a process unless it runs, and returns when it is ready.
func (c *cluster) process(ctx context.Context, name, admin string, args ...string) error {
	log := filepath.Join(c.dir, name+".log")
	if c.running(name) == nil {
		out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		cmd := exec.Command(c.binary(), args...)
		cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = out, out, &syscall.SysProcAttr{Setsid: true}
		err = cmd.Start()
		if closeErr := out.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			err = os.WriteFile(c.pidFile(name), fmt.Appendf(nil, "%d\n", cmd.Process.Pid), 0o600)
		}
		if err == nil {
			err = cmd.Process.Release()
		}
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		if c.running(name) == nil {
			return fmt.Errorf("%s has ended; see %s", name, log)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready; see %s: %w", name, log, ctx.Err())
		}
	}
}

func (c *cluster) pidFile(name string) string { return filepath.Join(c.dir, name+".pid") }

// running is a process that was started before and runs, else nil. One of another program is none.
func (c *cluster) running(name string) *os.Process {
	b, err := os.ReadFile(c.pidFile(name))
	if err != nil {
		return nil
	}
	pid := 0
	if _, err := fmt.Sscan(string(b), &pid); err != nil || pid <= 1 {
		return nil
	}
	out, err := exec.Command("ps", "-o", "stat=,args=", "-p", fmt.Sprint(pid)).Output()
	if err != nil || strings.HasPrefix(string(out), "Z") || !strings.Contains(string(out), c.binary()) {
		return nil
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	return p
}

// stopWithin is how long a process may take to end in good order.
const stopWithin = 30 * time.Second

func (c *cluster) down(ctx context.Context) error {
	var errs []error
	names := []string{"gateway"}
	for i := range workers {
		names = append(names, fmt.Sprintf("worker-%d", i+1))
	}
	for _, name := range names {
		errs = append(errs, c.stop(ctx, name))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return err
	}
	if !c.engines {
		return nil
	}
	return c.tool(ctx, "go", "run", "./deploy/engines", "down", "kafka3", "cassandra")
}

func (c *cluster) stop(ctx context.Context, name string) error {
	p := c.running(name)
	if p == nil {
		return nil
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	for c.running(name) != nil {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("stop %s: %w; see its log, or kill -9 %d", name, ctx.Err(), p.Pid)
		}
	}
	return nil
}
