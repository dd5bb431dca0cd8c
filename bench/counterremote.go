package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
)

const (
	farCounters     = "namespace: far-counter\nabstraction: counter\ncounter: {accuracy: accurate}\nstorage: [{ role: PRIMARY, type: cassandra, cluster: main }]\n"
	farCounterNames = 100_000
	farAdds         = 1000 // of a call
	peerAdd         = "UPDATE " + farKeyspace + ".peer_counter SET n = n + 1 WHERE id = ?"
)

// counterRemote measures increments through a gateway to Kafka, applied by a worker that publishes them to Cassandra, against
// increments of counter columns of the same Cassandra.
func counterRemote(ctx context.Context, h *harness) (err error) {
	at, brokers := os.Getenv("HEADWATER_TEST_CASSANDRA"), os.Getenv(kafkaVariable)
	if at == "" || brokers == "" {
		h.note("counters-cassandra: HEADWATER_TEST_CASSANDRA or %s is not set; run `go run ./deploy/engines up kafka cassandra`, then `. ./.engines/env`", kafkaVariable)
		return nil
	}
	peer, err := dialCassandra(at)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, peer.Query("DROP KEYSPACE IF EXISTS "+farKeyspace).Exec())
		peer.Close()
	}()
	config := filepath.Join(h.data, "far-counters.yaml")
	text := fmt.Sprintf("log: { type: kafka, brokers: ['%s'], replication_factor: 1, allow_unsafe: true, topic_prefix: bench%d }\n", brokers, time.Now().UnixNano()) +
		fmt.Sprintf("clusters:\n  main: { type: cassandra, hosts: ['%s'], keyspace: %s, replication: { datacenter1: 1 } }\n", at, farKeyspace)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if err := h.build(ctx); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, h.binary, "schema", "apply", "--config", config).CombinedOutput(); err != nil {
		return fmt.Errorf("make the tables: %w\n%s", err, out)
	}
	if err := peer.Query("CREATE TABLE " + farKeyspace + ".peer_counter (id text PRIMARY KEY, n counter)").WithContext(ctx).Exec(); err != nil {
		return err
	}
	dir := filepath.Join(h.data, "far-counters")
	w, err := h.start(ctx, h.binary, "consume", "--config", config, "--data-dir", dir, "--internal", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.stop(), os.RemoveAll(dir)) }()
	g, err := h.start(ctx, h.binary, "gateway", "--config", config, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "warn")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.stop()) }()
	c, err := client.Dial(g.grpc, client.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.Namespaces().Apply(ctx, farCounters, client.ApplyOptions{}); err != nil {
		return err
	}
	options := benchload.Options{
		Workload: "counter-batch", Namespace: "far-counter", Callers: 8, Records: farCounterNames, BatchItems: farAdds, Duration: h.duration, Prefix: "plays/",
	}
	total := int64(0)
	subject := side{"Headwater", func(ctx context.Context, _ int) (float64, error) {
		began := time.Now()
		last, err := benchload.Run(ctx, c, options)
		if err != nil {
			return 0, err
		}
		total += last.Items
		sum, err := sumOf(ctx, c.Counter("far-counter")) // accurate: all is applied
		if err == nil && sum != total {
			err = fmt.Errorf("%d increments were acknowledged, and the counters come to %d", total, sum)
		}
		return float64(last.Items) / time.Since(began).Seconds(), err
	}}
	direct := side{"counter columns", func(ctx context.Context, _ int) (float64, error) {
		return hammer(ctx, h.duration, func(r *rand.Rand, _ int64) error {
			return peer.Query(peerAdd, fmt.Sprint("plays/", r.IntN(farCounterNames))).WithContext(ctx).Exec()
		})
	}}
	return h.compare(ctx, "increments of 100,000 counters over a gateway and a worker, in batches of 1,000, until they are all applied and counted", "increments/s", atLeast(50), subject, &direct,
		"one node, one copy, one broker; all on the same cores. The peer has 64 callers, and a timeout of its own may count twice")
}

// sumOf lists all counters and sums them.
func sumOf(ctx context.Context, n *client.Counter) (sum int64, err error) {
	for count, err := range n.List(ctx, client.ListCountsOptions{PageSize: 10_000}) {
		if err != nil {
			return 0, err
		}
		sum += count.Count.Value
	}
	return sum, nil
}
