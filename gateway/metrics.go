package gateway

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the API. Labels never carry what a caller sent: method and reason
// come from fixed lists.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
	methods  sync.Map // of method to *methodMetrics
}

// methodMetrics are those of a method that every call of it needs: looking them
// up by label costs as much as reading an item.
type methodMetrics struct {
	seconds prometheus.Observer
	ok      prometheus.Counter
}

// of returns the metrics of a method. Only methods that are served get here, so
// their number is bounded.
func (m *metrics) of(method string) *methodMetrics {
	if mm, ok := m.methods.Load(method); ok {
		return mm.(*methodMetrics)
	}
	mm, _ := m.methods.LoadOrStore(method, &methodMetrics{
		seconds: m.seconds.WithLabelValues(method), ok: m.requests.WithLabelValues(method, "ok", ""),
	})
	return mm.(*methodMetrics)
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headwater_requests_total",
			Help: "Requests answered, by method, gRPC code and reason (HW-####, empty for OK). A rise of one reason is what to alert on.",
		}, []string{"method", "code", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "headwater_request_seconds",
			Help:    "Time from a request's arrival to its answer. Streams count from first to last message.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 14),
		}, []string{"method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "headwater_requests_in_flight",
			Help: "Requests being answered. At the limit new ones are shed with HW-1401.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.seconds, m.inFlight)
	}
	return m
}
