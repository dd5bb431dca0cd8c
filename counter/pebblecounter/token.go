package pebblecounter

import (
	"context"
	"encoding/binary"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// appendToken writes an entry: hash, outcome, offset, times, and the answer
// where there is one.
func appendToken(dst []byte, e *counter.TokenEntry) []byte {
	dst = append(dst, valueVersion)
	dst = append(dst, e.Hash[:]...)
	dst = append(dst, byte(e.Outcome))
	dst = binary.AppendVarint(dst, int64(e.Offset))
	dst = binary.AppendVarint(dst, e.LogTime)
	// The others are of about the same time.
	dst = binary.AppendVarint(dst, e.AcceptedAt-e.LogTime)
	dst = binary.AppendVarint(dst, e.Time-e.LogTime)
	if e.Value == 0 && e.Held == 0 && e.AppliedDelta == 0 && e.Violation == 0 && e.ExpiresAt == 0 && e.Ended == 0 {
		return dst
	}
	dst = append(dst, byte(e.Violation), byte(e.Ended))
	dst = binary.AppendVarint(dst, e.Value)
	dst = binary.AppendVarint(dst, e.Held)
	dst = binary.AppendVarint(dst, e.AppliedDelta)
	return binary.AppendVarint(dst, e.ExpiresAt)
}

// decodeToken keeps nothing of b.
func decodeToken(n wal.Nonce, b []byte) (e counter.TokenEntry, err error) {
	r, err := open("token entry", b)
	if err != nil {
		return e, err
	}
	e.Nonce = n
	copy(e.Hash[:], r.bytes(len(e.Hash)))
	e.Outcome = counter.Outcome(r.byte())
	e.Offset = wal.Offset(r.int())
	e.LogTime = r.int()
	e.AcceptedAt = e.LogTime + r.int()
	e.Time = e.LogTime + r.int()
	if len(r.b) > 0 {
		e.Violation = counter.Violation(r.byte())
		e.Ended = counter.ReservationState(r.byte())
		e.Value, e.Held, e.AppliedDelta, e.ExpiresAt = r.int(), r.int(), r.int(), r.int()
	}
	return e, r.done("token entry")
}

// Token implements counter.Store. An entry is found as soon as its Commit
// returned.
func (s *Store) Token(ctx context.Context, p wal.Partition, n wal.Nonce) (newest counter.TokenEntry, ok bool, err error) {
	if _, err := s.enter(ctx, p); err != nil {
		return counter.TokenEntry{}, false, err
	}
	defer s.leave()
	err = s.tokens.Lookup(p, n, func(value []byte) error {
		e, err := decodeToken(n, value)
		if err == nil && (!ok || e.Offset > newest.Offset) {
			newest, ok = e, true
		}
		return err
	})
	if err != nil {
		return counter.TokenEntry{}, false, s.db.ReadError("read token", p, err)
	}
	return newest, ok, nil
}
