package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/durable"
	"github.com/headwater-db/headwater/wal/durable/durableremote"
)

// openConsumers opens what knows the named consumers of the namespace's log: here, or where its partitions are held.
func (x *space) openConsumers() {
	if x.owners != nil {
		x.ns.Consumers = &durableremote.Owner{Client: x.owners}
		return
	}
	x.consumers = durable.New(durable.Config{
		Log: x.log, Progress: x.progress, States: x.consumerStates, Held: x.consumersHeld, Judge: x.judge, GaveUp: x.gaveUp,
		Now: x.s.broker.Now, Readers: x.s.readers, Logger: x.s.log.With("namespace", x.ns.Name),
	})
	x.ns.Consumers, x.ns.ConsumersHeld = x.consumers, x.consumersHere
	x.work.Go(func() { x.consumers.Run(x.run) })
}

// consumersHere are the consumers of the partitions that are held here, a part for each.
func (x *space) consumersHere() (all []durable.Info) {
	for p := range wal.Partition(x.log.Info().Partitions) {
		all = append(all, x.consumers.Opened(p)...)
	}
	return all
}

// consumerStates opens the topic of the consumers.
func (x *space) consumerStates(ctx context.Context, create bool) (wal.Log, error) {
	topic := x.entry.ConsumersTopic
	if create {
		l, err := x.s.broker.Create(ctx, wal.TopicSpec{Name: topic, Partitions: x.log.Info().Partitions})
		if err != nil {
			return nil, fmt.Errorf("make topic %s: %w", topic, err)
		}
		return l, nil
	}
	l, err := x.s.broker.Open(ctx, topic)
	if errors.Is(err, wal.ErrTopicNotFound) {
		return nil, nil //nolint:nilnil // as Config.States has it: there is none
	}
	if err != nil {
		return nil, fmt.Errorf("open topic %s: %w", topic, err)
	}
	return l, nil
}

// consumersHeld is by which claim this process hands out the records of a partition.
func (x *space) consumersHeld(p wal.Partition) (wal.Offset, bool) {
	if x.claims == nil {
		return 0, x.serves(p) != nil
	}
	if _, claimed := x.claims.Holder(p); !claimed && !x.hasHome() && x.s.advertised() == "" {
		return 0, x.serves(p) != nil // nobody is asked but this process
	}
	return x.Epoch(p)
}

// judge tells what is known of records that are decided.
func (x *space) judge(ctx context.Context, p wal.Partition, entries []wal.Entry) ([]durable.Verdict, error) {
	st := x.serves(p)
	if st == nil {
		return nil, fmt.Errorf("partition %d: %w", p, durable.ErrNotHere)
	}
	rows := make(map[wal.Offset][]byte)
	if len(entries) > 0 {
		if entries[len(entries)-1].Offset > st.savedOffset(p) { // what was decided is in memory yet
			if err := st.backend.save(ctx, p); err != nil {
				return nil, err
			}
		}
		err := st.ledger.Exceptions(ctx, p, entries[0].Offset, entries[len(entries)-1].Offset+1, func(o wal.Offset, row []byte) error {
			rows[o] = slices.Clone(row)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("what was decided of partition %d: %w", p, err)
		}
	}
	vs := make([]durable.Verdict, len(entries))
	for i := range entries {
		e := &entries[i]
		var err error
		if vs[i], err = gateway.VerdictOf(e, rows[e.Offset]); err != nil {
			return nil, &wal.CorruptError{Topic: x.entry.Topic, Partition: p, Offset: e.Offset, Detail: err.Error()}
		}
		if err := x.cancelled(ctx, p, e, &vs[i]); err != nil {
			return nil, err
		}
	}
	return vs, nil
}

// cancelled leaves out a message that was written for later and was cancelled, or replaced by another.
func (x *space) cancelled(ctx context.Context, p wal.Partition, e *wal.Entry, v *durable.Verdict) error {
	if x.ns.Messages == nil || v.Due <= e.LogTime || v.Skip {
		return nil
	}
	st, known, err := x.ns.Messages.Status(ctx, p, e.Offset)
	if err != nil || !known {
		return err
	}
	v.Skip = len(st.Targets) > 0 && !slices.ContainsFunc(st.Targets, func(t delivery.TargetStatus) bool { return t.State != delivery.Cancelled })
	return nil
}

// fates are the dispositions of letters of what consumers have given up.
var fates = map[durable.Fate]consumers.Disposition{durable.Buried: consumers.Parked, durable.Revived: consumers.Redriven, durable.Forgotten: consumers.Dropped}

// gaveUp writes the dead letters of what a consumer is not handed any more, and of what becomes of it.
func (x *space) gaveUp(ctx context.Context, p wal.Partition, given []durable.GivenUp) error {
	letters := make([]consumers.DeadLetter, len(given))
	now := x.s.broker.Now().UnixMicro()
	for i := range given {
		g := &given[i]
		letters[i] = consumers.DeadLetter{
			Ref: wal.Ref{Partition: p, Offset: g.Offset, Index: wal.WholeRecord}, Key: g.Key, Reason: delivery.ReasonUndeliverable,
			Disposition: fates[g.Now], Detail: g.Why, Attempts: g.Attempts, LogTime: now, At: g.Place, Target: gateway.ConsumerTarget + g.Consumer,
			By: g.By,
		}
		if g.Now != durable.Buried {
			continue
		}
		err := wal.ReadOne(ctx, x.log, p, g.Offset, func(e *wal.Entry) error {
			letters[i].Record = slices.Clone(e.Data)
			return nil
		})
		if err != nil && !errors.Is(err, wal.ErrTrimmed) {
			return fmt.Errorf("read a record that a consumer gave up: %w", err)
		}
	}
	return x.ns.Letters.Put(ctx, letters)
}

// consumerMetrics tells how the consumers of the partitions that are held here fare.
type consumerMetrics struct {
	s                                    *Server
	lag, inFlight, redelivering, givenUp *prometheus.Desc
}

func newConsumerMetrics(s *Server) *consumerMetrics {
	d := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"namespace", "consumer"}, nil)
	}
	return &consumerMetrics{
		s:            s,
		lag:          d("headwater_consumer_lag_records", "Records of the log that a named consumer is not done with, of the partitions that this process holds."),
		inFlight:     d("headwater_consumer_in_flight", "Messages that callers have fetched and not acknowledged."),
		redelivering: d("headwater_consumer_redelivering", "Messages that are to be handed out again."),
		givenUp:      d("headwater_consumer_given_up_total", "Messages that are not handed out any more, and were not acknowledged: each is a dead letter."),
	}
}

// Describe implements prometheus.Collector.
func (m *consumerMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.lag, m.inFlight, m.redelivering, m.givenUp} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *consumerMetrics) Collect(ch chan<- prometheus.Metric) {
	for _, x := range m.s.spaces.opened() {
		if x.consumers == nil {
			continue
		}
		for _, i := range durable.Sum(x.consumersHere()) {
			gauge := func(d *prometheus.Desc, v int64) {
				ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), x.ns.Name, i.Name)
			}
			gauge(m.lag, i.Lag)
			gauge(m.inFlight, i.InFlight)
			gauge(m.redelivering, i.Redelivering)
			ch <- prometheus.MustNewConstMetric(m.givenUp, prometheus.CounterValue, float64(i.GivenUp), x.ns.Name, i.Name)
		}
	}
}
