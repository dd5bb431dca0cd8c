package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// outage is the time since which no broker answers, or no partition can be
// written.
type outage struct {
	since time.Time
	err   error
}

// sighting is what a look at the cluster confirmed: open topics by name.
type sighting map[string]wal.Incarnation

// A topic that is gone, or another, must be so for doubtLooks in a row and
// doubtPeriod: a broker may be a moment behind, and tell of the life before. A
// partition more can only be newer.
const (
	doubtLooks  = 3
	doubtPeriod = 500 * time.Millisecond
)

// doubt notes such a look and reports whether it settles the matter.
func (l *Log) doubt(now time.Time) bool {
	if l.doubts == 0 {
		l.doubted = now
	}
	l.doubts++
	return l.doubts >= doubtLooks && now.Sub(l.doubted) >= doubtPeriod
}

// hedgeAfter is when a look asks another broker beside the one that is silent.
const hedgeAfter = 500 * time.Millisecond

// sizeInterval is how old Bounds.Bytes may be.
const sizeInterval = 10 * time.Second

// Health returns nil, or ErrUnavailable while no broker answers or no partition
// of an open topic has enough in-sync replicas, as of the last look
// (Config.CheckInterval; sooner after an append has failed on the network). Or
// ErrFailed once the brokers have lost what they had acknowledged.
func (b *Broker) Health() error {
	if b.ctx.Err() != nil {
		return wal.ErrClosed
	}
	if err := b.failed.Load(); err != nil {
		return *err
	}
	if o := b.state.Load(); o != nil {
		return o.error()
	}
	return nil
}

func (o *outage) error() error {
	return fmt.Errorf("%w since %s: %w", wal.ErrUnavailable, o.since.UTC().Format(time.RFC3339), o.err)
}

// watch looks at the cluster until Close.
func (b *Broker) watch() {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond),
		backoff.WithMaxInterval(b.cfg.CheckInterval),
		backoff.WithMaxElapsedTime(0),
	)
	timer := time.NewTimer(b.cfg.CheckInterval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-b.kick:
		case <-b.ctx.Done():
			return
		}
		next := b.cfg.CheckInterval
		if _, err := b.looks.do(b.ctx); err != nil {
			next = wait.NextBackOff()
		} else {
			wait.Reset()
		}
		timer.Reset(next)
	}
}

// soon asks for a look without waiting for it.
func (b *Broker) soon() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

func (b *Broker) startLook(done func(sighting, error)) {
	if !b.begin(func() { done(b.look()) }) {
		done(nil, wal.ErrClosed)
	}
}

// look asks any broker for the open topics, and fails the logs whose topic is
// not what was opened.
func (b *Broker) look() (sighting, error) {
	logs := b.openLogs()
	names := make([]string, len(logs))
	for i, l := range logs {
		names[i] = l.info.Name
	}
	meta, err := b.askAny(names)
	if err != nil {
		if b.ctx.Err() != nil {
			return nil, wal.ErrClosed
		}
		b.down(err)
		return nil, fmt.Errorf("%w: %w", wal.ErrUnavailable, err)
	}
	topics := make(map[string]*kmsg.MetadataResponseTopic, len(meta.Topics))
	for i := range meta.Topics {
		if t := &meta.Topics[i]; t.Topic != nil {
			topics[*t.Topic] = t
		}
	}
	seen := make(sighting, len(logs))
	starved := len(logs) > 0
	now := time.Now()
	for _, l := range logs {
		t := topics[l.info.Name]
		if t == nil || t.ErrorCode != 0 && !errors.Is(kerr.ErrorForCode(t.ErrorCode), kerr.UnknownTopicOrPartition) {
			starved = false // says nothing about the topic
			continue
		}
		if err := l.mismatch(t); err != nil {
			if !errors.Is(err, wal.ErrPartitionCount) && !l.doubt(now) {
				starved = false
				time.AfterFunc(doubtPeriod/5, b.soon)
				continue
			}
			l.fail(err)
			continue
		}
		l.doubts = 0
		seen[l.info.Name] = l.info.Incarnation
		if !l.noteReplicas(t, now) {
			starved = false
		}
	}
	if starved {
		b.down(errNotEnoughReplicas)
	} else if o := b.state.Swap(nil); o != nil {
		b.log.Info("kafka log is available again", "after", time.Since(o.since))
	}
	return seen, nil
}

var errNotEnoughReplicas = errors.New("too few replicas are in sync")

func (b *Broker) down(err error) {
	o := &outage{since: time.Now(), err: err}
	if old := b.state.Load(); old != nil {
		o.since = old.since
	} else {
		b.log.Warn("kafka log is unavailable", "error", err)
	}
	b.state.Store(o)
}

// askAny asks one broker after the other, without waiting long for a silent
// one, and returns the first answer.
func (b *Broker) askAny(names []string) (*kmsg.MetadataResponse, error) {
	ctx, cancel := context.WithTimeoutCause(b.ctx, b.cfg.CheckTimeout, errNoAnswer)
	type answer struct {
		meta *kmsg.MetadataResponse
		err  error
	}
	brokers := b.cl.DiscoveredBrokers()
	rand.Shuffle(len(brokers), func(i, j int) { brokers[i], brokers[j] = brokers[j], brokers[i] })
	brokers = append(brokers, b.cl.SeedBrokers()...)
	answers := make(chan answer, len(brokers))
	asked := make(chan struct{})
	pending := 0
	ask := func() {
		if len(brokers) == 0 {
			return
		}
		to := brokers[0]
		brokers = brokers[1:]
		pending++
		go func() {
			defer func() { asked <- struct{}{} }()
			resp, err := to.Request(ctx, metadataRequest(names))
			if err != nil {
				answers <- answer{err: err}
				return
			}
			answers <- answer{meta: resp.(*kmsg.MetadataResponse)}
		}()
	}
	started := func() (*kmsg.MetadataResponse, error) {
		hedge := time.NewTicker(min(hedgeAfter, b.cfg.CheckTimeout/4+1))
		defer hedge.Stop()
		ask()
		open, last := pending, errNoAnswer
		for open > 0 {
			select {
			case a := <-answers:
				if a.err == nil {
					return a.meta, nil
				}
				open, last = open-1, a.err
				before := pending
				ask()
				open += pending - before
			case <-hedge.C:
				before := pending
				ask()
				open += pending - before
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
		return nil, last
	}
	meta, err := started()
	cancel()
	for range pending {
		<-asked
	}
	return meta, err
}

var errNoAnswer = errors.New("no broker answers")

// produceHook notes produce requests that may have been done without an answer.
type produceHook Broker

var _ kgo.HookBrokerE2E = (*produceHook)(nil)

func (h *produceHook) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key == int16(kmsg.Produce) && e2e.Err() != nil {
		h.doubt.Add(1)
		(*Broker)(h).soon()
	}
}

// watchSizes keeps the sizes of the open topics.
func (b *Broker) watchSizes() {
	ticker := time.NewTicker(sizeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.readSizes()
		case <-b.ctx.Done():
			return
		}
	}
}

func (b *Broker) readSizes() {
	logs := b.openLogs()
	if len(logs) == 0 {
		b.noteBytes(0)
		return
	}
	topics := make(kadm.TopicsSet, len(logs))
	for _, l := range logs {
		for p := range l.parts {
			topics.Add(l.info.Name, int32(p))
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.cfg.CheckTimeout)
	defer cancel()
	dirs, err := b.adm.DescribeAllLogDirs(ctx, topics)
	if err != nil && len(dirs) == 0 {
		b.log.Debug("read topic sizes", "error", err)
		return // the sizes known before stand
	}
	sizes := make(map[string]map[int32]int64, len(logs))
	dirs.Each(func(dir kadm.DescribedLogDir) {
		dir.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.IsFuture {
				return
			}
			if sizes[p.Topic] == nil {
				sizes[p.Topic] = make(map[int32]int64)
			}
			// Replicas differ by what is not copied or deleted yet; the largest
			// is what a full replica takes.
			sizes[p.Topic][p.Partition] = max(sizes[p.Topic][p.Partition], p.Size)
		})
	})
	// A broker that does not answer leaves out what only it has: that keeps the size
	// known before.
	var total int64
	for _, l := range logs {
		for i, p := range l.parts {
			if size, ok := sizes[l.info.Name][int32(i)]; ok {
				p.bytes.Store(size)
			}
			total += max(0, p.bytes.Load())
		}
	}
	b.noteBytes(total)
}

func (b *Broker) noteBytes(total int64) {
	b.bytes.Store(total)
	b.metrics.bytes.Set(float64(total))
}
