package proof

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// TestEngineWorkersOnCassandra has workers killed, frozen and stopped under load, and their directories lost, and checks
// everything that anyone was told: the broker is a stand-in, Cassandra is real.
func TestEngineWorkersOnCassandra(t *testing.T) {
	enginetest.Need(t, "HEADWATER_TEST_CASSANDRA", "cassandra")
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	workersRounds(t, newCluster(t, clusterShape{brokers: strings.Join(k.ListenAddrs(), ","), replicas: 1, gateways: 1, workers: 3, session: 1500 * time.Millisecond}))
}

// TestEngineWorkersOnKafka is TestEngineWorkersOnCassandra with a real broker.
func TestEngineWorkersOnKafka(t *testing.T) {
	workersRounds(t, newCluster(t, clusterShape{brokers: kafka(t), replicas: 1, gateways: 1, workers: 2, session: 6 * time.Second}))
}

func workersRounds(t *testing.T, cl *cluster) {
	seed, r := seedOf(t)
	rounds := 1
	if long() {
		rounds = 20
	}
	b := &book{outages: true}
	var open, again, events int
	for round := range rounds * len(clusterEvents) {
		e := clusterEvents[round%len(clusterEvents)]
		c := cl.connect()[0]
		l := &load{book: b, round: round, ids: 12, keys: 16, kvName: spreadKV, logName: spreadLog}
		l.run(c, seed, 6, cl.happens(e, r))
		events++
		if err := b.err(); err != nil {
			t.Fatalf("round %d, %s: %v", round, e.name, err)
		}
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
			t.Fatalf("round %d, %s: %v\n%s", round, e.name, err, cl.said())
		}
		c.close()
		t.Logf("%s: %d writes so far", e.name, len(b.writes))
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
	cl := newCluster(t, clusterShape{brokers: strings.Join(k.ListenAddrs(), ","), replicas: 1, gateways: 1, workers: 3, session: 1500 * time.Millisecond})
	seed, r := seedOf(t)
	rounds := 1
	if long() {
		rounds = 20
	}
	began := time.Now()
	b := &ledger{outages: true}
	spaces := []string{exactSpace, boundSpace}
	var open, again int
	for round := range rounds * len(clusterEvents) {
		e := clusterEvents[round%len(clusterEvents)]
		c := cl.connect()[0]
		l := &tallies{ledger: b, round: round, counters: 12, spaces: spaces}
		l.run(c, seed, 6, cl.happens(e, r))
		if err := b.err(); err != nil {
			t.Fatalf("round %d, %s: %v", round, e.name, err)
		}
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
			t.Fatalf("round %d, %s: %v\n%s", round, e.name, err, cl.said())
		}
		c.close()
		t.Logf("%s: %d calls so far", e.name, len(b.calls))
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
