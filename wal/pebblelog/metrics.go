package pebblelog

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	append, fsync prometheus.Histogram
	bytes, free   prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	latency := prometheus.ExponentialBuckets(20e-6, 2, 18) // 20 us to 2.6 s
	m := &metrics{
		append: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headwater_log_append_seconds", Buckets: latency,
			Help: "Time of a durable append as its caller sees it: queue, write and sync. Far above headwater_log_fsync_seconds, the queue is the wait."}),
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "headwater_log_fsync_seconds", Buckets: latency,
			Help: "Time from handing a group of appends to the disk until it is synced. When it rises, the disk is slow."}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "headwater_log_bytes",
			Help: "Size of the embedded log on disk in bytes, trimmed records that are not yet freed included."}),
		free: prometheus.NewGauge(prometheus.GaugeOpts{Name: "headwater_disk_free_bytes",
			Help: "Bytes free on the log's disk. At the floor, writes are refused until space returns."}),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.append, m.fsync, m.bytes, m.free} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register log metrics: %w", err)
	}
	return m, nil
}
