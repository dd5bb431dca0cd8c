package proof

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// cluster is a gateway and workers, each a process of its own.
type cluster struct {
	t       *testing.T
	common  []string
	gateway *process
	workers []*process
	dirs    []string
	session time.Duration
}

const (
	spreadKV  = "spread-kv"
	spreadLog = "spread-log"
)

// newCluster starts them on brokers, with a key-value namespace in a real Cassandra.
func newCluster(t *testing.T, brokers string, workers int, session time.Duration) *cluster {
	t.Helper()
	config := cassandraConfig(t,
		"namespace: "+spreadKV+"\nabstraction: kv\nlog: {partitions: 4}\nstorage: [{role: PRIMARY, type: "+cassandraType+"}, {role: CACHE, type: pebble}]\n",
		"namespace: "+spreadLog+"\nabstraction: log\nlog: {partitions: 1}\n",
		exactDoc+"storage: [{role: PRIMARY, type: "+cassandraType+"}]\n", boundDoc+"storage: [{role: PRIMARY, type: "+cassandraType+"}]\n")
	applySchema(t, config)
	c := &cluster{t: t, session: session, common: []string{
		"--config", config, "--kafka-brokers", brokers, "--kafka-replication-factor", "1", "--allow-unsafe", "--admin", "127.0.0.1:0", "--log-level", "warn", "--kafka-topic-prefix", fmt.Sprintf("proof%d", time.Now().UnixNano()),
	}}
	c.startGateway()
	for range workers {
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

func (c *cluster) startGateway() {
	c.gateway = launchAs(c.t, append([]string{"gateway", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"}, c.common...)...)
	c.gateway.waitReady(c.t)
}

func (c *cluster) startWorker(i int) {
	c.workers[i] = launchAs(c.t, append([]string{"consume", "--data-dir", c.dirs[i], "--internal", "127.0.0.1:0", "--kafka-session-timeout", c.session.String()}, c.common...)...)
	c.workers[i].waitReady(c.t)
}

const killGateway = "kill the gateway"

// The things that happen to a cluster under load, but for killGateway, which ends it.
var clusterEvents = map[string]func(c *cluster, r *rand.Rand){
	"kill a worker": func(c *cluster, r *rand.Rand) {
		i := r.IntN(len(c.workers))
		c.workers[i].kill(c.t)
		<-time.After(time.Duration(r.IntN(2)) * c.session)
		c.startWorker(i)
	},
	"kill a worker and lose its directory": func(c *cluster, r *rand.Rand) {
		i := r.IntN(len(c.workers))
		c.workers[i].kill(c.t)
		c.dirs[i] = c.t.TempDir()
		c.startWorker(i)
	},
	"freeze a worker past its session": func(c *cluster, r *rand.Rand) {
		w := c.workers[r.IntN(len(c.workers))]
		w.signal(c.t, syscall.SIGSTOP)
		<-time.After(c.session + c.session/2)
		w.signal(c.t, syscall.SIGCONT)
		<-time.After(c.session / 2)
	},
	"stop a worker in good order": func(c *cluster, r *rand.Rand) {
		i := r.IntN(len(c.workers))
		c.workers[i].signal(c.t, syscall.SIGTERM)
		<-c.workers[i].gone
		if c.workers[i].err != nil {
			c.t.Errorf("a worker that was stopped: %v\n%s", c.workers[i].err, c.workers[i].said())
		}
		c.startWorker(i)
	},
}

var eventNames = []string{"kill a worker", "freeze a worker past its session", "stop a worker in good order", "kill a worker and lose its directory", killGateway}

// happens has something happen to the cluster in a moment. stop ends the load, and happened is closed when it is over.
func (c *cluster) happens(name string, r *rand.Rand) (stop, happened chan struct{}) {
	stop, happened = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(happened)
		<-time.After(time.Duration(100+r.IntN(300)) * time.Millisecond)
		if name == killGateway {
			close(stop)
			c.gateway.kill(c.t)
			c.startGateway()
			return
		}
		clusterEvents[name](c, r)
		close(stop)
	}()
	return stop, happened
}

// said is what the processes that run have logged.
func (c *cluster) said() string {
	out := "gateway: " + c.gateway.said()
	for i, w := range c.workers {
		out += fmt.Sprintf("\nworker %d: %s", i, w.said())
	}
	return out
}

// TestEngineWorkersOnCassandra has workers killed, frozen and stopped under load, and their directories lost, and checks
// everything that anyone was told: the broker is a stand-in, Cassandra is real.
func TestEngineWorkersOnCassandra(t *testing.T) {
	enginetest.Need(t, "HEADWATER_TEST_CASSANDRA", "cassandra")
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	workersRounds(t, newCluster(t, strings.Join(k.ListenAddrs(), ","), 3, 1500*time.Millisecond))
}

// TestEngineWorkersOnKafka is TestEngineWorkersOnCassandra with a real broker.
func TestEngineWorkersOnKafka(t *testing.T) {
	workersRounds(t, newCluster(t, kafka(t), 2, 6*time.Second))
}

func workersRounds(t *testing.T, cl *cluster) {
	seed, r := seedOf(t)
	rounds := 1
	if long() {
		rounds = 20
	}
	b := &book{outages: true}
	var open, again, events int
	for round := range rounds * len(eventNames) {
		name := eventNames[round%len(eventNames)]
		c := connect(t, cl.gateway.grpc)
		l := &load{book: b, round: round, ids: 12, keys: 16, kvName: spreadKV, logName: spreadLog}
		stop, happened := cl.happens(name, r)
		l.run(c, seed, 6, stop)
		<-happened
		c.close()
		events++
		if err := b.err(); err != nil {
			t.Fatalf("round %d, %s: %v", round, name, err)
		}
		c = connect(t, cl.gateway.grpc)
		cl.settled(func() error { return applied(c, spreadKV) })
		open += len(b.open())
		err := b.settle(c)
		if err == nil {
			sample := b.sample(r, 60)
			again += len(sample)
			err = b.again(c, sample)
		}
		if err == nil {
			err = b.verify(c, l.kvName, l.logName)
		}
		if err != nil {
			t.Fatalf("round %d, %s: %v\n%s", round, name, err, cl.said())
		}
		c.close()
		t.Logf("%s: %d writes so far", name, len(b.writes))
	}
	t.Logf("%d events, %d writes, %d of unknown outcome, %d sent again; answers: %d unknown, %d acknowledged (%d perhaps as copies), %d refused, %d not applied",
		events, len(b.writes), open, again, b.counts[unknown], b.counts[acked], b.maybe, b.counts[refused], b.counts[notApplied])
	mustHave(t, b.counts[acked] >= 100*rounds && b.counts[refused] > 0, "refused write, or fewer than 100 a round")
}

// TestEngineCountersOverWorkers is TestEngineWorkersOnCassandra of counters that are published to Cassandra.
func TestEngineCountersOverWorkers(t *testing.T) {
	enginetest.Need(t, "HEADWATER_TEST_CASSANDRA", "cassandra")
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	cl := newCluster(t, strings.Join(k.ListenAddrs(), ","), 3, 1500*time.Millisecond)
	seed, r := seedOf(t)
	rounds := 1
	if long() {
		rounds = 20
	}
	began := time.Now()
	b := &ledger{outages: true}
	spaces := []string{exactSpace, boundSpace}
	var open, again int
	for round := range rounds * len(eventNames) {
		name := eventNames[round%len(eventNames)]
		c := connect(t, cl.gateway.grpc)
		l := &tallies{ledger: b, round: round, counters: 12, spaces: spaces}
		stop, happened := cl.happens(name, r)
		l.run(c, seed, 6, stop)
		<-happened
		c.close()
		if err := b.err(); err != nil {
			t.Fatalf("round %d, %s: %v", round, name, err)
		}
		c = connect(t, cl.gateway.grpc)
		cl.settled(func() error { return countersApplied(c, spaces) })
		open += len(b.open())
		err := b.settle(c)
		if err == nil {
			sample := b.sample(r, 60)
			again += len(sample)
			err = b.again(c, sample)
		}
		if err == nil {
			err = b.verifyAll(c, spaces, began)
		}
		if err != nil {
			t.Fatalf("round %d, %s: %v\n%s", round, name, err, cl.said())
		}
		c.close()
		t.Logf("%s: %d calls so far", name, len(b.calls))
	}
	t.Logf("%d calls, %d of unknown outcome, %d sent again; answers: %d unknown, %d acknowledged (%d perhaps as copies), %d refused, %d not applied",
		len(b.calls), open, again, b.counts[unknown], b.counts[acked], b.maybe, b.counts[refused], b.counts[notApplied])
	mustHave(t, b.counts[acked] >= 100*rounds && b.counts[refused] > 0, "refused call, or fewer than 100 a round")
}

// countersApplied returns when everything that the logs of counter namespaces have is applied.
func countersApplied(c *conn, spaces []string) error {
	ctx, cancel := callContext()
	defer cancel()
	for _, ns := range spaces {
		_, err := c.counters().ListCounts(ctx, &headwaterv1.ListCountsRequest{Namespace: ns, Accuracy: headwaterv1.Count_ACCURATE})
		if err != nil {
			return err
		}
	}
	return nil
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
