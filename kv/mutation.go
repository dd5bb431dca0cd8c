package kv

import (
	"bytes"

	"github.com/headwater-db/headwater/wal"
)

// Op says what a mutation does. The numbers are part of the data format.
type Op uint8

// The operations.
const (
	OpPut          Op = 1 // Items
	OpDeleteKeys   Op = 2 // Keys
	OpDeleteRange  Op = 3 // Range
	OpDeleteRecord Op = 4
	OpBeginUpload  Op = 5 // Upload, Items[0] without a value
	OpChunk        Op = 6 // Upload, Chunk; needs no token: its place is its identity
	OpCommitUpload Op = 7 // Upload, Items[0] without a value
	OpAbortUpload  Op = 8 // Upload
)

// ConditionKind says what must hold for a call to have its effect.
type ConditionKind uint8

// The conditions.
const (
	Always    ConditionKind = 0
	IfAbsent  ConditionKind = 1 // none of the call's keys exists
	IfVersion ConditionKind = 2 // the one item is at Condition.Version
)

// Condition is decided by the applier of the partition, in log order.
type Condition struct {
	Kind    ConditionKind
	Version wal.Version
}

// Item is one key of a record with what a put says of it.
type Item struct {
	Key         []byte
	Value       []byte
	Expiry      int64 // microseconds since 1970; 0 = never
	TTL         int64 // of a request, microseconds; 0 = the namespace's; becomes Expiry when it is accepted
	Compression string
	ContentType string
}

// Range is a span of item keys: Start inclusive; End exclusive, and without an
// upper end when Open is set.
type Range struct {
	Start, End []byte
	Open       bool
}

// Contains reports whether key lies in r.
func (r Range) Contains(key []byte) bool {
	return string(key) >= string(r.Start) && (r.Open || string(key) < string(r.End))
}

// Empty reports whether no key lies in r.
func (r Range) Empty() bool { return !r.Open && bytes.Compare(r.Start, r.End) >= 0 }

// UploadID names a staged large value: the identity of the write that began it.
type UploadID = wal.TokenID

// Upload is the part of an upload that a mutation speaks of.
type Upload struct {
	ID     UploadID
	Expiry int64 // begin: when it is given up by log time, microseconds since 1970
	// Chunk:
	Index int
	Data  []byte
	// Commit: what the whole must be.
	Chunks int
	Size   int64
	SHA256 [32]byte
}

// Mutation is one change of one record. Slices of a decoded mutation point into
// the bytes that it was decoded from.
type Mutation struct {
	Op        Op
	ID        []byte
	Condition Condition
	// Early stamps the mutation one microsecond before its token: a delete that
	// a later put of the same group survives.
	Early  bool
	Items  []Item
	Keys   [][]byte
	Range  Range
	Upload Upload
}

// Call is what one token covers: its mutations happen together or not at all.
type Call struct {
	// Token and Hash are zero in a record of one call: then they are the record's.
	Token     wal.Token
	Hash      wal.Hash
	Mutations []Mutation
}

// IdentityOf is the identity of the mutations of one call under a token: that of a
// write of their record, or, when they are of several records, that of a call over
// them. All are of one partition.
func IdentityOf(ms []Mutation, n wal.Nonce) wal.TokenID {
	smallest, several := ms[0].ID, false
	for i := 1; i < len(ms); i++ {
		switch c := bytes.Compare(ms[i].ID, smallest); {
		case c < 0:
			smallest, several = ms[i].ID, true
		case c > 0:
			several = true
		}
	}
	if several {
		return wal.CallIDOf(smallest, n)
	}
	return wal.IDOf(smallest, n)
}

// Payload is the content of a KindKV record: the calls of one partition that
// were sent together. Each is decided by itself.
type Payload struct {
	Calls []Call
}
