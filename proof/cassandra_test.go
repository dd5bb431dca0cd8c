package proof

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// cassandraType is a store in the cluster of cassandraConfig, as a document has it.
const cassandraType = "cassandra, cluster: main"

// cassandraConfig is a configuration file with a cluster on a real Cassandra, and a keyspace of its own that
// is dropped with the test. docs are the namespaces that it has.
func cassandraConfig(t *testing.T, docs ...string) string {
	t.Helper()
	at, keyspace := enginetest.Keyspace(t)
	return cassandraFile(t, at, keyspace, docs...)
}

// cassandraFile is cassandraConfig of a keyspace, by an address.
func cassandraFile(t *testing.T, at, keyspace string, docs ...string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("clusters:\n  main: { type: cassandra, hosts: ['%s'], keyspace: %s, replication: { datacenter1: 1 } }\nnamespaces: ['*.ns.yaml']\n", at, keyspace)
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for i, doc := range docs {
		write(fmt.Sprintf("%d.ns.yaml", i), doc)
	}
	return write("headwater.yaml", text)
}

// TestEngineKillOnCassandra is TestKill with the items in a real Cassandra, behind a cache.
func TestEngineKillOnCassandra(t *testing.T) {
	const ns = "remote-kv"
	config := cassandraConfig(t, "namespace: "+ns+"\nabstraction: kv\nlog: {partitions: 2}\nstorage: [{role: PRIMARY, type: "+cassandraType+"}, {role: CACHE, type: pebble}]\n")
	rounds := 8
	if long() {
		rounds = 100
	}
	killRounds(t, rounds, ns, nil, true, "--config", config)
}

// TestEngineStoresOverKills is TestStoresOverKills with stores on a real Cassandra among those that are
// promoted.
func TestEngineStoresOverKills(t *testing.T) {
	config := cassandraConfig(t)
	rounds := 6
	if long() {
		rounds = 100
	}
	const ns = "moved-kv"
	const parked = "parked-kv"
	op := newOperator(map[string]string{
		ns:     "namespace: " + ns + "\nabstraction: kv\nlog: {partitions: 2}\n",
		parked: "namespace: " + parked + "\nabstraction: kv\nlog: {partitions: 1}\n",
	}, kvPark(parked))
	op.kinds = []string{cassandraType, "pebble"}
	killRounds(t, rounds, ns, op, true, "--config", config)
	t.Logf("steps: %v", op.done)
}

// onCassandra is a service whose namespace has its items in a real Cassandra, behind a cache.
func onCassandra(t *testing.T) *service {
	at, keyspace := enginetest.Keyspace(t)
	const ns = "remote-kv"
	return newService(t, ns, func(c *server.Config) {
		c.Clusters = map[string]server.Cluster{"main": {Type: "cassandra", Hosts: []string{at}, Keyspace: keyspace, Replication: map[string]int{"datacenter1": 1}}}
		c.Namespaces = []string{"namespace: " + ns + "\nabstraction: kv\nlog: {partitions: 2}\nstorage: [{role: PRIMARY, type: " + cassandraType + "}, {role: CACHE, type: pebble}]\n"}
	})
}

// TestEngineLinearizableOnCassandra is TestLinearizable behind a cache of a real Cassandra.
func TestEngineLinearizableOnCassandra(t *testing.T) { linearizable(t, onCassandra(t)) }

// TestEngineReadYourWritesOnCassandra is TestReadYourWrites behind a cache of a real Cassandra.
func TestEngineReadYourWritesOnCassandra(t *testing.T) { readYourWrites(t, onCassandra(t)) }
