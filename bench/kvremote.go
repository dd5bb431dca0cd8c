package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gocql/gocql"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/kv/cassandrakv"
)

const (
	farKeyspace = "headwater_bench"
	farKV       = "namespace: far-kv\nabstraction: kv\nstorage: [{ role: PRIMARY, type: cassandra, cluster: main }, { role: CACHE, type: pebble }]\n"
	farCallers  = 64
	farValue    = 100 // bytes
	farRecords  = 10_000
	peerWrite   = "UPDATE " + farKeyspace + ".peer USING TIMESTAMP ? SET cell = ? WHERE dataset = 'peer' AND id = ? AND key = ?"
	peerRead    = "SELECT cell, WRITETIME(cell) FROM " + farKeyspace + ".peer WHERE dataset = 'peer' AND id = ? AND key = ?"
)

// kvRemote measures B7 for key-value: puts through Headwater until Cassandra has them, against gocql writing
// the same rows by as many callers; and reads that the cache answers, against gocql's.
func kvRemote(ctx context.Context, h *harness) (err error) {
	at := os.Getenv("HEADWATER_TEST_CASSANDRA")
	if at == "" {
		h.note("kv-cassandra: HEADWATER_TEST_CASSANDRA is not set; run `go run ./deploy/engines up cassandra`, then `. ./.engines/env`")
		return nil
	}
	config := filepath.Join(h.data, "far-kv.yaml")
	text := fmt.Sprintf("clusters:\n  main: { type: cassandra, hosts: ['%s'], keyspace: %s, replication: { datacenter1: 1 } }\n", at, farKeyspace)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	peer, err := dialCassandra(at)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, peer.Query("DROP KEYSPACE IF EXISTS "+farKeyspace).Exec())
		peer.Close()
	}()
	cluster, err := cassandrastore.Connect(cassandrastore.ClusterConfig{Name: "main", Hosts: []string{at}, Keyspace: farKeyspace, Replication: map[string]int{"datacenter1": 1}}, cassandrakv.Tables...)
	if err != nil {
		return err
	}
	if err := errors.Join(cluster.ApplySchema(ctx), cluster.Close(), preparePeer(ctx, peer)); err != nil {
		return err
	}
	dir := filepath.Join(h.data, "far-kv")
	s, c, err := h.served(ctx, dir, "--config", config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop(), os.RemoveAll(dir)) }()
	if _, err := c.Namespaces().Apply(ctx, farKV, client.ApplyOptions{}); err != nil {
		return err
	}
	var last *benchload.Report
	options := func(workload string) benchload.Options {
		return benchload.Options{Workload: workload, Namespace: "far-kv", Callers: farCallers, ValueBytes: farValue, Records: farRecords, Duration: h.duration}
	}
	puts := h.load(s, c, options("kv-put"), &last)
	subject := side{"Headwater", func(ctx context.Context, round int) (float64, error) {
		began := time.Now()
		if _, err := puts.run(ctx, round); err != nil {
			return 0, err
		}
		for i := range 32 { // in every partition: it is answered when all is applied
			if _, err := c.KV("far-kv").Page(ctx, fmt.Sprint("none", i), client.ReadOptions{Consistency: client.Latest}, ""); err != nil {
				return 0, err
			}
		}
		return float64(last.Items) / time.Since(began).Seconds(), nil
	}}
	direct := side{"gocql", func(ctx context.Context, round int) (float64, error) {
		return hammer(ctx, h.duration, func(r *rand.Rand, n int64) error {
			value := make([]byte, farValue)
			return peer.Query(peerWrite, time.Now().UnixMicro(), value, fmt.Sprint(round, "-", n), "k").WithContext(ctx).Exec()
		})
	}}
	if err := h.compare(ctx, "B7: puts of 100 B, one each, by 64 callers, until Cassandra has them", "puts/s", atLeast(0.8), subject, &direct,
		"one node, one copy; client, server and Cassandra on the same cores"); err != nil {
		return err
	}
	far, value := c.KV("far-kv"), make([]byte, farValue)
	for i := range farRecords {
		if _, err := far.Put(ctx, fmt.Sprint("r", i), "k", value); err != nil {
			return err
		}
	}
	hits := side{"Headwater", func(ctx context.Context, _ int) (float64, error) {
		return hammer(ctx, h.duration, func(r *rand.Rand, _ int64) error {
			_, err := far.Get(ctx, fmt.Sprint("r", r.IntN(farRecords)), "k")
			return err
		})
	}}
	read := side{"gocql", func(ctx context.Context, _ int) (float64, error) {
		return hammer(ctx, h.duration, func(r *rand.Rand, _ int64) error {
			var cell []byte
			var time int64
			return peer.Query(peerRead, fmt.Sprint("r", r.IntN(farRecords)), "k").WithContext(ctx).Scan(&cell, &time)
		})
	}}
	return h.compare(ctx, "reads of an item that the cache has, by 64 callers", "reads/s", atLeast(2), hits, &read, "a half of gocql's median latency is twice its rate at as many callers")
}

func dialCassandra(at string) (*gocql.Session, error) {
	cfg := gocql.NewCluster(at)
	cfg.Timeout, cfg.ProtoVersion, cfg.DefaultTimestamp = 30*time.Second, 4, false
	cfg.Consistency = gocql.LocalQuorum
	return cfg.CreateSession()
}

// preparePeer makes a table of the layout of Headwater's, with the records that are read.
func preparePeer(ctx context.Context, peer *gocql.Session) error {
	err := peer.Query("CREATE TABLE " + farKeyspace + ".peer (dataset text, id text, key text, cell blob, PRIMARY KEY ((dataset, id), key)) " +
		"WITH compaction = {'class': 'LeveledCompactionStrategy'} AND read_repair = 'BLOCKING'").WithContext(ctx).Exec()
	for i := 0; err == nil && i < farRecords; i++ {
		err = peer.Query(peerWrite, int64(1), make([]byte, farValue), fmt.Sprint("r", i), "k").WithContext(ctx).Exec()
	}
	return err
}

// hammer has farCallers callers call f for a while, and returns how often a second.
func hammer(ctx context.Context, d time.Duration, f func(r *rand.Rand, n int64) error) (float64, error) {
	var wg sync.WaitGroup
	counts, errs := make([]int64, farCallers), make([]error, farCallers)
	began := time.Now()
	for i := range farCallers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // a load needs no secret
			for time.Since(began) < d && ctx.Err() == nil && errs[i] == nil {
				errs[i] = f(r, int64(i)<<32|counts[i])
				counts[i]++
			}
		})
	}
	wg.Wait()
	var n int64
	for _, k := range counts {
		n += k
	}
	return float64(n) / time.Since(began).Seconds(), errors.Join(slices.Clone(errs)...)
}
