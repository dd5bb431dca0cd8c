package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Store holds the items of one namespace, all its partitions. It is written by
// one applier per partition, through Batch, and by Sweep in the same goroutine;
// everything else may be called at any time by anyone. Use after Close is
// ErrClosed.
type Store interface {
	consumers.Ledger[TokenEntry]

	// Begin starts a batch of changes of one partition. One batch per partition is
	// open at a time.
	Begin(p wal.Partition) Batch

	// Item returns an item as of now (microseconds since 1970), without the value
	// of an upload: found is false when it is absent, deleted or expired then.
	// newest is the version of the newest write or delete that covers the key, also
	// when it is not found: a conditional write must be above it.
	Item(ctx context.Context, p wal.Partition, id, key []byte, now int64) (it StoredItem, newest wal.Version, found bool, err error)

	// Get reads a page of one record.
	Get(ctx context.Context, q *Query) (*Page, error)

	// Scan reads a page of a partition, records in an order that is the store's
	// own and does not change.
	Scan(ctx context.Context, q *ScanQuery) (*ScanPage, error)

	// Snapshot is a view of a partition as of its last commit, which later commits
	// do not change. Close it.
	Snapshot(ctx context.Context, p wal.Partition) (Snapshot, error)

	// Upload returns a staged or committed upload.
	Upload(ctx context.Context, p wal.Partition, id UploadID) (StoredUpload, bool, error)

	// ReadChunk returns chunk index of an upload; wal.ErrCorrupt when what is
	// stored is not what was written, ErrNoChunk when there is none.
	ReadChunk(ctx context.Context, p wal.Partition, id UploadID, index int) ([]byte, error)

	// Sweep frees what nobody can see any more, in the goroutine of the
	// partition's applier and between its batches.
	Sweep(ctx context.Context, s *SweepRequest) (SweepResult, error)
}

// State is what a store saves of a partition with every effect.
type State = consumers.State

// Batch collects changes of one partition. It copies what it is given. Order
// matters only for equal versions, where the later call wins. Used by one
// goroutine.
type Batch interface {
	consumers.Batch[State, TokenEntry]

	// Put writes an item, or the tombstone of one when v.Class is wal.Deleted.
	// A newer version in the store stands: the store compares, the caller need not.
	Put(id []byte, v wal.Version, it *StoredItem)
	// DeleteRange deletes every item of id in r that is older than v, at a cost
	// that does not depend on their number. newest says that no item of the
	// partition is newer than v, so that the space can be freed at once.
	DeleteRange(id []byte, r Range, v wal.Version, newest bool)
	// DeleteRecord is DeleteRange over every key of id.
	DeleteRecord(id []byte, v wal.Version, newest bool)
	SaveUpload(u *StoredUpload)
	SaveChunk(id UploadID, index int, data []byte)
	DropUpload(id UploadID)
}

// StoredItem is an item as a store holds it.
type StoredItem struct {
	Key         []byte
	Value       []byte // nil when Upload is set or values were omitted
	Version     wal.Version
	Size        int64 // of the value, bytes as written by the client
	Compression string
	ContentType string
	// Upload is where the value of an uploaded item is; zero for an inline one.
	Upload UploadID
	Chunks int
	SHA256 [32]byte
}

// Outcome is what the applier decided of a call. The numbers are part of the
// data format.
type Outcome uint8

// The outcomes that a token entry can carry.
const (
	Applied         Outcome = 1
	ConditionFailed Outcome = 2 // Current is the version found, zero when absent
	UploadUnknown   Outcome = 3 // the upload never began, expired, or was aborted
	UploadBroken    Outcome = 4 // chunks are missing, or size or checksum differ
)

// TokenEntry is what a store remembers of a token.
type TokenEntry struct {
	ID         wal.TokenID
	Hash       wal.Hash
	Offset     wal.Offset
	LogTime    int64 // of the record; the entry is forgotten one window after it
	AcceptedAt int64 // of the record
	Time       int64 // version time that the call's items got
	Outcome    Outcome
	Current    wal.Version
	// DefaultTTL is that of the namespace when the record was accepted,
	// microseconds, 0 for none; not of entries that were saved before it was kept.
	DefaultTTL int64
}

// Request implements wal.Decided.
func (e TokenEntry) Request() (wal.Hash, int64) { return e.Hash, e.LogTime }

// StoredUpload is a large value on its way, or arrived.
type StoredUpload struct {
	ID     UploadID
	Record []byte // record id
	Key    []byte
	Expiry int64 // given up by log time, microseconds since 1970
	// What the item will be: its time to live in microseconds from the commit (0
	// is the namespace's), and how its value is written.
	TTL         int64
	Compression string
	ContentType string
	Committed   bool
	Version     wal.Version // when committed
	Chunks      int         // when committed
}

// ParkedQueue is the records of a key that wait behind a poisonous one.
type ParkedQueue = consumers.ParkedQueue

// Query asks for a page of one record.
type Query struct {
	Partition wal.Partition
	ID        []byte
	// One of: all keys (neither set), these Keys in this order, or Range.
	Keys       [][]byte
	HasKeys    bool
	Range      Range
	HasRange   bool
	Descending bool
	// After continues behind this key (in the direction of the query) or, for
	// Keys, AfterIndex continues at that index.
	After      []byte
	HasAfter   bool
	AfterIndex int
	Now        int64 // readers judge expiry at it; microseconds since 1970
	// MaxBytes ends the page before it gets larger, but never before its first
	// item. ItemLimit 0 is none.
	MaxBytes   int
	ItemLimit  int
	OmitValues bool
	// OmitAbove, when not 0, leaves out the values that have more bytes.
	OmitAbove int64
	// InlineLimit: the value of an upload above it is left out. Below, it is
	// put together from its chunks.
	InlineLimit int64
	// Deadline ends the page early, marked Partial, with at least the progress
	// that LastKey tells. Zero is none.
	Deadline time.Time
	// AnyAge: the read asks for no position, so that it may be answered by a process that reads what the owner
	// has written. It is not sent to an owner.
	AnyAge bool
	// Each, when not nil, is given the items in place of Page.Items, in the order
	// of the page, by the goroutine of the call. An item and what it points to are
	// the store's, for the time of the call. ErrFull ends the page before the item;
	// another error ends the read with it. Items may have been given before the read
	// fails.
	Each func(*StoredItem) error
}

// Rest is what of its record a query without Keys goes on with: its range, behind After.
func (q *Query) Rest() Range {
	r := Range{Open: true}
	if q.HasRange {
		r = q.Range
	}
	if q.HasAfter && q.Descending {
		if r.Open || bytes.Compare(q.After, r.End) < 0 {
			r.End, r.Open = q.After, false
		}
	} else if q.HasAfter && bytes.Compare(q.After, r.Start) >= 0 {
		r.Start = append(append(make([]byte, 0, len(q.After)+1), q.After...), 0)
	}
	return r
}

// ErrFull is what Query.Each returns for an item that is for the next page. It
// takes the first of a page.
var ErrFull = errors.New("the page is full")

// Page is what was found.
type Page struct {
	Items []StoredItem // none with Query.Each
	// More: there may be more behind LastKey (or at NextIndex, for Keys).
	More      bool
	LastKey   []byte // the last key looked at, returned or not
	NextIndex int
	Partial   bool // ended by the deadline
}

// ScanQuery asks for a page of a partition.
type ScanQuery struct {
	Partition wal.Partition
	// After continues behind (AfterID, AfterKey).
	HasAfter    bool
	AfterID     []byte
	AfterKey    []byte
	Now         int64
	MaxBytes    int
	OmitValues  bool
	InlineLimit int64
	Share       Share // which records to return
	Deadline    time.Time
}

// Share is one of several parts of a partition's records, about equal in size, by their ids. The zero
// value is all of them.
type Share struct{ Nth, Of uint64 }

// Has reports whether a record is in the share.
func (s Share) Has(id []byte) bool {
	if s.Of <= 1 {
		return true
	}
	// Another hash than the one that chose the partition, which is the same for all records
	// here modulo the partitions.
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], xxhash.Sum64(id))
	return xxhash.Sum64(seed[:])%s.Of == s.Nth
}

// ScanPage is a page of a partition.
type ScanPage struct {
	Records []ScannedRecord
	More    bool
	LastID  []byte // last place looked at
	LastKey []byte
	Partial bool
}

// ScannedRecord is the part of a record that is on a page.
type ScannedRecord struct {
	ID    []byte
	Items []StoredItem
}

// ItemOverhead is what an item counts on a page beyond its key and value: the
// version, times and framing of an answer, rounded up.
const ItemOverhead = 96

// SweepRequest bounds one sweep.
type SweepRequest struct {
	Partition wal.Partition
	LogTime   int64 // the only clock of a sweep; microseconds since 1970
	// Horizon: nothing generated before it can still be applied. Tombstones older
	// than it and tokens logged before it are freed.
	Horizon int64
	Limit   int    // keys to look at
	Cursor  []byte // from the last sweep; nil starts over
}

// SweepResult says what a sweep did.
type SweepResult struct {
	Looked     int
	Expired    int // items past their expiry
	Covered    int // items that a tombstone had hidden
	Tombstones int
	Tokens     int
	Uploads    int
	Cursor     []byte // nil when the sweep came round
}

// Usage is what a store holds, about.
type Usage = consumers.Usage
