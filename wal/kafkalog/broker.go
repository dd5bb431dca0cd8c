package kafkalog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// Broker is a Kafka cluster as a wal.Broker.
type Broker struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	cl      *kgo.Client // asks; producing and fetching have their own
	adm     *kadm.Client

	ctx    context.Context // ends at Close; background work lives in it
	cancel context.CancelFunc
	wg     sync.WaitGroup
	kick   chan struct{} // asks for a check now; holds one

	// queued counts bytes handed over and not settled; see Log.Append.
	queued atomic.Int64
	// doubt counts produce requests whose answer did not arrive.
	doubt atomic.Uint64
	ahead atomic.Int64             // nanoseconds; see ClockAhead
	bytes atomic.Int64             // of one replica of each open topic; -1 = not known
	prod  atomic.Pointer[producer] // stored under handover
	state atomic.Pointer[outage]   // nil while a broker answers
	// failed is set when nothing may be written any more.
	failed atomic.Pointer[error]
	looks  shared[sighting]

	opening byName // who opens or deletes a topic

	// handover is held shared while records are handed to the client and
	// exclusively to close, so that Close knows every record in flight.
	handover sync.RWMutex
	closed   bool

	mu   sync.Mutex // guards logs
	logs map[string]*Log
}

var _ wal.Broker = (*Broker)(nil)

// Open connects to a cluster. It tries until a broker answers or ctx ends
// (ErrUnavailable). ErrTopicSettings when the replica settings are below what
// production needs and AllowUnsafe is not set.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		cfg: cfg, log: cfg.Logger, metrics: m,
		kick: make(chan struct{}, 1),
		logs: make(map[string]*Log),
	}
	b.bytes.Store(-1)
	b.looks.run = b.startLook
	b.ctx, b.cancel = context.WithCancel(context.Background())
	if b.cl, err = kgo.NewClient(b.cfg.clientOpts()...); err != nil {
		return nil, fmt.Errorf("open kafka log: %w", err)
	}
	b.adm = kadm.NewClient(b.cl)

	var brokers int
	var untrusted error // by whom the brokers say they are: at the start it is the configuration that is wrong
	err = b.retry(ctx, func() error {
		meta, err := b.metadata(ctx, []string{})
		var cert *tls.CertificateVerificationError
		switch {
		case err == nil:
			brokers = len(meta.Brokers)
		case errors.As(err, &cert):
			untrusted = err
			return wal.ErrClosed // which is not tried again
		}
		return err
	})
	if untrusted != nil {
		err = untrusted
	}
	if err == nil {
		err = b.cfg.settleReplicas(brokers)
	}
	var p *producer
	if err == nil {
		p, err = b.newProducer()
	}
	if err != nil {
		b.cancel()
		b.cl.Close()
		return nil, fmt.Errorf("open kafka log: %w", err)
	}
	b.prod.Store(p)
	b.wg.Go(b.watch)
	b.wg.Go(b.watchSizes)
	b.wg.Go(b.watchEdges)
	b.wg.Go(b.watchSettings)
	return b, nil
}

// BufferedLoss is Config.BufferedLoss.
func (b *Broker) BufferedLoss() time.Duration { return b.cfg.BufferedLoss }

// Usage tells the size of the open topics, up to 10 s old. The brokers' disks are
// not this machine's.
func (b *Broker) Usage() wal.Usage { return wal.Usage{LogBytes: b.bytes.Load(), FreeBytes: -1} }

// Create makes the topic unless it exists, checks its settings, and opens it.
func (b *Broker) Create(ctx context.Context, spec wal.TopicSpec) (wal.Log, error) {
	if err := checkName(spec.Name); err != nil {
		return nil, err
	}
	if spec.Partitions < 1 || spec.Partitions > math.MaxInt32 {
		return nil, fmt.Errorf("create topic %s: %d partitions", spec.Name, spec.Partitions)
	}
	l, err := b.open(ctx, spec.Name, spec.Partitions, true)
	if err != nil {
		return nil, fmt.Errorf("create topic %s: %w", spec.Name, err)
	}
	return l, nil
}

// Open opens an existing topic. Its partition count is in Info; the caller
// compares it with what the topic was created with.
func (b *Broker) Open(ctx context.Context, name string) (wal.Log, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("%w: %w", wal.ErrTopicNotFound, err)
	}
	l, err := b.open(ctx, name, 0, false)
	if err != nil {
		return nil, fmt.Errorf("open topic %s: %w", name, err)
	}
	return l, nil
}

// lockOpening serialises what opens and deletes the topic of a name.
func (b *Broker) lockOpening(ctx context.Context, name string) (unlock func(), err error) {
	if b.ctx.Err() != nil {
		return nil, wal.ErrClosed
	}
	unlock, err = b.opening.lock(ctx, b.ctx, name)
	if b.ctx.Err() != nil && err != nil {
		err = wal.ErrClosed
	}
	return unlock, err
}

func (b *Broker) open(ctx context.Context, name string, partitions int, create bool) (*Log, error) {
	unlock, err := b.lockOpening(ctx, name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var id wal.Incarnation
	if create {
		if id, err = b.createTopic(ctx, name, partitions); err != nil {
			return nil, err
		}
	}
	// A broker that has not heard of a topic that was just made, or deleted, says something else than the others.
	for again := openTries; ; again-- {
		l, err := b.openSeen(ctx, name, partitions, create, id)
		if again == 0 || !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return l, err
		}
		select {
		case <-time.After(openAgain):
		case <-ctx.Done():
			return nil, err
		}
	}
}

const (
	openTries = 30
	openAgain = 100 * time.Millisecond
)

// openSeen opens a topic as the cluster has it. id is that which createTopic has returned.
func (b *Broker) openSeen(ctx context.Context, name string, partitions int, create bool, id wal.Incarnation) (*Log, error) {
	topic, err := b.topic(ctx, name, create, id)
	if err != nil {
		return nil, err
	}
	if partitions != 0 && len(topic.Partitions) != partitions {
		return nil, fmt.Errorf("%w: topic has %d partitions, not %d", wal.ErrPartitionCount, len(topic.Partitions), partitions)
	}
	have, err := b.checkSettings(ctx, topic)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	old := b.logs[name]
	b.mu.Unlock()
	if old != nil && old.failure() == nil {
		if old.info.Incarnation == topic.TopicID && len(old.parts) == len(topic.Partitions) {
			return old, nil
		}
		old.fail(old.mismatch(topic))
	}
	if old != nil {
		// The client never takes a new life of a topic for the old one; it has
		// to be told.
		b.prod.Load().cl.PurgeTopicsFromProducing(name)
	}
	l := newLog(b, name, topic, have)
	if err := l.loadEdges(ctx); err != nil {
		return nil, err
	}
	// The ends were asked for by name: they are of this life only if the topic
	// is still the same after it.
	again, err := b.topic(ctx, name, create, id)
	if err != nil {
		return nil, err
	}
	if err := l.mismatch(again); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.logs == nil {
		return nil, wal.ErrClosed
	}
	b.logs[name] = l
	return l, nil
}

// Delete removes a topic and waits until the cluster no longer knows it. Logs
// of it answer ErrIncarnation from then on.
func (b *Broker) Delete(ctx context.Context, name string) error {
	if checkName(name) != nil {
		return nil // there can be no such topic
	}
	unlock, err := b.lockOpening(ctx, name)
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	defer unlock()
	err = b.retry(ctx, func() error {
		_, err := b.adm.DeleteTopic(ctx, name)
		return err
	})
	if err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	b.mu.Lock()
	l := b.logs[name]
	delete(b.logs, name)
	b.mu.Unlock()
	if l != nil {
		l.fail(fmt.Errorf("%w: %w: it was deleted", wal.ErrIncarnation, wal.ErrTopicNotFound))
		b.prod.Load().cl.PurgeTopicsFromProducing(name)
	}
	err = b.retry(ctx, func() error {
		meta, err := b.metadata(ctx, []string{name})
		if err != nil {
			return err
		}
		if !errors.Is(kerr.ErrorForCode(meta.Topics[0].ErrorCode), kerr.UnknownTopicOrPartition) {
			return errStillThere
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete topic %s: wait until it is gone: %w", name, err)
	}
	return nil
}

var errStillThere = errors.New("topic is still there")

// Topics lists the topics whose name begins with the prefix and a dot.
func (b *Broker) Topics(ctx context.Context) ([]wal.TopicInfo, error) {
	if b.ctx.Err() != nil {
		return nil, fmt.Errorf("list topics: %w", wal.ErrClosed)
	}
	meta, err := b.metadata(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", requestError(ctx, err))
	}
	var infos []wal.TopicInfo
	for i := range meta.Topics {
		t := &meta.Topics[i]
		if t.Topic == nil || t.ErrorCode != 0 || !strings.HasPrefix(*t.Topic, b.cfg.TopicPrefix+".") {
			continue
		}
		infos = append(infos, wal.TopicInfo{Name: *t.Topic, Partitions: len(t.Partitions), Incarnation: t.TopicID})
	}
	return infos, nil
}

// Close waits for records in flight, at most Config.CloseTimeout, then closes
// readers and connections. What was still in flight is ErrUnknown to its caller.
func (b *Broker) Close() error {
	b.handover.Lock()
	if b.closed {
		b.handover.Unlock()
		return nil
	}
	b.closed = true
	b.handover.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), b.cfg.CloseTimeout)
	defer cancel()
	err := b.prod.Load().cl.Flush(ctx)
	b.cancel()
	b.mu.Lock()
	logs := b.logs
	b.logs = nil
	b.mu.Unlock()
	for _, l := range logs {
		l.fail(wal.ErrClosed) // which ends its fetchers
	}
	b.wg.Wait()
	b.prod.Load().cl.Close()
	b.cl.Close()
	if err != nil {
		return fmt.Errorf("close kafka log: records are still in flight: %w", err)
	}
	return nil
}

// begin runs f on a goroutine that Close waits for. It is false after Close.
func (b *Broker) begin(f func()) bool {
	b.handover.RLock()
	defer b.handover.RUnlock()
	if !b.closed {
		b.wg.Go(f)
	}
	return !b.closed
}

// openLogs returns the logs that have not failed.
func (b *Broker) openLogs() []*Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	logs := make([]*Log, 0, len(b.logs))
	for _, l := range b.logs {
		if l.failure() == nil {
			logs = append(logs, l)
		}
	}
	return logs
}

// metadata asks for topics: nil for all, none for an empty list.
func (b *Broker) metadata(ctx context.Context, topics []string) (*kmsg.MetadataResponse, error) {
	resp, err := metadataRequest(topics).RequestWith(ctx, b.cl)
	if err != nil {
		return nil, err
	}
	if topics != nil && len(resp.Topics) != len(topics) {
		return nil, fmt.Errorf("metadata of %d topics, asked for %d", len(resp.Topics), len(topics))
	}
	return resp, nil
}

func metadataRequest(topics []string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = false
	if topics != nil {
		req.Topics = make([]kmsg.MetadataRequestTopic, 0, len(topics))
	}
	for _, name := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// retry calls f until it succeeds, fails for good, or ctx or the broker ends.
func (b *Broker) retry(ctx context.Context, f func() error) error {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond),
		backoff.WithMaxInterval(time.Second),
		backoff.WithMaxElapsedTime(0),
	)
	for {
		err := f()
		if err == nil || !passes(err) {
			return err
		}
		timer := time.NewTimer(wait.NextBackOff())
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return requestError(ctx, err)
		case <-b.ctx.Done():
			timer.Stop()
			return wal.ErrClosed
		}
	}
}

// passes reports whether asking again may help.
func passes(err error) bool {
	var code *kerr.Error
	if errors.As(err, &code) {
		// Unknown topics are retriable to Kafka; who waits for one says so by
		// returning another error.
		return code.Retriable && code != kerr.UnknownTopicOrPartition && code != kerr.UnknownTopicID
	}
	for _, final := range []error{
		wal.ErrIncarnation, wal.ErrPartitionCount, wal.ErrTopicNotFound, wal.ErrTopicSettings,
		wal.ErrClosed, wal.ErrBeyondEnd, wal.ErrNoPartition, kgo.ErrClientClosed,
	} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// requestError says what a request that failed means to the caller.
func requestError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, kgo.ErrClientClosed):
		return wal.ErrClosed
	case !passes(err):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w: %w", wal.ErrUnavailable, ctx.Err(), err)
	default:
		return fmt.Errorf("%w: %w", wal.ErrUnavailable, err)
	}
}
