package client

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// KV is a namespace of records: each id has a sorted map of keys to values. It
// costs nothing to make and needs no closing.
type KV struct {
	c         *Client
	namespace string
}

// KV returns a handle on a namespace whose abstraction is kv. It does not ask the
// server whether there is one.
func (c *Client) KV(namespace string) *KV { return &KV{c: c, namespace: namespace} }

// Namespace is the name of the namespace.
func (k *KV) Namespace() string { return k.namespace }

// PutItem is one item to write.
type PutItem struct {
	// Key is any 0 to 1,024 bytes; they need not be text.
	Key   string
	Value []byte
	// TTL above 0 makes the item expire; 0: the namespace's default.
	TTL         time.Duration
	ContentType string
	// Compression is "zstd", "s2" or "none"; empty: as Config says.
	Compression string
}

// WriteOptions are about a whole write.
type WriteOptions struct {
	// Token names the write; zero: the client makes one.
	Token Token
	// IfAbsent writes only if none of the items exists.
	IfAbsent bool
	// IfVersion writes the one item of the call only if it has this version.
	IfVersion string
}

func (o *WriteOptions) condition() *headwaterv1.Condition {
	switch {
	case o.IfAbsent:
		return &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfAbsent{IfAbsent: true}}
	case o.IfVersion != "":
		return &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfVersion{IfVersion: o.IfVersion}}
	}
	return nil
}

func (o *WriteOptions) check() error {
	if o.IfAbsent && o.IfVersion != "" {
		return invalid(apierrors.BadCondition, "IfAbsent and IfVersion are both set; use one")
	}
	return nil
}

// Durability says what an acknowledgement is worth.
type Durability string

// The durabilities.
const (
	// Sync: fsynced on the machine that holds the log.
	Sync Durability = "SYNC"
	// Quorum: on all in-sync replicas of the log, at least two.
	Quorum Durability = "QUORUM"
	// Unreplicated: on all in-sync replicas of the log, which may be one broker that
	// has not fsynced.
	Unreplicated Durability = "UNREPLICATED"
	// Buffered: queued for the log; a crash may lose it.
	Buffered Durability = "BUFFERED"
)

// Duplicate says whether the token of a write was known.
type Duplicate string

// The values of Duplicate.
const (
	// New: the token was not known; this write is the one that counts.
	New Duplicate = "NO"
	// Repeated: the token was known; this is the answer to the first request.
	Repeated Duplicate = "YES"
	// PerhapsRepeated: another server may have taken the token first.
	PerhapsRepeated Duplicate = "UNKNOWN"
)

// WriteResult is an acknowledged write.
type WriteResult struct {
	// Token is the one that the write went under.
	Token Token
	// Position makes reads of another client wait for this write; see
	// ReadOptions.After. Empty when Durability is Buffered.
	Position   string
	Durability Durability
	Duplicate  Duplicate
	// Versions of the items that were put, in order; for IfVersion.
	Versions []string
	// MessageID names a message, for Log.Message and its receivers.
	MessageID string
}

func (c *Client) result(namespace string, m *headwaterv1.WriteResult, token Token, versions []string) WriteResult {
	c.wrote(namespace, m.GetPosition())
	return WriteResult{
		Token: token, Position: m.GetPosition(), Durability: Durability(m.GetDurability().String()),
		Duplicate: Duplicate(m.GetDuplicate().String()), Versions: versions,
	}
}

// Item is one item as read.
type Item struct {
	Key string
	// Value is decompressed. Nil when values were left out.
	Value   []byte
	Version string
	// WrittenAt is the time of the write's token.
	WrittenAt time.Time
	// ExpiresAt is zero when the item does not expire.
	ExpiresAt   time.Time
	ContentType string
	// Compression and Size are those of the value as stored.
	Compression string
	Size        int64
	// Chunked: the value was uploaded, being large.
	Chunked bool
}

func (c *Client) item(m *headwaterv1.Item) (Item, error) {
	it := Item{
		Key: string(m.GetKey()), Version: m.GetVersion(), WrittenAt: m.GetWrittenAt().AsTime(), ContentType: m.GetContentType(),
		Compression: m.GetCompression(), Size: m.GetSize(), Chunked: m.GetChunked(),
	}
	c.clock.observe(it.WrittenAt.UnixMicro())
	if m.ExpiresAt != nil {
		it.ExpiresAt = m.ExpiresAt.AsTime()
	}
	if len(m.GetValue()) == 0 {
		it.Value = m.GetValue()
		return it, nil
	}
	var err error
	it.Value, err = decompress(it.Compression, m.GetValue())
	return it, err
}

func ttlMessage(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}
