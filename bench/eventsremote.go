package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/timeseries/clickhousets"
)

const (
	remoteDocument = "namespace: far\nabstraction: timeseries\nstorage: [{ role: PRIMARY, type: clickhouse, cluster: main }]\n"
	remotePeer     = "bench_far"
)

// eventsRemote measures B7: events through Headwater until ClickHouse has them, against
// clickhouse-go inserting the same rows, in batches as large as the calls, into a table of the
// same layout.
func eventsRemote(ctx context.Context, h *harness) (err error) {
	dsn := os.Getenv("HEADWATER_TEST_CLICKHOUSE_NATIVE")
	if dsn == "" {
		h.note("events-clickhouse: HEADWATER_TEST_CLICKHOUSE_NATIVE is not set; run `go run ./deploy/engines up clickhouse`, then `. ./.engines/env`")
		return nil
	}
	config := filepath.Join(h.data, "far.yaml")
	if err := os.WriteFile(config, []byte("clusters:\n  main: { type: clickhouse, url: '"+dsn+"' }\n"), 0o600); err != nil {
		return err
	}
	dir := filepath.Join(h.data, "far")
	s, c, err := h.served(ctx, dir, "--config", config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop(), os.RemoveAll(dir)) }()
	if _, err := c.Namespaces().Apply(ctx, remoteDocument, client.ApplyOptions{}); err != nil {
		return err
	}
	conn, err := dialClickHouse(dsn)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, conn.Exec(ctx, "DROP TABLE IF EXISTS "+remotePeer), conn.Close())
	}()
	cluster, err := clickhousestore.Connect(clickhousestore.ClusterConfig{Name: "main", URL: dsn}, clickhousets.Table)
	if err != nil {
		return err
	}
	if err := errors.Join(cluster.ApplySchema(ctx), cluster.Close(), conn.Exec(ctx, "DROP TABLE IF EXISTS "+remotePeer), conn.Exec(ctx, "CREATE TABLE "+remotePeer+" AS "+clickhousets.Table.Name)); err != nil {
		return err
	}
	var last *benchload.Report
	load := h.load(s, c, benchload.Options{Workload: "ts-write", Namespace: "far", BatchItems: tripsCall, Duration: h.duration}, &last)
	subject := side{"Headwater", func(ctx context.Context, round int) (float64, error) {
		began := time.Now()
		if _, err := load.run(ctx, round); err != nil {
			return 0, err
		}
		for _, err := range c.TimeSeries("far").List(ctx, client.ListSeriesOptions{Prefix: "none", Consistency: client.Latest}) {
			return 0, err // of a list that is empty there is none
		}
		return float64(last.Items) / time.Since(began).Seconds(), nil
	}}
	peer := side{"clickhouse-go", func(ctx context.Context, round int) (float64, error) { return insertSame(ctx, conn, round, h.duration) }}
	return h.compare(ctx, "B7: events of 200 B, 4 items, 1,000 in a call, until ClickHouse has them", "events/s", atLeast(0.8), subject, &peer,
		"the same table, synced blocks; client, server and ClickHouse on the same cores")
}

// insertSame inserts rows as Headwater lays them out.
func insertSame(ctx context.Context, conn driver.Conn, round int, d time.Duration) (float64, error) {
	n, began := 0, time.Now()
	for time.Since(began) < d {
		b, err := conn.PrepareBatch(ctx, "INSERT INTO "+remotePeer+" (store, dataset, part, slice, series, age, id, decided, record, idx, ints, doubles, strings, blobs, bytes)")
		if err != nil {
			return 0, err
		}
		now := time.Now().UnixMicro()
		for i := range tripsCall {
			err = errors.Join(err, b.Append("peer", "peer", uint32(n/tripsCall%4), int64(0), fmt.Sprint("s", (n+i)*7919%100_000), -now, fmt.Sprint(round, "-", n+i), int64(n), int64(n), uint32(i),
				map[string]int64{"delay": int64(i % 240)}, map[string]float64{"distance": float64(i)}, map[string]string{"origin": fmt.Sprint("A", i%300), "note": noteBytes}, map[string]string{}, uint32(160)))
		}
		if err = errors.Join(err, b.Send()); err != nil {
			return 0, err
		}
		n += tripsCall
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
