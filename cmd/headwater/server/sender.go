package server

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/deliverygrpc"
	"github.com/headwater-db/headwater/wal/delivery/deliveryhttp"
	"github.com/headwater-db/headwater/wal/delivery/deliverykafka"
	"github.com/headwater-db/headwater/wal/delivery/endpoint"
	"github.com/headwater-db/headwater/wal/kafkalog"
)

// newSender makes what brings the messages of the store to their targets. It has none before run.
func (b *deliveryBackend) newSender() *delivery.Sender {
	x := b.st.x
	return delivery.NewSender(delivery.SenderConfig{
		Outbox: b.pebble, Partitions: x.log.Info().Partitions,
		Ready:   func(p wal.Partition) bool { return x.ns.Ready() && x.holds(p) && x.serves(p) == b.st },
		LogTime: x.progress.LogTime, Tick: x.tick,
		Do: b.st.do, Sync: b.pebble.DB.Sync, Now: x.s.broker.Now, Logger: x.s.log.With("namespace", x.ns.Name),
		Decide: func(ctx context.Context, p wal.Partition, e *delivery.Event) error {
			_, err := x.ns.Messages.Decide(ctx, p, e)
			return err
		},
		Settled: x.ns.NoteSettled,
		ID:      func(p wal.Partition, o wal.Offset) string { return gateway.MessageID(x.entry.Incarnation, p, o) },
		Observe: func(target, outcome string, late time.Duration) {
			x.s.deliveries.attempts.WithLabelValues(x.ns.Name, target, outcome).Inc()
			if outcome == "delivered" {
				x.s.deliveries.late.WithLabelValues(x.ns.Name, target).Observe(max(late, 0).Seconds())
			}
		},
	})
}

// run brings messages to the targets of the document in force until ctx is done.
func (b *deliveryBackend) run(ctx context.Context) {
	x := b.st.x
	select { // what became of the messages is known then
	case <-x.ready:
	case <-ctx.Done():
		return
	}
	for {
		c := x.ns.Config()
		if err := b.sender.Configure(c.Version, x.lanes(c)); err != nil && ctx.Err() == nil {
			x.s.log.Error("messages cannot be delivered to every target", "namespace", x.ns.Name, "reason", err)
		}
		select {
		case <-b.reconfigure:
		case <-ctx.Done():
			return
		}
	}
}

// configured is told of a changed document.
func (b *deliveryBackend) configured() {
	select {
	case b.reconfigure <- struct{}{}:
	default:
	}
}

// halt ends the attempts that are being made, before the partitions are stopped, by which they are written down.
func (b *deliveryBackend) halt() error {
	if b.sender == nil {
		return nil
	}
	return b.sender.Close()
}

// halting is a backend that does something beside applying that is to end first.
type halting interface{ halt() error }

// breakAfter is how many attempts in a row fail before a lane makes one at a time.
const breakAfter = 10

// lanes are those of a document.
func (x *space) lanes(c *namespace.Config) (out []*delivery.LaneConfig) {
	d := &c.Delivery
	for i := range d.Targets {
		t := &d.Targets[i]
		want := laneSettings{*t, d.Retry, d.Allow}
		l := &delivery.LaneConfig{
			Name: t.Name, Timeout: t.Timeout, Concurrency: t.Concurrency, Rate: t.Rate, Breaker: breakAfter,
			Retry:    delivery.Retry{Initial: d.Retry.Initial, Multiplier: d.Retry.Multiplier, Max: d.Retry.Max, Attempts: int(d.Retry.Attempts), Age: d.Retry.Age},
			Settings: want, Same: func(was any) bool { return reflect.DeepEqual(was, want) },
			Open: func() (delivery.Receiver, error) { return x.s.receiver(&want) },
		}
		switch {
		case t.Namespace != "": // it is waited for as long as it takes: what is given up would be missing there
			l.Retry.Attempts, l.Retry.Age = 0, 0
			l.Relay = func() (delivery.Forwarders, error) { return &relays{x, t.Namespace}, nil }
		case t.Kafka.Topic != "":
			l.Relay = func() (delivery.Forwarders, error) { return x.s.kafkaTopic(&want) }
		}
		out = append(out, l)
	}
	if x.ns.Name == gateway.GroupsNamespace {
		out = append(out, x.groupLane())
	}
	return out
}

// groupLane brings groups to the namespaces that they write to, for as long as it takes.
func (x *space) groupLane() *delivery.LaneConfig {
	return &delivery.LaneConfig{
		Name: delivery.GroupTarget, Timeout: 10 * time.Second, Retry: delivery.Retry{Initial: 100 * time.Millisecond, Multiplier: 2, Max: time.Minute},
		Same: func(any) bool { return true }, Relay: func() (delivery.Forwarders, error) { return groupRelays{x}, nil },
	}
}

// groupRelays bring groups.
type groupRelays struct{ x *space }

// Forwarder implements delivery.Forwarders.
func (r groupRelays) Forwarder(wal.Partition) delivery.Forwarder {
	return gateway.NewGroupRelay(r.x.entry.Incarnation, r.x.s.spaces.outlet)
}

// Close implements delivery.Forwarders.
func (r groupRelays) Close() error { return nil }

// relays bring messages to a namespace.
type relays struct {
	x  *space
	to string
}

// Forwarder implements delivery.Forwarders.
func (r *relays) Forwarder(wal.Partition) delivery.Forwarder {
	return gateway.NewRelay(r.x.entry.Incarnation, func(ctx context.Context, newest bool) (*gateway.Namespace, error) {
		if newest {
			return r.x.s.spaces.newestOutlet(ctx, r.to)
		}
		return r.x.s.spaces.outlet(ctx, r.to)
	})
}

// Close implements delivery.Forwarders.
func (r *relays) Close() error { return nil }

// kafkaTopic opens the topic of a target.
func (s *Server) kafkaTopic(of *laneSettings) (delivery.Forwarders, error) {
	k := &of.target.Kafka
	c, ok := s.cfg.Clusters[k.Cluster]
	if !ok || c.Type != kafkaType {
		return nil, fmt.Errorf("cluster %s of type kafka: %w", k.Cluster, errNoCluster)
	}
	opts, err := c.kafkaOpts()
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", k.Cluster, err)
	}
	return deliverykafka.Open(deliverykafka.Config{Brokers: c.Brokers, Opts: opts, Topic: k.Topic})
}

// ownTopics is what the names of the topics of a log on Kafka begin with.
func (s *Server) ownTopics() string {
	if !s.shared() {
		return ""
	}
	return cmp.Or(s.cfg.TopicPrefix, kafkalog.DefaultTopicPrefix)
}

// laneSettings is all that a lane is made of.
type laneSettings struct {
	target namespace.TargetConfig
	retry  namespace.RetryConfig
	allow  namespace.AllowConfig
}

// receiver opens what a lane delivers by.
func (s *Server) receiver(of *laneSettings) (delivery.Receiver, error) {
	h, g := &of.target.HTTP, &of.target.GRPC
	secret, err := s.secretOf(cmp.Or(h.Secret, g.Secret))
	if err != nil {
		return nil, err
	}
	if g.Address != "" {
		return deliverygrpc.New(deliverygrpc.Config{
			Address: g.Address, Method: g.Method, Secret: secret, AnyAddress: func(host string) bool { return of.allow.Allows(host) },
		})
	}
	return deliveryhttp.New(deliveryhttp.Config{
		URL: h.URL, Method: h.Method, Headers: h.Headers, Secret: secret, Connections: of.target.Concurrency,
		AnyAddress: func(host string) bool { return of.allow.Allows(host) },
	})
}

// secretOf reads one of the process configuration; nil where name is "".
func (s *Server) secretOf(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	file, ok := s.cfg.Secrets[name]
	if !ok {
		return nil, fmt.Errorf("this process is configured with no secret %s", name)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read secret %s: %w", name, err)
	}
	secret, err := endpoint.Secret(b)
	if err != nil {
		return nil, fmt.Errorf("read secret %s from %s: %w", name, file, err)
	}
	return secret, nil
}

// secretNames are those that documents may name; nil: it is not known here.
func (s *Server) secretNames() map[string]bool {
	if s.cfg.Role == Gateway && len(s.cfg.Secrets) == 0 { // the workers have them
		return nil
	}
	names := make(map[string]bool, len(s.cfg.Secrets))
	for name := range s.cfg.Secrets {
		names[name] = true
	}
	return names
}

// oldest is the lowest record of which a target still needs the message, where the log has to have it: another process
// may begin without this one's disk. wal.NoOffset: none.
func (b *deliveryBackend) oldest(ctx context.Context, p wal.Partition) (wal.Offset, error) {
	if !b.st.x.s.shared() {
		return wal.NoOffset, nil
	}
	return b.pebble.Oldest(ctx, p)
}

// waiting is a backend that may need records after it has applied them.
type waiting interface {
	oldest(ctx context.Context, p wal.Partition) (wal.Offset, error)
}

// deliveryMetrics are about attempts.
type deliveryMetrics struct {
	attempts *prometheus.CounterVec
	late     *prometheus.HistogramVec
}

func newDeliveryMetrics(reg prometheus.Registerer) *deliveryMetrics {
	m := &deliveryMetrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "headwater_delivery_attempts_total", Help: "Attempts to bring a message to a target: delivered, retried (it failed and is tried again) or dead (it failed and is given up).",
		}, []string{"namespace", "target", "outcome"}),
		late: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "headwater_delivery_lateness_seconds", Help: "How long after it was due a message was delivered.",
			Buckets: []float64{0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300, 3600},
		}, []string{"namespace", "target"}),
	}
	reg.MustRegister(m.attempts, m.late)
	return m
}

// delivering are the open namespaces that bring messages to targets.
func (sp *spaces) delivering() map[string]*delivery.Sender {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	out := make(map[string]*delivery.Sender)
	for name, x := range sp.open {
		if st := x.primary(); st != nil {
			if b, ok := st.backend.(*deliveryBackend); ok && b.sender != nil {
				out[name] = b.sender
			}
		}
	}
	return out
}
