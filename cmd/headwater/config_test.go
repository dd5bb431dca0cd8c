package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// settle is `headwater dev` up to where it would start.
func settle(t *testing.T, args ...string) (*cobra.Command, error) {
	t.Helper()
	c := newDev()
	if err := c.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return c, c.PreRunE(c, nil)
}

func TestFlagBeatsEnvironmentBeatsFile(t *testing.T) {
	const flagHas, envHas, fileHas = "1.1.1.1:1", "2.2.2.2:2", "3.3.3.3:3"
	settings := []struct{ flag, env, file, def string }{
		{"http", "HEADWATER_HTTP", "http: %", "127.0.0.1:7080"},
		{"data-dir", "HEADWATER_DATA_DIR", "data_dir: %", "./headwater-data"},
		{"allowed-hosts", "HEADWATER_ALLOWED_HOSTS", "allowed_hosts: ['%']", "[]"},
		{"kafka-brokers", "HEADWATER_KAFKA_BROKERS", "log: { type: kafka, brokers: ['%'] }", "[]"},
	}
	for _, s := range settings {
		for _, inFlag := range []bool{false, true} {
			for _, inEnv := range []bool{false, true} {
				for _, inFile := range []bool{false, true} {
					want := s.def
					var args []string
					if inFile {
						want = fileHas
						args = append(args, "--config", writeFile(t, t.TempDir(), "headwater.yaml", strings.Replace(s.file, "%", fileHas, 1)))
					}
					if inEnv {
						want = envHas
						t.Setenv(s.env, envHas)
					} else {
						t.Setenv(s.env, "") // so that it is put back
						if err := os.Unsetenv(s.env); err != nil {
							t.Fatal(err)
						}
					}
					if inFlag {
						want = flagHas
						args = append(args, "--"+s.flag, flagHas)
					}
					c, err := settle(t, args...)
					if err != nil {
						t.Fatal(err)
					}
					if got := c.Flag(s.flag).Value.String(); got != want && got != "["+want+"]" {
						t.Errorf("%s is %s, not %s (flag %v, environment %v, file %v)", s.flag, got, want, inFlag, inEnv, inFile)
					}
				}
			}
		}
	}
}

func TestEverySettingOfTheFileReachesItsFlag(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, dir, "headwater.yaml", `
data_dir: /var/lib/headwater
http: 0.0.0.0:7080
grpc: 0.0.0.0:7081
admin: 127.0.0.1:7090
log: { type: kafka, brokers: [kafka-1:9092, kafka-2:9092], replication_factor: 3, topic_prefix: water, session_timeout: 20s }
namespaces: [ namespaces/*.yaml, /etc/headwater/plays.yaml ]
allowed_hosts: [ headwater.internal, db.example.com ]
drain_delay: 3s
start_timeout: 90s
free_space_floor: 1024
verify_interval: 1m
log_level: debug
`)
	t.Setenv("HEADWATER_CONFIG", path)
	c, err := settle(t)
	if err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"data-dir": "/var/lib/headwater", "http": "0.0.0.0:7080", "grpc": "0.0.0.0:7081", "admin": "127.0.0.1:7090",
		"kafka-brokers": "[kafka-1:9092,kafka-2:9092]", "kafka-replication-factor": "3", "kafka-topic-prefix": "water",
		"namespaces":    "[" + filepath.Join(dir, "namespaces/*.yaml") + ",/etc/headwater/plays.yaml]",
		"allowed-hosts": "[headwater.internal,db.example.com]",
		"drain-delay":   "3s", "start-timeout": "1m30s", "free-space-floor": "1024", "verify-interval": "1m0s", "log-level": "debug",
	} {
		if got := c.Flag(flag).Value.String(); got != want {
			t.Errorf("%s is %s, not %s", flag, got, want)
		}
	}
}

func TestWrongFileSaysWhereAndWhy(t *testing.T) {
	for _, tt := range []struct{ name, file, want string }{
		{"mistyped key", "http: 127.0.0.1:1\ndata_dri: /x\n", ":2: unknown setting data_dri; did you mean data_dir?"},
		{"mistyped key of the log", "log:\n  type: kafka\n  broker: [a:1]\n", ":3: unknown setting log.broker; did you mean brokers?"},
		{"foreign key", "listeners: x\n", ":1: unknown setting listeners; known are abstractions, admin, advertise, allowed_hosts, clusters,"},
		{"key twice", "http: a:1\nhttp: b:1\n", ":2: http is set twice"},
		{"clusters no mapping", "clusters: [main]\n", "clusters: expected clusters"},
		{"type of a cluster", "clusters:\n  main: { type: cassandra }\n", ":2: clusters.main.hosts: are missing"},
		{"unknown type of a cluster", "clusters:\n  main: { type: redis }\n", ":2: clusters.main.type: \"redis\" is not known; it takes cassandra, clickhouse or kafka"},
		{"keyspace of a cluster", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: 'x; DROP' }\n", "clusters.main.keyspace: \"x; DROP\" is not a keyspace's name"},
		{"keyspace of Cassandra", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: system_auth }\n", "clusters.main.keyspace: system_auth is Cassandra's own"},
		{"no keyspace", "clusters:\n  main: { type: cassandra, hosts: [a] }\n", "clusters.main.keyspace: is missing"},
		{"host of a cluster", "clusters:\n  main: { type: cassandra, hosts: ['a:b'], keyspace: hw }\n", "clusters.main.hosts: \"a:b\" is not host or host:port"},
		{"hosts no list", "clusters:\n  main: { type: cassandra, hosts: a, keyspace: hw }\n", "clusters.main.hosts: expected a list"},
		{"replication", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, replication: 3 }\n", "clusters.main.replication: expected copies by data center"},
		{"copies", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, replication: { dc: three } }\n", "expected a number of copies for \"dc\""},
		{"no copies", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, replication: { dc: 0 } }\n", "clusters.main.replication: dc has 0 copies"},
		{"data center", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, replication: { \"d'c\": 1 } }\n", "is not the name of a data center"},
		{"level of a cluster", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, consistency: ANY }\n", "clusters.main.consistency: \"ANY\" is none of ONE, LOCAL_ONE, QUORUM, LOCAL_QUORUM"},
		{"one of three", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, consistency: ONE, replication: { dc: 3 } }\n", "clusters.main.consistency: ONE of several copies"},
		{"user of a cluster", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, username: u }\n", "clusters.main.username: comes together with password_file"},
		{"tls of a cluster", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, tls: { key_file: k } }\n", "clusters.main.tls: cert_file and key_file come together"},
		{"url of Cassandra", "clusters:\n  main: { type: cassandra, url: 'http://a:1/b' }\n", "clusters.main.url: is of clickhouse"},
		{"hosts of ClickHouse", "clusters:\n  main: { type: clickhouse, url: 'http://a:1/b', hosts: [a] }\n", "are of cassandra; a clickhouse has a url"},
		{"no brokers of a cluster", "clusters:\n  main: { type: kafka }\n", "clusters.main.brokers: is missing"},
		{"hosts of Kafka", "clusters:\n  main: { type: kafka, brokers: [a:1], hosts: [a] }\n", "a kafka has brokers"},
		{"user of Kafka", "clusters:\n  main: { type: kafka, brokers: [a:1], username: a }\n", "stand in sasl"},
		{"brokers of Cassandra", "clusters:\n  main: { type: cassandra, hosts: [a], keyspace: hw, brokers: [a:1] }\n", "brokers and sasl are of kafka"},
		{"mechanism of a cluster", "clusters:\n  main: { type: kafka, brokers: [a:1], sasl: { mechanism: X, username: a, password_file: b } }\n", "clusters.main.sasl.mechanism: \"X\" is none of PLAIN"},
		{"no type of a cluster", "clusters:\n  main: { url: http://a:1/b }\n", "clusters.main.type: is missing"},
		{"no url of a cluster", "clusters:\n  main: { type: clickhouse }\n", "clusters.main.url: is missing"},
		{"url of a cluster", "clusters:\n  main: { type: clickhouse, url: 'ftp://a/b' }\n", "clusters.main.url: "},
		{"url without database", "clusters:\n  main: { type: clickhouse, url: 'http://a:1' }\n", "names no database"},
		{"name of a cluster", "clusters:\n  Main: { type: clickhouse, url: 'http://a:1/b' }\n", "is not a cluster's name"},
		{"setting of a cluster", "clusters:\n  main: { type: clickhouse, uri: x }\n", ":2: unknown setting clusters.main.uri; did you mean url?"},
		{"log type", "log: { type: pulsar }\n", `log.type: "pulsar" is neither embedded nor kafka`},
		{"brokers of the embedded log", "log: { type: embedded, brokers: [a:1] }\n", "log.brokers: only for log.type kafka"},
		{"kafka without brokers", "log: { type: kafka }\n", "there are no brokers"},
		{"brokers no list", "log: { type: kafka, brokers: a:1 }\n", "log.brokers: expected a list"},
		{"half a certificate", "log: { type: kafka, brokers: [a:1], tls: { cert_file: a.pem } }\n", ":1: log.tls: cert_file and key_file come together"},
		{"mechanism", "log: { type: kafka, brokers: [a:1], sasl: { mechanism: GSSAPI, username: a, password_file: b } }\n", `log.sasl.mechanism: "GSSAPI" is none of PLAIN`},
		{"user without password", "log: { type: kafka, brokers: [a:1], sasl: { mechanism: PLAIN, username: a } }\n", "username and password_file are needed"},
		{"setting of internal_tls", "internal_tls: { ca: a.pem }\n", "unknown setting internal_tls.ca"},
		{"internal_tls without a key", "internal_tls: { ca_file: a.pem, cert_file: a.pem }\n", "internal_tls: cert_file and key_file come together"},
		{"setting of tls", "log: { type: kafka, brokers: [a:1], tls: { cafile: a.pem } }\n", "unknown setting log.tls.cafile; did you mean ca_file?"},
		{"tls of the embedded log", "log: { type: embedded, tls: {} }\n", "log.tls: only for log.type kafka"},
		{"hosts no list", "allowed_hosts: a\n", ":1: allowed_hosts: expected a list"},
		{"number", "log: { type: kafka, brokers: [a:1], replication_factor: three }\n", ":1: log.replication_factor: "},
		{"duration", "drain_delay: 3\n", ":1: drain_delay: "},
		{"no value", "http:\n", ":1: http: expected one value"},
		{"list for a value", "http: [a]\n", ":1: http: expected one value"},
		{"no settings", "- a\n", "expected settings"},
		{"two documents", "http: a:1\n---\nhttp: b:1\n", "more than one document"},
		{"no YAML", "http: [\n", "line 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := settle(t, "--config", writeFile(t, t.TempDir(), "headwater.yaml", tt.file))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is %v, not one with %q", err, tt.want)
			}
		})
	}
	if _, err := settle(t, "--config", filepath.Join(t.TempDir(), "absent.yaml")); err == nil {
		t.Error("a file that is not there is no error")
	}
	if _, err := settle(t, "--config", writeFile(t, t.TempDir(), "empty.yaml", "# nothing\n")); err != nil {
		t.Errorf("a file that sets nothing: %v", err)
	}
}

func TestNamespaceFiles(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "ns/a.yaml", "namespace: a\nabstraction: kv\n")
	writeFile(t, dir, "ns/b.yaml", "namespace: b\nabstraction: log\n")
	writeFile(t, dir, "twice/c.yaml", "namespace: a\nabstraction: log\n")
	writeFile(t, dir, "bad/d.yaml", "namespace: d\nabstracton: kv\n")
	pattern := filepath.Join(dir, "ns", "*.yaml")
	docs, err := namespaceFiles([]string{pattern, filepath.Join(dir, "ns", "a.yaml"), filepath.Join(dir, "none", "*.yaml")})
	if err != nil || len(docs) != 2 || !strings.Contains(docs[0], "namespace: a") || !strings.Contains(docs[1], "namespace: b") {
		t.Errorf("documents are %q, error %v", docs, err)
	}
	for _, tt := range []struct{ pattern, want string }{
		{filepath.Join(dir, "ns", "z.yaml"), "z.yaml"},
		{filepath.Join(dir, "twice", "*.yaml"), "both are of namespace a"},
		{filepath.Join(dir, "bad", "*.yaml"), "abstracton"},
		{"[", "pattern"},
	} {
		if _, err := namespaceFiles([]string{pattern, tt.pattern}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, not one with %q", tt.pattern, err, tt.want)
		}
	}
}

func TestBadLogSettingsAreUsageErrors(t *testing.T) {
	for _, args := range [][]string{
		{"--kafka-topic-prefix", "a.b/c"}, {"--kafka-replication-factor", "-1"}, {"--namespaces", "absent.yaml"}, {"--log-level", "loud"},
		{"--start-timeout", "0s"}, {"--start-timeout", "-1s"},
		{"--allowed-hosts", "ok.example,http://a"},
	} {
		c := newDev()
		c.SetArgs(append(args, "--data-dir", filepath.Join(t.TempDir(), "untouched")))
		if err := c.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v is no error", args)
		}
	}
}
