package proof

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// cluster is gateways and workers, each a process of its own.
type cluster struct {
	t        *testing.T
	session  time.Duration
	flags    []string // of every process
	gateways []*process
	grpc     []string // where each gateway is: a new one listens there too
	workers  []*process
	dirs     []string
	clocks   bool // see clusterShape
	// Of worker 0, where it has its own ways to the brokers and to Cassandra: nil elsewhere.
	kafka, cassandra *link
	first            []string // its flags for them
}

// clusterShape says what a cluster is of.
type clusterShape struct {
	brokers           string
	replicas          int
	gateways, workers int
	session           time.Duration
	docs              []string // more namespaces
	// clocks: of worker 1 it is 30 s ahead, of worker 2 30 s behind.
	clocks bool
	// proxied is where brokers listen for proxies; "": worker 0 is as the others. See deploy/engines.
	proxied string
}

const (
	spreadKV  = "spread-kv"
	spreadLog = "spread-log"
)

// newCluster starts them, with a key-value namespace and two of counters in a real Cassandra.
func newCluster(t *testing.T, shape clusterShape) *cluster {
	t.Helper()
	docs := append([]string{
		"namespace: " + spreadKV + "\nabstraction: kv\nlog: {partitions: 4}\nstorage: [{role: PRIMARY, type: " + cassandraType + "}, {role: CACHE, type: pebble}]\n",
		"namespace: " + spreadLog + "\nabstraction: log\nlog: {partitions: 1}\n",
		exactDoc + "storage: [{role: PRIMARY, type: " + cassandraType + "}]\n", boundDoc + "storage: [{role: PRIMARY, type: " + cassandraType + "}]\n",
	}, shape.docs...)
	if long() { // what was written at the beginning is sent again at the end
		for i := range docs {
			docs[i] += "tokens: {window: 2h, max_drift_past: 1h}\n"
		}
	}
	at, keyspace := enginetest.Keyspace(t)
	config := cassandraFile(t, at, keyspace, docs...)
	applySchema(t, config)
	c := &cluster{t: t, session: shape.session, clocks: shape.clocks, flags: []string{
		"--kafka-replication-factor", fmt.Sprint(shape.replicas), "--allow-unsafe", "--admin", "127.0.0.1:0", "--log-level", "warn",
		"--kafka-topic-prefix", fmt.Sprintf("proof%d", time.Now().UnixNano()),
	}}
	if shape.proxied != "" {
		c.kafka, c.cassandra = newLink(t), newLink(t)
		var brokers []string
		for _, pair := range strings.Split(shape.proxied, ",") {
			from, to, _ := strings.Cut(pair, "=")
			brokers = append(brokers, c.kafka.listen(t, from, to))
		}
		c.first = []string{"--config", cassandraFile(t, c.cassandra.listen(t, "127.0.0.1:0", at), keyspace, docs...), "--kafka-brokers", strings.Join(brokers, ",")}
	}
	c.flags = append(c.flags, "--config", config, "--kafka-brokers", shape.brokers)
	for range shape.gateways {
		c.gateways, c.grpc = append(c.gateways, nil), append(c.grpc, "127.0.0.1:0")
		c.startGateway(len(c.gateways) - 1)
	}
	for range shape.workers {
		c.dirs, c.workers = append(c.dirs, t.TempDir()), append(c.workers, nil)
		c.startWorker(len(c.workers) - 1)
	}
	return c
}

// applySchema makes the tables, which only dev does by itself.
func applySchema(t *testing.T, config string) {
	t.Helper()
	p := launchAs(t, "schema", "apply", "--config", config)
	<-p.gone
	if p.err != nil {
		t.Fatalf("headwater schema apply: %v\n%s", p.err, p.said())
	}
}

func (c *cluster) startGateway(i int) {
	c.gateways[i] = c.launchGateway(c.grpc[i])
	c.gateways[i].waitReady(c.t)
	c.grpc[i] = c.gateways[i].grpc
}

func (c *cluster) launchGateway(at string, more ...string) *process {
	return launchAs(c.t, append(append([]string{"gateway", "--http", "127.0.0.1:0", "--grpc", at}, c.flags...), more...)...)
}

func (c *cluster) startWorker(i int) {
	args := append([]string{"consume", "--data-dir", c.dirs[i], "--internal", "127.0.0.1:0", "--kafka-session-timeout", c.session.String()}, c.flags...)
	switch { // of a flag that is there twice the last counts
	case i == 0:
		args = append(args, c.first...)
	case i < 3 && c.clocks:
		args = append(args, "--test-clock-ahead", []string{"", "30s", "-30s"}[i])
	}
	c.workers[i] = launchAs(c.t, args...)
	c.workers[i].waitReady(c.t)
}

// connect makes a connection to each gateway.
func (c *cluster) connect() (cs []*conn) {
	for _, at := range c.grpc {
		cs = append(cs, connect(c.t, at))
	}
	return cs
}

// said is what the processes that run have logged.
func (c *cluster) said() (out string) {
	for i, g := range c.gateways {
		out += fmt.Sprintf("gateway %d: %s\n", i, g.said())
	}
	for i, w := range c.workers {
		out += fmt.Sprintf("worker %d: %s\n", i, w.said())
	}
	return out
}

// settled returns when every partition has an owner that answers, for longer than the group takes to change its mind.
func (c *cluster) settled(applied func() error) {
	c.t.Helper()
	begin, since := time.Now(), time.Time{}
	for ; ; <-time.After(50 * time.Millisecond) {
		err := applied()
		switch {
		case err != nil && time.Since(begin) > time.Minute:
			c.t.Fatalf("no owners: %v\n%s", err, c.said())
		case err != nil:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > c.session/2:
			return
		}
	}
}

// event is one thing that happens to a cluster under load. It has ended when do returns, and what it has taken away is back.
type event struct {
	name string
	do   func(c *cluster, r *rand.Rand)
}

// clusterEvents happen to every cluster.
var clusterEvents = []event{
	{"kill a worker", func(c *cluster, r *rand.Rand) {
		i := r.IntN(len(c.workers))
		c.workers[i].kill(c.t)
		<-time.After(time.Duration(r.IntN(2)) * c.session)
		c.startWorker(i)
	}},
	{"freeze a worker past its session", func(c *cluster, r *rand.Rand) {
		w := c.workers[r.IntN(len(c.workers))]
		w.signal(c.t, syscall.SIGSTOP)
		<-time.After(c.session + c.session/2)
		w.signal(c.t, syscall.SIGCONT)
		<-time.After(c.session / 2)
	}},
	{"stop a worker in good order", func(c *cluster, r *rand.Rand) {
		i := r.IntN(len(c.workers))
		c.stop(c.workers[i])
		c.startWorker(i)
	}},
	{"kill a worker and lose its directory", func(c *cluster, r *rand.Rand) {
		i := r.IntN(len(c.workers))
		c.workers[i].kill(c.t)
		c.dirs[i] = c.t.TempDir()
		c.startWorker(i)
	}},
	{"kill a gateway", func(c *cluster, r *rand.Rand) {
		i := r.IntN(len(c.gateways))
		c.gateways[i].kill(c.t)
		c.startGateway(i)
	}},
}

// stop ends a process by SIGTERM, which it must do well.
func (c *cluster) stop(p *process) {
	p.signal(c.t, syscall.SIGTERM)
	<-p.gone
	if p.err != nil {
		c.t.Errorf("a process that was stopped: %v\n%s", p.err, p.said())
	}
}

// happens has something happen to the cluster in a moment. The channel is closed when it is over.
func (c *cluster) happens(e event, r *rand.Rand) <-chan struct{} {
	over := make(chan struct{})
	go func() {
		defer close(over)
		<-time.After(time.Duration(100+r.IntN(300)) * time.Millisecond)
		e.do(c, r)
	}()
	return over
}
