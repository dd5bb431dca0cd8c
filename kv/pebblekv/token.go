package pebblekv

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const (
	minTokenExp = 20 // about a second
	maxTokenExp = 50 // about 35 years
	// bucketsInWindow is how many buckets a window spans at least, give or take
	// the power of two.
	bucketsInWindow = 8

	tokenLen = 16 + 8 + 8 + 8 + 8 + 1
)

// SetTokenWindow tells the store how long tokens are kept now. It decides how
// wide new buckets are, and with it how late after the window an entry is freed
// (an eighth at most) and how many filters a look-up asks. Safe to call at any
// time.
func (s *Store) SetTokenWindow(window time.Duration) {
	exp := bits.Len64(uint64(max(window.Microseconds(), 1)) / bucketsInWindow)
	s.tokenExp.Store(uint32(min(max(exp, minTokenExp), maxTokenExp)))
}

// tokens is the buckets of a partition: what is in each is in the store.
type tokens struct {
	// buckets is replaced, never changed; by the partition's applier alone once
	// the store is open.
	buckets atomic.Pointer[[]*bucket]
}

type bucket struct {
	id     bucketID
	count  atomic.Int64 // entries committed, about: a nonce saved twice counts twice
	filter filter
}

func (t *tokens) list() []*bucket {
	if p := t.buckets.Load(); p != nil {
		return *p
	}
	return nil
}

func (t *tokens) live() (n int64) {
	for _, b := range t.list() {
		n += b.count.Load()
	}
	return n
}

func (t *tokens) add(b *bucket) {
	old := t.list()
	grown := append(old[:len(old):len(old)], b)
	t.buckets.Store(&grown)
}

// load adds a bucket that was found on disk.
func (t *tokens) load(id bucketID, count int64) {
	b := &bucket{id: id}
	b.count.Store(count)
	t.add(b)
}

// bucket returns the bucket of a log time, and makes it if there is none.
func (t *tokens) bucket(s *Store, logTime int64) *bucket {
	exp := uint8(s.tokenExp.Load())
	id := bucketID{start: logTime &^ (1<<exp - 1), exp: exp}
	list := t.list()
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].id == id {
			return list[i]
		}
	}
	b := &bucket{id: id}
	b.filter.budget = &s.filterBudget
	b.filter.complete.Store(true)
	t.add(b)
	return b
}

// remove forgets buckets that are gone from the store.
func (t *tokens) remove(gone []*bucket) {
	var left []*bucket
next:
	for _, b := range t.list() {
		for _, g := range gone {
			if b == g {
				b.filter.drop()
				continue next
			}
		}
		left = append(left, b)
	}
	t.buckets.Store(&left)
}

// Token implements kv.Store. An entry is found as soon as its Commit returned.
func (s *Store) Token(ctx context.Context, p wal.Partition, n wal.Nonce) (kv.TokenEntry, bool, error) {
	if err := s.enter(ctx); err != nil {
		return kv.TokenEntry{}, false, err
	}
	defer s.leave()
	part, err := s.partition(p)
	if err != nil {
		return kv.TokenEntry{}, false, err
	}
	var newest kv.TokenEntry
	found := false
	h := nonceHash(&n)
	for _, b := range part.tokens.list() {
		if !b.filter.mayHave(h) {
			continue
		}
		e, ok, err := s.readToken(p, b.id, n)
		if err != nil {
			return kv.TokenEntry{}, false, s.readError("read token", p, err)
		}
		if ok && (!found || e.Offset > newest.Offset) {
			newest, found = e, true
		}
	}
	return newest, found, nil
}

func (s *Store) readToken(p wal.Partition, id bucketID, n wal.Nonce) (e kv.TokenEntry, ok bool, err error) {
	v, c, err := s.db.Get(tokenKey(p, id, n))
	if errors.Is(err, pebble.ErrNotFound) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	e, err = decodeToken(n, v)
	return e, err == nil, errors.Join(err, c.Close())
}

func tokenValueLen(e *kv.TokenEntry) int {
	if e.Current == (wal.Version{}) {
		return tokenLen
	}
	return tokenLen + wal.VersionSize
}

func putToken(dst []byte, e *kv.TokenEntry) {
	copy(dst, e.Hash[:])
	binary.BigEndian.PutUint64(dst[16:], uint64(e.Offset))
	binary.BigEndian.PutUint64(dst[24:], uint64(e.LogTime))
	binary.BigEndian.PutUint64(dst[32:], uint64(e.AcceptedAt))
	binary.BigEndian.PutUint64(dst[40:], uint64(e.Time))
	dst[48] = byte(e.Outcome)
	if len(dst) > tokenLen {
		putVersion(dst[tokenLen:], &e.Current)
	}
}

func decodeToken(n wal.Nonce, b []byte) (e kv.TokenEntry, err error) {
	if len(b) != tokenLen && len(b) != tokenLen+wal.VersionSize {
		return e, fmt.Errorf("%w: token entry of %d bytes", wal.ErrCorrupt, len(b))
	}
	e.Nonce = n
	copy(e.Hash[:], b)
	e.Offset = wal.Offset(binary.BigEndian.Uint64(b[16:]))
	e.LogTime = int64(binary.BigEndian.Uint64(b[24:]))
	e.AcceptedAt = int64(binary.BigEndian.Uint64(b[32:]))
	e.Time = int64(binary.BigEndian.Uint64(b[40:]))
	e.Outcome = kv.Outcome(b[48])
	if len(b) > tokenLen {
		if e.Current, err = wal.DecodeVersion(b[tokenLen:]); err != nil {
			return e, fmt.Errorf("%w: version in a token entry", wal.ErrCorrupt)
		}
	}
	return e, nil
}

// rebuildFilters reads the tokens that are in the store back into memory, in the
// background: until it is through, look-ups in those buckets read the store.
func (s *Store) rebuildFilters(ctx context.Context) {
	s.rebuilds.Add(1)
	var found [][]*bucket
	for _, p := range s.parts {
		for _, b := range p.tokens.list() {
			b.filter.budget = &s.filterBudget
		}
		found = append(found, p.tokens.list())
	}
	go func() {
		defer s.rebuilds.Done()
		for i, list := range found {
			// Newest first: those are asked for most, and have first call on the budget.
			for j := len(list) - 1; j >= 0; j-- {
				if err := s.rebuildFilter(ctx, wal.Partition(i), list[j]); err != nil {
					if ctx.Err() == nil {
						s.log.Error("rebuild token filter", "error", s.readError("read tokens", wal.Partition(i), err))
					}
					return
				}
			}
		}
	}()
}

func (s *Store) rebuildFilter(ctx context.Context, p wal.Partition, b *bucket) error {
	lo, hi := bucketSpan(p, b.id)
	// An iterator keeps memtables and files alive, so it is not held for long.
	const perIterator = 1 << 16
	for {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
		if err != nil {
			return err
		}
		n := 0
		for ok := it.First(); ok && n < perIterator && ctx.Err() == nil; ok = it.Next() {
			k := it.Key()
			if len(k) != tableLen+bucketLen+nonceLen {
				return errors.Join(errBadCell, it.Close())
			}
			b.filter.add(nonceHash((*wal.Nonce)(k[tableLen+bucketLen:])))
			lo = append(append(lo[:0], k...), 0)
			n++
		}
		if err := it.Close(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if n < perIterator {
			b.filter.rebuilt()
			return nil
		}
	}
}
