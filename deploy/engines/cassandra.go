package main

import (
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gocql/gocql"
)

//go:embed cassandra.pom.xml
var cassandraPom string

//go:embed cassandra.logback.xml
var cassandraLogback []byte

var cassandraJars = maven{name: "cassandra", pom: cassandraPom}

// cassandra is one node. It speaks CQL on port, to other nodes on port+1 and port+2.
type cassandra struct {
	port    int
	heapMiB int
}

func (c cassandra) engine() engine {
	return engine{
		name: "cassandra", port: c.port, portCount: 3,
		fetch:    cassandraJars.fetch,
		prepare:  c.prepare,
		ready:    c.ready,
		rejoined: func(ctx context.Context, port, _ int) error { return c.ready(ctx, port) },
		env:      c.env,
	}
}

// cassandraOpens and cassandraExports are what Cassandra 5 needs of the modules of Java 17.
var (
	cassandraExports = []string{
		"java.base/jdk.internal.misc", "java.base/jdk.internal.ref", "java.base/sun.nio.ch", "java.base/java.lang.ref",
		"java.management.rmi/com.sun.jmx.remote.internal.rmi", "java.rmi/sun.rmi.registry", "java.rmi/sun.rmi.server", "java.sql/java.sql", "jdk.unsupported/sun.misc",
	}
	cassandraOpens = []string{
		"java.base/java.lang", "java.base/java.lang.module", "java.base/java.lang.reflect", "java.base/java.io", "java.base/java.nio", "java.base/java.util",
		"java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic", "java.base/sun.nio.ch", "java.base/jdk.internal.loader", "java.base/jdk.internal.ref",
		"java.base/jdk.internal.reflect", "java.base/jdk.internal.math", "java.base/jdk.internal.module", "java.base/jdk.internal.util.jar",
		"jdk.management/com.sun.management.internal", "java.rmi/sun.rmi.transport.tcp",
	}
)

func (c cassandra) prepare(_ context.Context, cache, dir string) ([]process, error) {
	bin, err := java()
	if err != nil {
		return nil, err
	}
	logback, config := filepath.Join(dir, "logback.xml"), filepath.Join(dir, "cassandra.yaml")
	if err := writeFile(logback, cassandraLogback); err != nil {
		return nil, err
	}
	if err := writeFile(config, c.yaml(dir)); err != nil {
		return nil, err
	}
	lib := cassandraJars.lib(cache)
	args := []string{bin, fmt.Sprintf("-Xms%dm", c.heapMiB), fmt.Sprintf("-Xmx%dm", c.heapMiB), "-XX:+ExitOnOutOfMemoryError", "-XX:+UseSerialGC", "-Djava.awt.headless=true"}
	for _, m := range cassandraExports {
		args = append(args, "--add-exports", m+"=ALL-UNNAMED")
	}
	for _, m := range cassandraOpens {
		args = append(args, "--add-opens", m+"=ALL-UNNAMED")
	}
	agents, err := filepath.Glob(filepath.Join(lib, "jamm-*.jar"))
	if err != nil || len(agents) != 1 {
		return nil, fmt.Errorf("find the agent of Cassandra: %d of %s/jamm-*.jar", len(agents), lib)
	}
	args = append(args,
		"-javaagent:"+agents[0],
		// One node has nobody to wait for.
		"-Dcassandra.skip_wait_for_gossip_to_settle=0", "-Dcassandra.ring_delay_ms=0",
		"-Dcassandra-foreground=yes", "-Dcassandra.config=file://"+config, "-Dcassandra.storagedir="+dir, "-Dlogback.configurationFile="+logback,
		"-cp", filepath.Join(lib, "*"), "org.apache.cassandra.service.CassandraDaemon")
	return []process{{Name: "cassandra", Args: args, Log: filepath.Join(dir, "node.log"), Mark: config}}, nil
}

// yaml is the configuration. Memory is small, and the commit log is synced each second, as Cassandra's own has it. A kill -9
// then loses what was acknowledged in the last 100 ms (commitlog_marker_period): where there are more nodes another one has
// it. Tests that hold a store to its word stop the node in good order.
func (c cassandra) yaml(dir string) []byte {
	return fmt.Appendf(nil, `cluster_name: headwater-engine
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
commitlog_sync: periodic
commitlog_sync_period: 1000ms
data_file_directories: [ %[1]s/data ]
commitlog_directory: %[1]s/commitlog
saved_caches_directory: %[1]s/saved_caches
hints_directory: %[1]s/hints
cdc_raw_directory: %[1]s/cdc_raw
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "127.0.0.1:%[3]d"
listen_address: 127.0.0.1
rpc_address: 127.0.0.1
native_transport_port: %[2]d
storage_port: %[3]d
ssl_storage_port: %[4]d
endpoint_snitch: SimpleSnitch
auto_snapshot: false
memtable_heap_space: 256MiB
memtable_offheap_space: 256MiB
`, dir, c.port, c.port+1, c.port+2)
}

// ready makes a keyspace, writes a row and reads it back, and drops the keyspace.
func (c cassandra) ready(ctx context.Context, port int) error {
	cfg := gocql.NewCluster("127.0.0.1")
	cfg.Port = port
	cfg.ProtoVersion = 4
	cfg.Timeout, cfg.ConnectTimeout = 5*time.Second, 2*time.Second
	cfg.Logger = silent{}
	s, err := cfg.CreateSession()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer s.Close()
	for _, q := range []string{
		"DROP KEYSPACE IF EXISTS engines_ready_probe",
		"CREATE KEYSPACE engines_ready_probe WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
		"CREATE TABLE engines_ready_probe.probe (k text PRIMARY KEY, v text)",
		"INSERT INTO engines_ready_probe.probe (k, v) VALUES ('k', 'ready')",
	} {
		if err := s.Query(q).WithContext(ctx).Exec(); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	var v string
	if err := s.Query("SELECT v FROM engines_ready_probe.probe WHERE k = 'k'").WithContext(ctx).Scan(&v); err != nil || v != "ready" {
		return fmt.Errorf("read a row back: %q, %w", v, err)
	}
	if err := s.Query("DROP KEYSPACE engines_ready_probe").WithContext(ctx).Exec(); err != nil {
		return fmt.Errorf("drop the keyspace of the probe: %w", err)
	}
	return nil
}

// silent is a logger of gocql: what it says while a node starts is of no use.
type silent struct{}

func (silent) Print(...any)          {}
func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

func (c cassandra) env(tool string, st state) []variable {
	return []variable{
		{"HEADWATER_TEST_CASSANDRA", fmt.Sprintf("127.0.0.1:%d", st.Port)},
		{"HEADWATER_TEST_CASSANDRA_STOP", tool + " stop cassandra 0"},
		{"HEADWATER_TEST_CASSANDRA_RESTART", tool + " restart cassandra 0"},
	}
}
