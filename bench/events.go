package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
)

const (
	tripsDocument = "namespace: trips\nabstraction: timeseries\ntimeseries: { index: [origin] }\n"
	tripsCall     = 1_000
	// smallSeries is the series that one of h.largeLog events is compared with.
	smallSeries = 100_000
)

// trips is a namespace of events.
type trips struct {
	h    *harness
	s    *child
	c    *client.Client
	dir  string
	peer driver.Conn // nil: no ClickHouse
}

// events measures B6 and B8 of time series on the embedded store, and what ClickHouse does with the
// same batches where HEADWATER_TEST_CLICKHOUSE_NATIVE names one.
func events(ctx context.Context, h *harness) error {
	x := &trips{h: h, dir: filepath.Join(h.data, "trips")}
	var err error
	if x.s, x.c, err = h.served(ctx, x.dir); err != nil {
		return err
	}
	if _, err = x.c.Namespaces().Apply(ctx, tripsDocument, client.ApplyOptions{}); err == nil {
		err = x.measure(ctx)
	}
	if x.peer != nil {
		err = errors.Join(err, x.peer.Exec(ctx, "DROP TABLE IF EXISTS "+peerTrips), x.peer.Close())
	}
	return errors.Join(err, x.c.Close(), x.s.stop(), os.RemoveAll(x.dir))
}

func (x *trips) measure(ctx context.Context) error {
	if err := x.connect(ctx); err != nil {
		return err
	}
	if err := x.ingest(ctx); err != nil {
		return err
	}
	if err := x.newest(ctx); err != nil {
		return err
	}
	if err := x.aggregates(ctx); err != nil {
		return err
	}
	return x.restarted(ctx)
}

const peerTrips = "bench_trips"

// connect makes the peer's table, which syncs each block.
func (x *trips) connect(ctx context.Context) error {
	dsn := os.Getenv("HEADWATER_TEST_CLICKHOUSE_NATIVE")
	if dsn == "" {
		x.h.note("events: HEADWATER_TEST_CLICKHOUSE_NATIVE is not set, so there is no peer")
		return nil
	}
	var err error
	if x.peer, err = dialClickHouse(dsn); err != nil {
		return err
	}
	return errors.Join(x.peer.Exec(ctx, "DROP TABLE IF EXISTS "+peerTrips), x.peer.Exec(ctx, "CREATE TABLE "+peerTrips+
		" (series String, time DateTime64(6), id String, delay Int64, distance Float64, origin LowCardinality(String), note String)"+
		" ENGINE = MergeTree ORDER BY (series, time) SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"))
}

// dialClickHouse connects as Headwater does.
func dialClickHouse(dsn string) (driver.Conn, error) {
	o, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	return clickhouse.Open(o)
}

// ingest writes events in calls of 1,000.
func (x *trips) ingest(ctx context.Context) error {
	var last *benchload.Report
	subject := x.h.load(x.s, x.c, benchload.Options{Workload: "ts-write", Namespace: "trips", BatchItems: tripsCall, Duration: x.h.duration}, &last)
	var peer *side
	if x.peer != nil {
		peer = &side{"clickhouse-go, fsynced", x.insert}
	}
	const what = "B6: events of 200 B, 4 items, one of them indexed, 1,000 in a call, 8 callers, durable"
	if err := x.h.compare(ctx, what, "events/s", &bar{limit: 300_000, atLeast: true, absolute: true}, subject, peer, "client and server on the same cores"); err != nil {
		return err
	}
	x.h.note("ts-write: latency of the last turn: p50 %s, p99 %s, p99.9 %s", last.P50, last.P99, last.P999)
	began := time.Now()
	if _, err := x.c.TimeSeries("trips").Aggregate(ctx, client.AggregateOptions{
		Start: time.Unix(0, 0), End: time.Unix(1, 0), Aggregations: []*headwaterv1.EventAggregation{{Name: "n", Op: headwaterv1.EventAggregation_COUNT}}, Consistency: client.Latest,
	}); err != nil {
		return err
	}
	x.h.add("B6: applied after the last acknowledgement", "ms", &bar{limit: 2000, absolute: true}, "wait", "", []turn{{subject: float64(time.Since(began).Milliseconds())}}, "")
	return nil
}

// insert is the peer's side: one batch after the other, as its engine takes them.
func (x *trips) insert(ctx context.Context, round int) (float64, error) {
	n, began := 0, time.Now()
	for time.Since(began) < x.h.duration {
		b, err := x.peer.PrepareBatch(ctx, "INSERT INTO "+peerTrips)
		if err != nil {
			return 0, err
		}
		for i := range tripsCall {
			err = errors.Join(err, b.Append(fmt.Sprint("s", (n+i)*7919%100_000), time.Now(), fmt.Sprint(round, "-", n+i), int64(i%240), float64(i), fmt.Sprint("A", i%300), noteBytes))
		}
		if err = errors.Join(err, b.Send()); err != nil {
			return 0, err
		}
		n += tripsCall
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

var noteBytes = fmt.Sprintf("%0100d", 0)

// newest reads the newest 100 events of a small and of a large series.
func (x *trips) newest(ctx context.Context) error {
	p99 := make(map[int]float64)
	for _, n := range []int{smallSeries, x.h.largeLog} {
		rep, err := benchload.Run(ctx, x.c, benchload.Options{Workload: "ts-read", Namespace: "trips", Callers: 1, Records: n, Duration: x.h.duration})
		if err != nil {
			return err
		}
		for e, n := range rep.Errors {
			return fmt.Errorf("%d reads failed: %s", n, e)
		}
		p99[n] = float64(rep.P99)
		x.h.note("newest 100 of %d events, one caller: p50 %s, p99 %s", n, rep.P50, rep.P99)
	}
	x.h.add(fmt.Sprintf("B6: p99 of the newest 100 of %d events", x.h.largeLog), "ms", &bar{limit: 5, absolute: true}, "read", "", []turn{{subject: p99[x.h.largeLog]}}, "one caller")
	x.h.add("B8: p99 of the newest 100", "ms", atMost(1.5), fmt.Sprintf("of %d", x.h.largeLog), "of 100 k", []turn{{subject: p99[x.h.largeLog], peer: p99[smallSeries]}}, "one caller")
	return nil
}

// aggregates looks at all events, which are h.largeLog and more.
func (x *trips) aggregates(ctx context.Context) error {
	mib, err := x.s.resident()
	if err != nil {
		return err
	}
	x.h.add("memory of the server after all these events", "MiB", &bar{limit: 1024, absolute: true}, "resident", "", []turn{{subject: mib}}, "")
	sums := []*headwaterv1.EventAggregation{{Name: "n", Op: headwaterv1.EventAggregation_COUNT}, {Name: "delay", Op: headwaterv1.EventAggregation_SUM, Key: "delay"}}
	for _, v := range []struct {
		name string
		o    client.AggregateOptions
	}{
		{"sum and count by hour", client.AggregateOptions{Bucket: time.Hour}},
		{"sum and count by origin", client.AggregateOptions{GroupBy: []string{"origin"}}},
		{"sum and count of one origin", client.AggregateOptions{Query: &headwaterv1.EventQuery{
			Equals: &headwaterv1.EventEquals{Key: "origin", Value: &headwaterv1.EventValue{Value: &headwaterv1.EventValue_String_{String_: "A7"}}},
		}}},
	} {
		o := v.o
		o.Start, o.End, o.Aggregations = time.Now().Add(-400*24*time.Hour), time.Now().Add(time.Hour), sums
		counted := 0.0
		subject := side{"aggregate", func(ctx context.Context, _ int) (float64, error) {
			began := time.Now()
			res, err := x.c.TimeSeries("trips").Aggregate(ctx, o)
			counted = 0
			for i := range res.Groups {
				counted += res.Groups[i].Values["n"]
			}
			return time.Since(began).Seconds(), err
		}}
		if err := x.h.compare(ctx, "aggregates: "+v.name, "s", &bar{limit: 2, absolute: true}, subject, nil, ""); err != nil {
			return err
		}
		x.h.note("%s: %.0f events", v.name, counted)
	}
	return nil
}

// restarted kills the server and starts it again.
func (x *trips) restarted(ctx context.Context) error {
	if err := errors.Join(x.c.Close(), x.s.kill()); err != nil {
		return err
	}
	var err error
	if x.s, err = x.h.serve(ctx, x.dir); err != nil {
		return err
	}
	took, err := x.s.ready(ctx)
	if err != nil {
		return err
	}
	mib, err := x.s.resident()
	if err != nil {
		return err
	}
	x.h.note("resident after the restart: %.0f MiB", mib)
	x.h.add("B8: restart after kill -9 with all these events", "ms", &bar{limit: 1000, absolute: true}, "ready", "", []turn{{subject: float64(took.Milliseconds())}}, "")
	x.c, err = client.Dial(x.s.grpc, client.Config{})
	return err
}
