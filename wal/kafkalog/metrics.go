package kafkalog

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	appendSeconds prometheus.Histogram
	bytes         prometheus.Gauge
	unheard       prometheus.Counter
	clockAhead    prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		appendSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "headwater_log_append_seconds",
			Help:    "Time from the call of a durable append until every entry's outcome was known.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 18),
		}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headwater_log_bytes",
			Help: "Size of the open topics on disk, one replica of each partition. Refreshed every 10 s.",
		}),
		unheard: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "headwater_log_unheard_failures_total",
			Help: "Records that the log did not acknowledge after their append had been answered: buffered ones, and ones whose outcome was told as unknown.",
		}),
		clockAhead: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headwater_clock_ahead_seconds",
			Help: "How far this machine's clock was ahead of the brokers' at the last look, at least; below 0 it is behind.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	var err error
	if m.appendSeconds, err = register(reg, m.appendSeconds); err != nil {
		return nil, err
	}
	if m.bytes, err = register(reg, m.bytes); err != nil {
		return nil, err
	}
	if m.clockAhead, err = register(reg, m.clockAhead); err != nil {
		return nil, err
	}
	m.unheard, err = register(reg, m.unheard)
	return m, err
}

// register returns c, or the collector of the same description that reg has
// already: two brokers of one process count together.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if have, ok := already.ExistingCollector.(C); ok {
			return have, nil
		}
	}
	if err != nil {
		return c, fmt.Errorf("register metric: %w", err)
	}
	return c, nil
}
