package kafkalog

import (
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
)

// producer is a producing client. It ends when a broker answers that the
// sequence of its records is broken.
type producer struct {
	cl     *kgo.Client
	broken atomic.Bool
}

func (b *Broker) newProducer() (*producer, error) {
	opts := append(b.cfg.clientOpts(),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.StopProducerOnDataLossDetected(),
		// Payloads are compressed by who wrote them, or small.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(maxMessageBytes),
		kgo.ProducerLinger(b.cfg.Linger),
		kgo.ProduceRequestTimeout(5*time.Second),
		// A broker that has just started may not know a topic for a moment.
		// A topic that is really gone is found by the looks.
		kgo.UnknownTopicRetries(20),
		// Append bounds the queue itself, a call at a time; these only stop a
		// mistake in that.
		kgo.MaxBufferedRecords(math.MaxInt32),
		kgo.MaxBufferedBytes(2*b.cfg.QueueBytes),
		kgo.WithHooks((*produceHook)(b)),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("open producing client: %w", err)
	}
	return &producer{cl: cl}, nil
}

// breaksSequence reports whether the client has stopped with err, for every
// topic.
func breaksSequence(err error) bool {
	return errors.Is(err, kerr.OutOfOrderSequenceNumber) || errors.Is(err, kerr.UnknownProducerID) ||
		errors.Is(err, kerr.InvalidProducerIDMapping) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// sequenceBroken finds out what it means that p stopped on l's topic. If the
// topic is another life, the other topics get a new producer. If it is the same,
// the brokers have lost what they had acknowledged, and nothing is written any
// more (P10).
func (b *Broker) sequenceBroken(p *producer, l *Log, cause error) {
	if !p.broken.CompareAndSwap(false, true) {
		return
	}
	// On a goroutine of its own: the client reports from the one that settles
	// records.
	b.begin(func() {
		err := b.retry(b.ctx, func() error { return l.confirm(b.ctx) })
		switch {
		case b.ctx.Err() != nil:
		case errors.Is(err, wal.ErrIncarnation):
			b.replaceProducer(p)
		default:
			b.fail(fmt.Errorf("the brokers no longer know what they acknowledged of topic %s: %w", l.info.Name, cause))
		}
	})
}

func (b *Broker) replaceProducer(old *producer) {
	p, err := b.newProducer()
	if err != nil {
		b.fail(err)
		return
	}
	b.handover.Lock() // no record is on its way into the old one
	b.prod.Store(p)
	b.handover.Unlock()
	b.log.Info("kafka producer was replaced")
	old.cl.Close()
}

// fail stops all writing for good.
func (b *Broker) fail(err error) {
	err = fmt.Errorf("%w: %w", wal.ErrFailed, err)
	if b.failed.CompareAndSwap(nil, &err) {
		b.log.Error("kafka log has failed", "error", err)
	}
}

// refusal returns why no record can be taken now, or nil.
func (b *Broker) refusal() error {
	if err := b.failed.Load(); err != nil {
		return *err
	}
	if b.prod.Load().broken.Load() {
		return fmt.Errorf("%w: the producer is being replaced", wal.ErrUnavailable)
	}
	if o := b.state.Load(); o != nil && time.Since(o.since) >= b.cfg.ShedAfter {
		return o.error()
	}
	return nil
}
