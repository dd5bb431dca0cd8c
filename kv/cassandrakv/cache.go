package cassandrakv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/wal"
)

// The cache has items of Cassandra in the ledger's own Pebble: what a Commit changes there, and the position,
// are one batch, so that a hit is as of the position of the store. A record is in it whole, or some of its
// keys are; a key that is known to be absent is a row too.
//
//	'K' p len(2) id 0x00      header: flags (1: whole), bytes (4), when it was filled (8, seconds since 1970)
//	'K' p len(2) id 0x01 key  0 of an absent key, or 1, the version's time (8) and the cell as Cassandra has it
//	'K' 0xffff                the cache is on: what it has is kept up to date

// CacheConfig is what a cache may use.
type CacheConfig struct {
	TTL      time.Duration // what was filled longer ago is freed; 0 is never
	MaxBytes int64         // 0: 1 GiB
}

const (
	tableCache  = 'K'
	cacheHeader = 0x00
	cacheItem   = 0x01
	cacheEnd    = 0x02

	flagWhole = 1

	defaultCacheBytes = 1 << 30
	// mostWholeBytes and mostWholeRows are of a record that is kept whole; mostCellBytes is of an item.
	mostWholeBytes = 64 << 10
	mostWholeRows  = 1000
	mostCellBytes  = 256 << 10
)

// CacheStats are counts since the store was opened.
type CacheStats struct {
	On           bool
	Hits, Misses int64
	Filled       int64 // records
	Unkept       int64 // answers that were not kept, because a commit touched their record meanwhile
	Evicted      int64 // records
	Bytes        int64 // about
}

type cache struct {
	cfg CacheConfig

	hits, misses, filled, unkept, evicted, bytes atomic.Int64
}

// CacheStats says how the cache does.
func (s *Store) CacheStats() CacheStats {
	c := s.cache.Load()
	if c == nil {
		return CacheStats{}
	}
	return CacheStats{
		On: true, Hits: c.hits.Load(), Misses: c.misses.Load(), Filled: c.filled.Load(), Unkept: c.unkept.Load(),
		Evicted: c.evicted.Load(), Bytes: max(c.bytes.Load(), 0),
	}
}

// SetCache turns the cache on, changes what it may use, or turns it off (nil), which empties it. One that
// was on when the store was last open has what it had. Not called by two goroutines at once.
func (s *Store) SetCache(cfg *CacheConfig) error {
	before := s.cache.Load()
	if cfg == nil {
		s.cache.Store(nil)
		return s.emptyCache(false)
	}
	c := &cache{cfg: *cfg}
	if c.cfg.MaxBytes == 0 {
		c.cfg.MaxBytes = defaultCacheBytes
	}
	if before != nil {
		if before.cfg == c.cfg {
			return nil
		}
		c.bytes.Store(before.bytes.Load())
		c.hits.Store(before.hits.Load())
		c.misses.Store(before.misses.Load())
		s.cache.Store(c)
		return nil
	}
	on, err := s.DB.Value(cacheMark)
	if err != nil {
		return err
	}
	if on == nil {
		err = s.emptyCache(true)
	} else {
		var used uint64
		lo, hi := []byte{tableCache}, []byte{tableCache + 1}
		used, err = s.DB.EstimateDiskUsage(lo, hi)
		c.bytes.Store(int64(used))
	}
	if err == nil {
		s.cache.Store(c)
	}
	return err
}

// emptyCache removes what is cached, and says whether the cache is on from now on.
func (s *Store) emptyCache(on bool) error {
	if err := s.Enter(context.Background(), 0); err != nil {
		return err
	}
	defer s.Leave()
	err := s.DB.Change(func(w *pebble.Batch) error {
		err := w.DeleteRange([]byte{tableCache}, []byte{tableCache + 1}, nil)
		if err == nil && on {
			err = w.Set(cacheMark, nil, nil)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("empty the cache: %w", err)
	}
	return nil
}

// cacheMark is the row that says that the cache is on. No partition has its number.
var cacheMark = []byte{tableCache, 0xff, 0xff}

// recordCacheKey is the key of a record's rows of a kind, with room for extra more bytes.
func recordCacheKey(p wal.Partition, id []byte, kind byte, extra int) []byte {
	k := make([]byte, 0, pebblestore.TableLen+2+len(id)+1+extra)
	k = pebblestore.AppendTable(k, tableCache, p)
	k = binary.BigEndian.AppendUint16(k, uint16(len(id)))
	k = append(k, id...)
	return append(k, kind)
}

func itemCacheKey(p wal.Partition, id, key []byte) []byte {
	return append(recordCacheKey(p, id, cacheItem, len(key)), key...)
}

type header struct {
	whole  bool
	bytes  uint32
	filled int64 // seconds since 1970
}

const headerLen = 1 + 4 + 8

func (h *header) encode() []byte {
	b := make([]byte, headerLen)
	if h.whole {
		b[0] = flagWhole
	}
	binary.BigEndian.PutUint32(b[1:], h.bytes)
	binary.BigEndian.PutUint64(b[5:], uint64(h.filled))
	return b
}

func decodeHeader(b []byte) (h header, err error) {
	if len(b) != headerLen || b[0]&^flagWhole != 0 {
		return h, errBadCache
	}
	return header{b[0] == flagWhole, binary.BigEndian.Uint32(b[1:]), int64(binary.BigEndian.Uint64(b[5:]))}, nil
}

var errBadCache = fmt.Errorf("%w: row of the cache of no known form", wal.ErrCorrupt)

// headerOf reads the header of a record; ok is false where nothing of it is cached.
func headerOf(from pebble.Reader, p wal.Partition, id []byte) (h header, ok bool, err error) {
	v, closer, err := from.Get(recordCacheKey(p, id, cacheHeader, 0))
	if errors.Is(err, pebble.ErrNotFound) {
		return h, false, nil
	}
	if err != nil {
		return h, false, err
	}
	h, err = decodeHeader(v)
	return h, err == nil, errors.Join(err, closer.Close())
}

// cachedRow is what is known of a key.
type cachedRow struct {
	known  bool
	absent bool
	row    row
	cell   []byte // as Cassandra has it
}

func encodeItem(r *row, cell []byte) []byte {
	b := make([]byte, 0, 9+len(cell))
	b = binary.BigEndian.AppendUint64(append(b, 1), uint64(r.version.Time))
	return append(b, cell...)
}

// decodeItem keeps b.
func decodeItem(key, b []byte) (c cachedRow, err error) {
	switch {
	case len(b) == 1 && b[0] == 0:
		return cachedRow{known: true, absent: true}, nil
	case len(b) < 9 || b[0] != 1:
		return c, errBadCache
	}
	c.known, c.cell, c.row.key = true, b[9:], key
	c.row.cell, c.row.version, err = parseCell(c.cell, int64(binary.BigEndian.Uint64(b[1:])))
	return c, err
}

// itemOf reads what is known of a key, into memory of its own.
func itemOf(from pebble.Reader, p wal.Partition, id, key []byte) (c cachedRow, err error) {
	v, closer, err := from.Get(itemCacheKey(p, id, key))
	if errors.Is(err, pebble.ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	c, err = decodeItem(key, append(make([]byte, 0, len(v)), v...))
	return c, errors.Join(err, closer.Close())
}
