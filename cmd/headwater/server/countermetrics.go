package server

import (
	"github.com/prometheus/client_golang/prometheus"
)

// counterMetrics collects what a scrape asks of the counter namespaces.
type counterMetrics struct {
	s                                   *Server
	drift, verified, decisions, flushes *prometheus.Desc
}

func newCounterMetrics(s *Server) *counterMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"namespace"}, labels...), nil)
	}
	return &counterMetrics{
		s:         s,
		drift:     d("headwater_counter_drift", "What counters are off by from a recount of their events, summed over those that were when they were last recounted. 0, or a bug."),
		verified:  d("headwater_counter_verified_total", "Counters recounted in the background."),
		decisions: d("headwater_counter_decisions_total", "What was decided: adds one by one, other calls by call.", "decision"),
		flushes:   d("headwater_counter_flushes_total", "Times that counts went from memory to the store."),
	}
}

func (m *counterMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.drift, m.verified, m.decisions, m.flushes} {
		ch <- d
	}
}

func (m *counterMetrics) Collect(ch chan<- prometheus.Metric) {
	for name, x := range m.s.spaces.counters() {
		count := func(d *prometheus.Desc, v int64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{name}, labels...)...)
		}
		verify := &x.front.(*counterFront).verify
		ch <- prometheus.MustNewConstMetric(m.drift, prometheus.GaugeValue, verify.drift(), name)
		count(m.verified, verify.checked.Load())
		a := x.primary().backend.(*counterBackend).applier
		st := a.Stats()
		count(m.flushes, a.Flushes())
		for decision, n := range map[string]int64{
			"applied": st.Applied.Load(), "duplicate": st.Duplicates.Load(), "conflict": st.Conflicts.Load(),
			"too_old": st.TooOld.Load(), "refused": st.Refused.Load(), "parked": st.Parked.Load(),
		} {
			count(m.decisions, n, decision)
		}
	}
}

// counters are the open counter namespaces by name.
func (sp *spaces) counters() map[string]*space {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	out := make(map[string]*space)
	for name, x := range sp.open {
		if _, ok := x.front.(*counterFront); ok && x.primary() != nil {
			out[name] = x
		}
	}
	return out
}
