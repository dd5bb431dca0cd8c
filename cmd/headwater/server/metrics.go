package server

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/wal"
)

// spaceMetrics collects what a scrape asks of the open namespaces, when it asks.
type spaceMetrics struct {
	s                                                                                   *Server
	lagRecords, lagSeconds, parked, tokens, version, trimSeconds, left, conflicts, wide *prometheus.Desc

	cacheRequests, cacheBytes, cacheEvicted *prometheus.Desc

	overdue, failing *prometheus.Desc
}

func newSpaceMetrics(s *Server) *spaceMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &spaceMetrics{
		s:           s,
		lagRecords:  d("headwater_apply_lag_records", "Records in the log that a store has not applied.", "namespace", "role"),
		lagSeconds:  d("headwater_apply_lag_seconds", "Time since the oldest record that a store has not applied was appended; 0 when nothing waits.", "namespace", "role"),
		parked:      d("headwater_parked_keys", "Keys with a record that cannot be applied. Each waits for `headwater dlq`.", "namespace"),
		tokens:      d("headwater_tokens_live", "Idempotency tokens that are remembered. At tokens.max_live writes are shed.", "namespace"),
		version:     d("headwater_namespace_version", "Version of the namespace's configuration in force in this process.", "namespace"),
		trimSeconds: d("headwater_log_trim_blocked_seconds", "How long a role's store or a parked record has kept the log from being trimmed. What passes by itself, the retention and the token window, does not count.", "namespace", "role"),
		left:        d("headwater_dead_letters_trimmed_total", "Records whose dead letters have left by dead_letters.retention or max_bytes, ever.", "namespace"),
		conflicts:   d("headwater_ts_conflicts_total", "Events that came with another value of an item that they had, which changed nothing, since the PRIMARY was opened.", "namespace"),
		wide:        d("headwater_ts_wide_pages_total", "Pages of events that ended in a slice in which their series has more than 64 MiB.", "namespace"),

		cacheRequests: d("headwater_cache_requests_total", "Reads of a namespace with a CACHE: hit needed no query of the other server, miss did, unkept is a miss whose answer was not kept because a write came meanwhile.", "namespace", "result"),
		cacheBytes:    d("headwater_cache_bytes", "What the CACHE of a namespace holds, about.", "namespace"),
		overdue:       d("headwater_delivery_overdue_seconds", "How long ago the oldest message was due that a target has not; 0 when none is.", "namespace", "target"),
		failing:       d("headwater_delivery_failing", "Attempts at a target that have failed in a row.", "namespace", "target"),

		cacheEvicted: d("headwater_cache_evicted_total", "Records that left the CACHE of a namespace for want of room or by its ttl.", "namespace"),
	}
}

func (m *spaceMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.lagRecords, m.lagSeconds, m.parked, m.tokens, m.version, m.trimSeconds, m.left, m.conflicts, m.wide, m.cacheRequests, m.cacheBytes, m.cacheEvicted, m.overdue, m.failing} {
		ch <- d
	}
}

func (m *spaceMetrics) Collect(ch chan<- prometheus.Metric) {
	now := m.s.broker.Now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for name, sender := range m.s.spaces.delivering() {
		for _, l := range sender.States(context.Background()) {
			gauge(m.overdue, max(l.Overdue, 0).Seconds(), name, l.Target)
			gauge(m.failing, float64(l.Failed), name, l.Target)
		}
	}
	for _, n := range m.s.spaces.dir.All() {
		gauge(m.version, float64(n.Config().Version), n.Name)
		if n.Stream == nil {
			continue
		}
		for role, l := range lagByRole(n, now) {
			gauge(m.lagRecords, float64(l.Records), n.Name, role)
			gauge(m.lagSeconds, l.Time.Seconds(), n.Name, role)
		}
		if n.TimeSeries != nil {
			ch <- prometheus.MustNewConstMetric(m.wide, prometheus.CounterValue, float64(n.TimeSeries.WidePages()), n.Name)
		}
		if !m.s.cfg.Role.applies() { // the rest is counted once, by the worker
			continue
		}
		var parked int64
		for i := range n.Stream.Info().Partitions {
			p := wal.Partition(i)
			if n.Applier != nil {
				k, _ := n.Applier.ParkedKeys(p)
				parked += int64(k)
			}
		}
		gauge(m.parked, float64(parked), n.Name)
		gauge(m.tokens, float64(m.s.spaces.liveTokens(context.Background(), n.Name)), n.Name)
		if n.Applier != nil {
			ch <- prometheus.MustNewConstMetric(m.left, prometheus.CounterValue, float64(n.Letters.Trimmed()), n.Name)
		}
		if events, ok := m.s.spaces.conflicts(n.Name); ok {
			ch <- prometheus.MustNewConstMetric(m.conflicts, prometheus.CounterValue, float64(events), n.Name)
		}
		if c, ok := m.s.spaces.cacheStats(n.Name); ok && c.On {
			count := func(d *prometheus.Desc, v int64, labels ...string) {
				ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{n.Name}, labels...)...)
			}
			count(m.cacheRequests, c.Hits, "hit")
			count(m.cacheRequests, c.Misses, "miss")
			count(m.cacheRequests, c.Unkept, "unkept")
			count(m.cacheEvicted, c.Evicted)
			gauge(m.cacheBytes, float64(c.Bytes), n.Name)
		}
		for role, seconds := range m.s.spaces.trimBlockedSeconds(n) {
			gauge(m.trimSeconds, seconds, n.Name, role)
		}
	}
}

// lagByRole is how far the stores of each role are behind: the worst of each. A store
// that is given up counts as none.
func lagByRole(n *gateway.Namespace, now time.Time) map[string]wal.Lag {
	lags := make(map[string]wal.Lag)
	for _, v := range n.Views() {
		if v.Progress == nil {
			continue
		}
		l, worst := n.StoreLag(&v, now), lags[v.Role]
		lags[v.Role] = wal.Lag{Records: max(l.Records, worst.Records), Time: max(l.Time, worst.Time)}
	}
	return lags
}

// lagLook is how often it is looked for records that wait to be applied, so that
// a metric tells since when they have.
const lagLook = 2 * time.Second

// watchLag looks at every partition until ctx is done. It asks no broker.
func (s *Server) watchLag(ctx context.Context) {
	t := time.NewTicker(lagLook)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		now := s.broker.Now()
		for _, x := range s.spaces.opened() {
			for i := range x.ns.Stream.Info().Partitions {
				x.ns.Stream.Lag(wal.Partition(i), now)
			}
			lagByRole(x.ns, now)
		}
	}
}

// liveTokens asks a namespace's stores.
func (sp *spaces) liveTokens(ctx context.Context, name string) int64 {
	sp.mu.Lock()
	x := sp.open[name]
	sp.mu.Unlock()
	if x == nil {
		return 0
	}
	return x.liveTokens()
}

// conflicts asks the PRIMARY of a time-series namespace; ok is false of any other.
func (sp *spaces) conflicts(name string) (events int64, ok bool) {
	sp.mu.Lock()
	x := sp.open[name]
	sp.mu.Unlock()
	if x == nil {
		return 0, false
	}
	st := x.primary()
	if st == nil {
		return 0, false
	}
	b, ok := st.backend.(*timeSeriesBackend)
	if !ok {
		return 0, false
	}
	return b.events.Conflicts(), true
}

// trimBlockedSeconds is how long, by role, a store or a parked record has kept a
// partition of the namespace from being trimmed.
func (sp *spaces) trimBlockedSeconds(n *gateway.Namespace) map[string]float64 {
	longest := make(map[string]float64)
	for _, v := range n.Views() {
		longest[v.Role] = 0
	}
	sp.mu.Lock()
	x := sp.open[n.Name]
	sp.mu.Unlock()
	if x == nil {
		return longest
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range x.upkeep {
		if t := &x.upkeep[i]; !t.since.IsZero() {
			longest[t.role] = max(longest[t.role], time.Since(t.since).Seconds())
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
