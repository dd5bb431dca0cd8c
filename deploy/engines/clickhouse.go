package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// libchdb is ClickHouse's engine as a library. No registry has the server itself.
var libchdb = npmPackage{
	scope: "@chdb", name: "lib-linux-x64-gnu", version: "26.5.3", file: "package/libchdb.so",
	sha512: "fPrLmRt5Moor9yGz4mazbrNje4t7X9KB2mTGkXFWRxRBs2iKy8yh6jx11xsa0Qr3iDFMU/yHqd+bVdYJXu3QaQ==",
}

// clickHouse is the engine behind chbridge: HTTP on its port, the native protocol on the next.
type clickHouse struct {
	root string // of the module: the bridge is built from it
	port int
}

func (c clickHouse) engine() engine {
	return engine{
		name: "clickhouse", port: c.port, portCount: 2,
		fetch: c.fetch, prepare: c.prepare, ready: c.ready, env: c.env,
		rejoined: func(ctx context.Context, port, _ int) error { return c.ready(ctx, port) },
	}
}

func (c clickHouse) bridge(cache string) string { return filepath.Join(cache, "chbridge") }

func (c clickHouse) fetch(ctx context.Context, cache string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the clickhouse engine runs on Linux on x86-64, and this is %s on %s; name the other engines", runtime.GOOS, runtime.GOARCH)
	}
	if err := libchdb.fetch(ctx, cache); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", c.bridge(cache), "./deploy/engines/chbridge")
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.root, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build chbridge: %w", err)
	}
	return nil
}

func (c clickHouse) prepare(_ context.Context, cache, dir string) ([]process, error) {
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	return []process{{
		Name: "clickhouse", Log: filepath.Join(dir, "clickhouse.log"), Mark: data,
		Args: []string{c.bridge(cache), libchdb.path(cache), data, c.address(c.port), c.address(c.port + 1)},
	}}, nil
}

func (c clickHouse) address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// ready writes a row and reads it back, by both protocols.
func (c clickHouse) ready(ctx context.Context, port int) error {
	for _, dsn := range c.urls(port) {
		if err := c.roundTrip(ctx, dsn); err != nil {
			return fmt.Errorf("ask %s: %w", dsn, err)
		}
	}
	return nil
}

func (c clickHouse) urls(port int) [2]string {
	return [2]string{"http://" + c.address(port) + "/default", "clickhouse://" + c.address(port+1) + "/default"}
}

func (c clickHouse) roundTrip(ctx context.Context, dsn string) (err error) {
	o, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return err
	}
	o.DialTimeout, o.ReadTimeout = time.Second, 5*time.Second
	conn, err := clickhouse.Open(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	const table = "engines_ready_probe"
	for _, q := range []string{"CREATE TABLE IF NOT EXISTS " + table + " (x UInt64) ENGINE = MergeTree ORDER BY x", "TRUNCATE TABLE " + table} {
		if err := conn.Exec(ctx, q); err != nil {
			return err
		}
	}
	b, err := conn.PrepareBatch(ctx, "INSERT INTO "+table)
	if err != nil {
		return err
	}
	if err := errors.Join(b.Append(uint64(7)), b.Send()); err != nil {
		return err
	}
	var got uint64
	if err := conn.QueryRow(ctx, "SELECT x FROM "+table).Scan(&got); err != nil || got != 7 {
		return errors.Join(err, fmt.Errorf("the row that was written reads %d", got))
	}
	return conn.Exec(ctx, "DROP TABLE "+table)
}

func (c clickHouse) env(tool string, st state) []variable {
	urls := c.urls(st.Port)
	return []variable{
		{"HEADWATER_TEST_CLICKHOUSE", urls[0]},
		{"HEADWATER_TEST_CLICKHOUSE_NATIVE", urls[1]},
		{"HEADWATER_TEST_CLICKHOUSE_KILL", tool + " kill clickhouse 0"},
		{"HEADWATER_TEST_CLICKHOUSE_RESTART", tool + " restart clickhouse 0"},
	}
}
