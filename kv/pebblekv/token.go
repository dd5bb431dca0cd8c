package pebblekv

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const tokenLen = 16 + 8 + 8 + 8 + 8 + 1

// SetTokenWindow tells the store how long tokens are kept now; see
// Config.TokenWindow. Safe to call at any time.
func (s *Store) SetTokenWindow(window time.Duration) { s.tokens.SetWindow(window) }

// Token implements kv.Store. An entry is found as soon as its Commit returned.
func (s *Store) Token(ctx context.Context, p wal.Partition, n wal.Nonce) (kv.TokenEntry, bool, error) {
	if err := s.enter(ctx); err != nil {
		return kv.TokenEntry{}, false, err
	}
	defer s.leave()
	if _, err := s.partition(p); err != nil {
		return kv.TokenEntry{}, false, err
	}
	var newest kv.TokenEntry
	found := false
	err := s.tokens.Lookup(p, n, func(value []byte) error {
		e, err := decodeToken(n, value)
		if err == nil && (!found || e.Offset > newest.Offset) {
			newest, found = e, true
		}
		return err
	})
	if err != nil {
		return kv.TokenEntry{}, false, s.db.ReadError("read token", p, err)
	}
	return newest, found, nil
}

func tokenValueLen(e *kv.TokenEntry) int {
	n := tokenLen
	if e.Current != (wal.Version{}) {
		n += wal.VersionSize
	}
	if e.HasDefaultTTL {
		n += uvarintLen(uint64(e.DefaultTTL))
	}
	return n
}

func putToken(dst []byte, e *kv.TokenEntry) {
	copy(dst, e.Hash[:])
	binary.BigEndian.PutUint64(dst[16:], uint64(e.Offset))
	binary.BigEndian.PutUint64(dst[24:], uint64(e.LogTime))
	binary.BigEndian.PutUint64(dst[32:], uint64(e.AcceptedAt))
	binary.BigEndian.PutUint64(dst[40:], uint64(e.Time))
	dst[48] = byte(e.Outcome)
	dst = dst[tokenLen:]
	if e.Current != (wal.Version{}) {
		putVersion(dst, &e.Current)
		dst = dst[wal.VersionSize:]
	}
	if e.HasDefaultTTL {
		binary.PutUvarint(dst, uint64(e.DefaultTTL))
	}
}

func decodeToken(n wal.Nonce, b []byte) (e kv.TokenEntry, err error) {
	if len(b) < tokenLen {
		return e, fmt.Errorf("%w: token entry of %d bytes", wal.ErrCorrupt, len(b))
	}
	e.Nonce = n
	copy(e.Hash[:], b)
	e.Offset = wal.Offset(binary.BigEndian.Uint64(b[16:]))
	e.LogTime = int64(binary.BigEndian.Uint64(b[24:]))
	e.AcceptedAt = int64(binary.BigEndian.Uint64(b[32:]))
	e.Time = int64(binary.BigEndian.Uint64(b[40:]))
	e.Outcome = kv.Outcome(b[48])
	// What follows is told apart by its length: a number is shorter than a version.
	rest := b[tokenLen:]
	if len(rest) >= wal.VersionSize {
		if e.Current, err = wal.DecodeVersion(rest[:wal.VersionSize]); err != nil {
			return e, fmt.Errorf("%w: version in a token entry", wal.ErrCorrupt)
		}
		rest = rest[wal.VersionSize:]
	}
	if len(rest) > 0 {
		ttl, n := binary.Uvarint(rest)
		if n != len(rest) || ttl > math.MaxInt64 {
			return e, fmt.Errorf("%w: token entry of %d bytes", wal.ErrCorrupt, len(b))
		}
		e.DefaultTTL, e.HasDefaultTTL = int64(ttl), true
	}
	return e, nil
}
