package kafkalog

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
)

// The framing of a Kafka record batch with one record is under 128 bytes, so a
// topic that takes this much takes every record of wal.MaxRecordBytes.
const maxMessageBytes = 8<<20 + 128<<10

// minQueueBytes lets one largest record wait behind another.
const minQueueBytes = 16 << 20

// DefaultTopicPrefix is what the names of topics begin with, and a dot, unless it is set.
const DefaultTopicPrefix = "headwater"

// Config says how to reach a cluster and what its topics must promise.
type Config struct {
	// Brokers are seed addresses, host:port. At least one.
	Brokers []string
	// TopicPrefix is what Topics lists, followed by a dot. Default "headwater".
	TopicPrefix string
	// ReplicationFactor of topics that are created, and the least that is
	// accepted of topics that exist. Default 3; below 3 only with AllowUnsafe.
	ReplicationFactor int
	// MinISR is min.insync.replicas of topics that are created, and the least
	// that is accepted. Default 2; below 2 only with AllowUnsafe.
	MinISR int
	// AllowUnsafe permits topics with fewer replicas, down to one, for
	// development: an acknowledged record is then lost with the one broker that
	// has it. Defaults shrink to what the cluster has. It relaxes nothing else.
	AllowUnsafe bool
	// ClientID names this process to the brokers. Default "headwater".
	ClientID string
	// Linger is how long a batch waits for more records. Default 0 (a batch is
	// sent at once, and grows while five requests are in flight).
	Linger time.Duration
	// QueueBytes bounds the records that are handed over and not acknowledged.
	// Default 64 MiB; at least 16 MiB.
	QueueBytes int
	// BufferedLoss is how long the oldest buffered record of a partition may wait
	// for its acknowledgement before others are refused: what a crash of this
	// process can lose. A record is sent after Linger, and again until it is
	// acknowledged, so the wait is Linger, a round trip, and whatever the brokers
	// take to find a new leader. Default 5 s; must be above Linger.
	BufferedLoss time.Duration
	// CheckInterval is how often topics and brokers are looked at. Default 2 s.
	CheckInterval time.Duration
	// CheckTimeout is how long a look may take before the brokers count as
	// unreachable. Default 3 s.
	CheckTimeout time.Duration
	// ShedAfter is how long the brokers must be unreachable before appends are
	// refused at once rather than queued. Default 10 s.
	ShedAfter time.Duration
	// CloseTimeout bounds how long Close waits for records in flight. Default 10 s.
	CloseTimeout time.Duration
	// Clock is this machine's, for tests that move it. Default time.Now.
	Clock func() time.Time
	// Logger may be nil.
	Logger *slog.Logger
	// Registerer may be nil.
	Registerer prometheus.Registerer
	// Opts are added to every client: TLS, SASL, a dialer.
	Opts []kgo.Opt
}

func (c Config) withDefaults() (Config, error) {
	if len(c.Brokers) == 0 {
		return c, errors.New("configure kafka log: no broker address")
	}
	if c.TopicPrefix == "" {
		c.TopicPrefix = DefaultTopicPrefix
	}
	if c.ClientID == "" {
		c.ClientID = "headwater"
	}
	if c.QueueBytes == 0 {
		c.QueueBytes = 64 << 20
	}
	if c.QueueBytes < minQueueBytes {
		return c, fmt.Errorf("configure kafka log: queue of %d bytes is below the least, 16 MiB", c.QueueBytes)
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.BufferedLoss, 5 * time.Second},
		{&c.CheckInterval, 2 * time.Second},
		{&c.CheckTimeout, 3 * time.Second},
		{&c.ShedAfter, 10 * time.Second},
		{&c.CloseTimeout, 10 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
		if *d.value < 0 {
			return c, fmt.Errorf("configure kafka log: negative duration %s", *d.value)
		}
	}
	if c.Linger < 0 || c.ReplicationFactor < 0 || c.MinISR < 0 {
		return c, errors.New("configure kafka log: linger, replication factor and min ISR must not be negative")
	}
	if c.BufferedLoss <= c.Linger {
		return c, fmt.Errorf("configure kafka log: buffered loss of %s must be above the linger of %s", c.BufferedLoss, c.Linger)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// settleReplicas fills in the replica settings for a cluster of n brokers.
func (c *Config) settleReplicas(n int) error {
	if !c.AllowUnsafe {
		if c.ReplicationFactor == 0 {
			c.ReplicationFactor = 3
		}
		if c.MinISR == 0 {
			c.MinISR = 2
		}
		if c.ReplicationFactor < 3 || c.MinISR < 2 {
			return fmt.Errorf("%w: replication factor %d and min ISR %d: must be at least 3 and 2 (AllowUnsafe permits less, for development)",
				wal.ErrTopicSettings, c.ReplicationFactor, c.MinISR)
		}
	}
	if c.ReplicationFactor == 0 {
		c.ReplicationFactor = max(1, min(3, n))
	}
	if c.MinISR == 0 {
		c.MinISR = min(2, max(1, c.ReplicationFactor-1))
	}
	if c.MinISR > c.ReplicationFactor {
		return fmt.Errorf("%w: min ISR %d is above the replication factor %d", wal.ErrTopicSettings, c.MinISR, c.ReplicationFactor)
	}
	return nil
}

// clientOpts are what the producing and the fetching clients share.
func (c *Config) clientOpts() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID(c.ClientID),
		kgo.WithLogger(clientLogger{c.Logger}),
		// A leader that moved is looked up again at once, not after five seconds.
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.MetadataMaxAge(30 * time.Second),
		kgo.DialTimeout(5 * time.Second),
		// A frozen broker is given up after this on top of a request's own
		// timeout, so that the partition can move to its new leader.
		kgo.RequestTimeoutOverhead(5 * time.Second),
		kgo.RetryBackoffFn(retryBackoff),
	}
	return append(opts, c.Opts...)
}
