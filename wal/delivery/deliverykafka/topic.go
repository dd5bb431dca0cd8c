package deliverykafka

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// Config is what a Topic is made of.
type Config struct {
	Brokers []string
	Opts    []kgo.Opt // how they are talked to
	Topic   string
}

// The headers of a record beside the message's own.
const (
	HeaderID    = "headwater-id"
	HeaderToken = "headwater-token"
)

const (
	// maxRecord is the largest message and its headers; what of it a topic takes is max.message.bytes.
	maxRecord = 8 << 20
	// unknownFor is how long a topic that does not exist is not asked for again: what waits for it is given up at once.
	unknownFor = 2 * time.Second
)

// Topic is delivery.Forwarders to a topic.
type Topic struct {
	cfg Config
	cl  *kgo.Client

	mu      sync.Mutex // guards unknown
	unknown time.Time  // when the topic was found not to exist
}

var _ delivery.Forwarders = (*Topic)(nil)

// Open returns a topic. It connects when it delivers.
func Open(cfg Config) (*Topic, error) {
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("headwater"), kgo.RequiredAcks(kgo.AllISRAcks()),
		// One request at a time: what follows a record that fails is not taken before it.
		kgo.MaxProduceRequestsInflightPerBroker(1),
		kgo.ProducerBatchMaxBytes(maxRecord + 1<<20), kgo.MaxBufferedBytes(64 << 20),
		kgo.ProduceRequestTimeout(5 * time.Second), kgo.UnknownTopicRetries(2),
	}, cfg.Opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to the brokers of topic %s: %w", cfg.Topic, err)
	}
	return &Topic{cfg: cfg, cl: cl}, nil
}

// Forwarder implements delivery.Forwarders.
func (t *Topic) Forwarder(wal.Partition) delivery.Forwarder { return t }

// Close implements delivery.Forwarders.
func (t *Topic) Close() error {
	t.cl.Close()
	return nil
}

// Forward implements delivery.Forwarder. Safe for concurrent use.
func (t *Topic) Forward(ctx context.Context, ms []*delivery.Attempt) (n int, err error) {
	if t.isUnknown() {
		return 0, t.noTopic()
	}
	fit, tooLarge := len(ms), error(nil)
	for i, m := range ms {
		if size := len(m.Payload) + len(m.Key) + delivery.MaxHeaderBytes; size > maxRecord {
			err := fmt.Errorf("the message has %d bytes with its headers; a record may have %d", size, maxRecord)
			fit, tooLarge = i, &delivery.PermanentError{Err: err}
			break
		}
	}
	p := producing{left: fit, errs: make([]error, fit), over: make(chan struct{})}
	if fit == 0 {
		return 0, tooLarge
	}
	for i := range fit {
		p.errs[i] = errUnderWay
		t.cl.Produce(ctx, t.record(ms[i]), func(_ *kgo.Record, err error) { p.settled(i, err) })
	}
	select {
	case <-p.over:
	case <-ctx.Done():
	}
	for n, err = range p.told() {
		if err != nil {
			return n, t.told(err)
		}
	}
	return fit, tooLarge
}

// errUnderWay is what is known of a record of which the brokers have said nothing in time.
var errUnderWay = errors.New("the brokers have not answered in time")

// producing is the records of one call.
type producing struct {
	mu   sync.Mutex // guards what follows
	left int
	errs []error
	over chan struct{}
}

func (p *producing) settled(i int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errs[i] = err
	if p.left--; p.left == 0 {
		close(p.over)
	}
}

func (p *producing) told() []error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]error(nil), p.errs...)
}

func (t *Topic) record(m *delivery.Attempt) *kgo.Record {
	r := &kgo.Record{Topic: t.cfg.Topic, Value: m.Payload, Timestamp: m.Time}
	if m.Key != "" {
		r.Key = []byte(m.Key)
	}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)})
	}
	token := base64.StdEncoding.EncodeToString(m.Token.Nonce[:])
	r.Headers = append(r.Headers,
		kgo.RecordHeader{Key: HeaderID, Value: []byte(m.ID)}, kgo.RecordHeader{Key: HeaderToken, Value: []byte(token)})
	return r
}

// permanent are errors of a record that the cluster will never take.
var permanent = []error{
	kerr.InvalidTopicException, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp,
	kerr.PolicyViolation,
}

// told says of an error whether another attempt may fare better.
func (t *Topic) told(err error) error {
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.mu.Lock()
		t.unknown = time.Now()
		t.mu.Unlock()
		return t.noTopic()
	}
	for _, p := range permanent {
		if errors.Is(err, p) {
			return &delivery.PermanentError{Err: fmt.Errorf("topic %s: %w", t.cfg.Topic, err)}
		}
	}
	return fmt.Errorf("topic %s: %w", t.cfg.Topic, err)
}

func (t *Topic) isUnknown() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.unknown.IsZero() && time.Since(t.unknown) < unknownFor
}

func (t *Topic) noTopic() error {
	return &delivery.PermanentError{Err: fmt.Errorf("topic %s does not exist in its cluster", t.cfg.Topic)}
}
