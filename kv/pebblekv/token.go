package pebblekv

import (
	"context"
	"encoding/binary"
	"fmt"
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
		return kv.TokenEntry{}, false, s.readError("read token", p, err)
	}
	return newest, found, nil
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
