package pebblecounter

import (
	"encoding/binary"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// appendToken writes an entry: hash, outcome, offset, times, and the answer
// where there is one.
func appendToken(dst []byte, e *counter.TokenEntry) []byte {
	dst = pebblestore.AppendVersion(dst)
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
func decodeToken(n wal.TokenID, b []byte) (e counter.TokenEntry, err error) {
	r, err := pebblestore.ReadValue("token entry", b)
	if err != nil {
		return e, err
	}
	e.ID = n
	copy(e.Hash[:], r.Bytes(len(e.Hash)))
	e.Outcome = counter.Outcome(r.Byte())
	e.Offset = wal.Offset(r.Int())
	e.LogTime = r.Int()
	e.AcceptedAt = e.LogTime + r.Int()
	e.Time = e.LogTime + r.Int()
	if len(r.Rest()) > 0 {
		e.Violation = counter.Violation(r.Byte())
		e.Ended = counter.ReservationState(r.Byte())
		e.Value, e.Held, e.AppliedDelta, e.ExpiresAt = r.Int(), r.Int(), r.Int(), r.Int()
	}
	return e, r.Done("token entry")
}
