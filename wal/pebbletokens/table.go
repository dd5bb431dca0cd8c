package pebbletokens

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

const (
	minExp = 20 // about a second
	maxExp = 50 // about 35 years
	// bucketsInWindow is how many buckets a window spans at least, give or take
	// the power of two.
	bucketsInWindow = 8

	stateHeadLen  = 2
	stateEntryLen = bucketLen + 8

	defaultWindow      = 15 * time.Minute
	defaultFilterBytes = 64 << 20
)

// Config says where a table lies and what it may use.
type Config struct {
	DB *pebble.DB
	// Table is the first byte of every key of the table. Nothing else in DB has
	// keys that begin with it.
	Table byte
	// Partitions is 1 to 65536. Every partition that a method takes is below it.
	Partitions int
	// Window is how long entries are kept, as far as the table needs to know to
	// choose its buckets: any value is correct. 0 is 15 minutes. It can be changed
	// by SetWindow.
	Window time.Duration
	// FilterBytes bounds the memory of all filters. Beyond it a look-up of an identity
	// that was never seen costs reads, and stays right. About 1.5 bytes are used
	// for an entry. 0 is 64 MiB, negative is no filters.
	FilterBytes int64
	// OnError is called at most once, from a goroutine of the table's, when entries
	// could not be read back into filters. Look-ups stay right: they go to Pebble.
	// The error names the partition and wraps wal.ErrCorrupt if that is why. It
	// must be set.
	OnError func(error)
}

// Table is the token table of a store. See the package comment for what may run
// at the same time.
type Table struct {
	cfg    Config
	exp    atomic.Uint32 // width of new buckets: 2^exp microseconds
	budget atomic.Int64  // bytes left for filters
	parts  []partition

	stop    context.CancelFunc
	ctx     context.Context // of the rebuild; done when the table is closed
	rebuilt chan struct{}   // closed when the rebuild has ended, however
	once    sync.Once       // the rebuild is started, or never will be
}

// partition is the buckets of a partition: what is in each is in Pebble.
type partition struct {
	// buckets is replaced, never changed: replaced under mu, read without.
	buckets atomic.Pointer[[]*bucket]
	mu      sync.Mutex
}

type bucket struct {
	id bucketID
	// count is the entries in every change whose state was made, about. It is
	// written under the partition's mu.
	count  atomic.Int64
	filter filter

	// changes is how many changes have entries for it that are not ended: it stays
	// until then. evicting says that one has a range deletion of it: it takes no
	// more entries. Both are guarded by the partition's mu and exclude each other.
	changes  int
	evicting bool
}

// New makes a table of what is in cfg.DB. It reads nothing: Load, for each
// partition that has a saved state, and Rebuild come next.
func New(cfg Config) (*Table, error) {
	if cfg.Partitions < 1 || cfg.Partitions > math.MaxUint16+1 {
		return nil, fmt.Errorf("make token table: %d partitions, want 1 to %d", cfg.Partitions, math.MaxUint16+1)
	}
	if cfg.OnError == nil {
		return nil, errors.New("make token table: nobody to tell of errors")
	}
	t := &Table{cfg: cfg, parts: make([]partition, cfg.Partitions), rebuilt: make(chan struct{})}
	t.ctx, t.stop = context.WithCancel(context.Background())
	if cfg.Window == 0 {
		cfg.Window = defaultWindow
	}
	t.SetWindow(cfg.Window)
	if cfg.FilterBytes == 0 {
		cfg.FilterBytes = defaultFilterBytes
	}
	t.budget.Store(max(cfg.FilterBytes, 0))
	t.cfg = cfg
	return t, nil
}

// SetWindow tells the table how long entries are kept now. It decides how wide
// new buckets are, and with it how late after the window an entry is freed (an
// eighth at most) and how many filters a look-up asks. Safe to call at any time.
func (t *Table) SetWindow(window time.Duration) {
	exp := bits.Len64(uint64(max(window.Microseconds(), 1)) / bucketsInWindow)
	t.exp.Store(uint32(min(max(exp, minExp), maxExp)))
}

// Load takes over the buckets of a partition, as the state says which its last
// commit saved, and returns what is behind them in b. An error wraps
// wal.ErrCorrupt. It comes before Rebuild and before any other use of the
// partition; a partition without a state needs none.
func (t *Table) Load(p wal.Partition, b []byte) (rest []byte, err error) {
	if len(b) < stateHeadLen {
		return nil, fmt.Errorf("%w: token buckets in %d bytes", wal.ErrCorrupt, len(b))
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[stateHeadLen:]
	if len(b) < n*stateEntryLen {
		return nil, fmt.Errorf("%w: %d token buckets in %d bytes", wal.ErrCorrupt, n, len(b))
	}
	list := make([]*bucket, n)
	for i := range list {
		bk := t.newBucket(bucketID{start: int64(binary.BigEndian.Uint64(b)), exp: b[8]})
		if bk.id.exp > maxExp {
			return nil, fmt.Errorf("%w: token bucket of 2^%d microseconds", wal.ErrCorrupt, bk.id.exp)
		}
		bk.count.Store(int64(binary.BigEndian.Uint64(b[bucketLen:])))
		list[i] = bk
		b = b[stateEntryLen:]
	}
	t.parts[p].buckets.Store(&list)
	return b, nil
}

// newBucket makes a bucket whose filter is not known to be complete.
func (t *Table) newBucket(id bucketID) *bucket {
	b := &bucket{id: id}
	b.filter.budget = &t.budget
	return b
}

func (p *partition) list() []*bucket {
	if l := p.buckets.Load(); l != nil {
		return *l
	}
	return nil
}

// openLocked returns the bucket of an id that takes entries, and makes it if
// there is none.
func (p *partition) openLocked(t *Table, id bucketID) *bucket {
	list := p.list()
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].id == id && !list[i].evicting {
			return list[i]
		}
	}
	b := t.newBucket(id)
	// Nothing is in Pebble that is not in the list. (Where one of the same name is
	// being evicted, that one is still in the list too.)
	b.filter.complete.Store(true)
	grown := append(list[:len(list):len(list)], b)
	p.buckets.Store(&grown)
	return b
}

// removeLocked forgets buckets that are gone from Pebble.
func (p *partition) removeLocked(gone []*bucket) {
	left := make([]*bucket, 0, len(p.list()))
	for _, b := range p.list() {
		if slices.Contains(gone, b) {
			b.filter.drop()
		} else {
			left = append(left, b)
		}
	}
	p.buckets.Store(&left)
}

// Lookup calls found with the value of each entry of an identity, in the order in
// which their buckets were made. There is none for an identity that was not added or
// whose buckets were evicted, mostly one, and more when the identity was added in
// different buckets: which counts is for the caller to say. The value is valid
// until found returns; an error of found ends the look-up and is returned as it
// is. Damage wraps wal.ErrCorrupt.
//
// An entry is found as soon as its batch was applied; one whose batch is being
// applied may be found or not.
func (t *Table) Lookup(p wal.Partition, n wal.TokenID, found func(value []byte) error) error {
	h := idHash(&n)
	for _, b := range t.parts[p].list() {
		if !b.filter.mayHave(h) {
			continue
		}
		if err := t.read(p, b.id, n, found); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) read(p wal.Partition, id bucketID, n wal.TokenID, found func([]byte) error) error {
	v, c, err := t.cfg.DB.Get(appendKey(make([]byte, 0, keyLen), t.cfg.Table, p, id, &n))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return asCorrupt(err)
	}
	err = found(v)
	return errors.Join(err, c.Close())
}

// Live returns how many entries of a partition are not evicted, about: those
// whose change has made its state, also when it is not applied yet.
func (t *Table) Live(p wal.Partition) (n int64) {
	for _, b := range t.parts[p].list() {
		n += b.count.Load()
	}
	return n
}

// FilterBytes returns how much memory the filters use now.
func (t *Table) FilterBytes() int64 { return max(t.cfg.FilterBytes, 0) - t.budget.Load() }

// asCorrupt makes errors.Is(err, wal.ErrCorrupt) hold for what Pebble calls
// corruption.
func asCorrupt(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, wal.ErrCorrupt) {
		return fmt.Errorf("%w: %w", wal.ErrCorrupt, err)
	}
	return err
}
