package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-db/headwater/wal"
)

// spaceMetrics collects what a scrape asks of the open namespaces, when it asks.
type spaceMetrics struct {
	s                                                            *Server
	lagRecords, lagSeconds, parked, tokens, version, trimSeconds *prometheus.Desc
}

func newSpaceMetrics(s *Server) *spaceMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &spaceMetrics{
		s:           s,
		lagRecords:  d("headwater_apply_lag_records", "Records in the log that a store has not applied.", "namespace", "role"),
		lagSeconds:  d("headwater_apply_lag_seconds", "Age of the last applied record while others wait; 0 when nothing waits.", "namespace", "role"),
		parked:      d("headwater_parked_keys", "Keys with a record that cannot be applied. Each waits for `headwater dlq`.", "namespace"),
		tokens:      d("headwater_tokens_live", "Idempotency tokens that are remembered. At tokens.max_live writes are shed.", "namespace"),
		version:     d("headwater_namespace_version", "Version of the namespace's configuration in force in this process.", "namespace"),
		trimSeconds: d("headwater_log_trim_blocked_seconds", "How long a role's store or a parked record has kept the log from being trimmed. What passes by itself, the retention and the token window, does not count.", "namespace", "role"),
	}
}

func (m *spaceMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.lagRecords, m.lagSeconds, m.parked, m.tokens, m.version, m.trimSeconds} {
		ch <- d
	}
}

func (m *spaceMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, n := range m.s.spaces.dir.All() {
		gauge(m.version, float64(n.Config().Version), n.Name)
		if n.Stream == nil {
			continue
		}
		var lag, parked int64
		var age float64
		for i := range n.Stream.Info().Partitions {
			p := wal.Partition(i)
			if n.Applier != nil {
				k, _ := n.Applier.ParkedKeys(p)
				parked += int64(k)
			}
			b, err := n.Stream.Log().Bounds(ctx, p)
			if err != nil {
				continue // the log's own metrics and health tell
			}
			g := n.Stream.Progress()
			if behind := int64(b.End - 1 - g.Applied(p)); behind > 0 {
				lag += behind
				age = max(age, m.s.broker.Now().Sub(time.UnixMicro(g.LogTime(p))).Seconds())
			}
		}
		gauge(m.lagRecords, float64(lag), n.Name, primary)
		gauge(m.lagSeconds, age, n.Name, primary)
		gauge(m.parked, float64(parked), n.Name)
		gauge(m.tokens, float64(m.s.spaces.liveTokens(ctx, n.Name)), n.Name)
		gauge(m.trimSeconds, m.s.spaces.trimBlockedSeconds(n.Name), n.Name, primary)
	}
}

// liveTokens asks a namespace's store or message log.
func (sp *spaces) liveTokens(ctx context.Context, name string) int64 {
	sp.mu.Lock()
	x := sp.open[name]
	sp.mu.Unlock()
	switch {
	case x == nil:
		return 0
	case x.backend != nil:
		n, err := x.backend.tokens(ctx)
		if err != nil {
			return 0 // the store is closing
		}
		return n
	case x.ns.Messages != nil:
		return x.ns.Messages.Live()
	}
	return 0
}

// trimBlockedSeconds is how long a store or a parked record has kept a partition of
// the namespace from being trimmed.
func (sp *spaces) trimBlockedSeconds(name string) float64 {
	sp.mu.Lock()
	x := sp.open[name]
	sp.mu.Unlock()
	if x == nil {
		return 0
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	longest := 0.0
	for i := range x.upkeep {
		if since := x.upkeep[i].since; !since.IsZero() {
			longest = max(longest, time.Since(since).Seconds())
		}
	}
	return longest
}

// newLetterCount registers headwater_dead_letters_total.
func newLetterCount(reg prometheus.Registerer) func(reason string) {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "headwater_dead_letters_total",
		Help: "Records that were refused after the log or parked, by reason. Any rise deserves a look at `headwater dlq list`.",
	}, []string{"reason"})
	reg.MustRegister(v)
	return func(reason string) { v.WithLabelValues(reason).Inc() }
}
