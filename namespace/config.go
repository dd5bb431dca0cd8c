package namespace

import (
	"strings"
	"time"
)

// Abstraction is what a namespace offers.
type Abstraction string

// The abstractions.
const (
	KV         Abstraction = "kv"
	Counter    Abstraction = "counter"
	TimeSeries Abstraction = "timeseries"
	Log        Abstraction = "log"
)

// Config is what is in force for a namespace at one version: the document with
// every default filled in. It is never changed once it has been handed out, so
// it may be shared; whoever holds one must not change it either.
//
// It is stored as JSON in the registry's records (see the package comment), so
// that a later build with other defaults does not change what was accepted. A
// new field must be omitempty, and zero must mean what was in force before.
type Config struct {
	Name        string      `json:"namespace"`
	Abstraction Abstraction `json:"abstraction"`
	// Version is the version of the namespace that this is; 0 for a document that
	// has not been applied.
	Version     uint64   `json:"-"`
	Description string   `json:"description,omitempty"`
	Owners      []string `json:"owners,omitempty"`

	// Partitions of the topic, fixed at creation.
	Partitions int `json:"partitions"`
	// Retention is how long the log is kept beyond what the stores need. 0: no
	// longer.
	Retention time.Duration `json:"retention,omitempty"`
	// MaxLogBytes: at this size of the log writes are shed. 0: never.
	MaxLogBytes int64 `json:"max_log_bytes,omitempty"`
	// Durability of writes that ask for none: "sync".
	Durability string `json:"durability"`

	Limits  Limits        `json:"limits"`
	Tokens  TokenConfig   `json:"tokens"`
	SLO     SLO           `json:"slo"`
	Storage []StoreConfig `json:"storage,omitempty"` // PRIMARY first
	KV      KVConfig      `json:"kv,omitzero"`       // zero unless Abstraction is KV
	Counter CounterConfig `json:"counter,omitzero"`  // zero unless Abstraction is Counter
	// TimeSeries and Lifecycle are zero unless Abstraction is TimeSeries.
	TimeSeries TimeSeriesConfig `json:"timeseries,omitzero"`
	Lifecycle  LifecycleConfig  `json:"lifecycle,omitzero"`
	// Delivery is zero unless Abstraction is Log.
	Delivery DeliveryConfig `json:"delivery,omitzero"`
	// DeadLetters is how long they are kept.
	DeadLetters DeadLetterConfig `json:"dead_letters,omitzero"`
}

// DeadLetterConfig is how long and how many dead letters are kept beyond those of
// what is parked.
type DeadLetterConfig struct {
	Retention time.Duration `json:"retention,omitempty"` // 0: no limit
	MaxBytes  int64         `json:"max_bytes,omitempty"` // 0: no limit
}

// Limits are what a namespace may use.
type Limits struct {
	WritePerSecond int64 `json:"write_per_second,omitempty"` // mutations; 0: no limit
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"` // of writes; 0: no limit
	MaxValue       int64 `json:"max_value"`                  // bytes of one value, uploads too
}

// TokenConfig is how long and how many idempotency tokens are remembered.
type TokenConfig struct {
	Window time.Duration `json:"window"`
	// MaxDriftPast and MaxDriftFuture are how far a token's generation time may be
	// from the server's clock.
	MaxDriftPast   time.Duration `json:"max_drift_past"`
	MaxDriftFuture time.Duration `json:"max_drift_future"`
	// MaxLive: above so many remembered tokens writes are shed.
	MaxLive int64 `json:"max_live"`
}

// SLO is what callers may expect, and when a read answers early with what it
// has.
type SLO struct {
	Read  Objective `json:"read,omitzero"`
	Write Objective `json:"write,omitzero"`
}

// Objective is the time that calls should take, and the most that they may.
type Objective struct {
	Target time.Duration `json:"target,omitempty"`
	Max    time.Duration `json:"max,omitempty"`
}

// StoreConfig is one store of a namespace.
type StoreConfig struct {
	// Name is unique in the namespace: the role in small letters unless the document
	// gives another. Empty in what was accepted before stores had names; see ID.
	Name    string        `json:"name,omitempty"`
	Role    string        `json:"role"` // PRIMARY, ...
	Type    string        `json:"type"` // pebble, ...
	Cluster string        `json:"cluster,omitempty"`
	Dataset string        `json:"dataset,omitempty"`
	TTL     time.Duration `json:"ttl,omitempty"`
	// MaxLag: how many bytes of log are held for a store that follows before it is
	// detached. 0: half of the log's max_bytes.
	MaxLag int64 `json:"max_lag,omitempty"`
	// MaxBytes is how much a store of role CACHE may hold. 0: 1 GiB.
	MaxBytes int64 `json:"max_bytes,omitempty"`
}

// ID is the store's name.
func (s *StoreConfig) ID() string {
	if s.Name != "" {
		return s.Name
	}
	return strings.ToLower(s.Role)
}

// KVConfig is the part of a key-value namespace.
type KVConfig struct {
	Descending bool `json:"descending,omitempty"` // items are read from the largest key unless a call says otherwise
	// Consistency of reads that ask for none: "read_your_writes", "latest" or
	// "eventual"; empty is the first.
	Consistency    string        `json:"consistency,omitempty"`
	DefaultTTL     time.Duration `json:"default_ttl,omitempty"` // of items put without one; 0: they stay
	ChunkThreshold int           `json:"chunk_threshold"`       // bytes; larger values are uploaded in chunks of this size
}

// TimeSeriesConfig is the part of a time-series namespace.
type TimeSeriesConfig struct {
	// Slice is how long a new time slice is; those that there are keep their length.
	Slice        time.Duration `json:"slice"`
	Bucket       time.Duration `json:"bucket"`
	EventBuckets int           `json:"event_buckets"`
	// AcceptLimit is how old an event may be when it comes, AcceptFuture how far ahead;
	// 0: no limit.
	AcceptLimit  time.Duration `json:"accept_limit,omitempty"`
	AcceptFuture time.Duration `json:"accept_future,omitempty"`
	Blocked      []string      `json:"blocked,omitempty"` // series of which nothing is taken
	// Index are the items that new slices have an index on.
	Index []string `json:"index,omitempty"`
}

// LifecycleConfig is how long a time slice lives after its end. 0: for ever.
type LifecycleConfig struct {
	CloseAfter  time.Duration `json:"close_after,omitempty"`
	DeleteAfter time.Duration `json:"delete_after,omitempty"`
}

// CounterConfig is the part of a counter namespace.
type CounterConfig struct {
	// Accuracy is what reads that ask for none get, "best_effort", "eventual" or
	// "accurate". With best_effort, adds that nobody waits for are acknowledged
	// before they are durable.
	Accuracy string        `json:"accuracy"`
	TTL      time.Duration `json:"ttl,omitempty"` // a counter that is idle for so long disappears; 0: never
	// Windows that GetCountSeries is answered from: whole seconds, smallest first,
	// each a multiple of the one before.
	Windows        []time.Duration `json:"windows"`
	EventRetention time.Duration   `json:"event_retention,omitempty"` // 0: events are kept for ever
	// Floor and Ceiling are limits of every add; nil: none. OnViolation is "reject"
	// or "saturate", empty where there is neither.
	Floor       *int64 `json:"floor,omitempty"`
	Ceiling     *int64 `json:"ceiling,omitempty"`
	OnViolation string `json:"on_violation,omitempty"`
}
