package counter

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// appendAnswer writes the Data of an exception `answered`: outcome, violation and
// how a reservation ended (1 each), then value, held, applied delta and the end
// of a lease (zigzag varints).
func appendAnswer(dst []byte, e *TokenEntry) []byte {
	dst = append(dst, byte(e.Outcome), byte(e.Violation), byte(e.Ended))
	for _, v := range [...]int64{e.Value, e.Held, e.AppliedDelta, e.ExpiresAt} {
		dst = binary.AppendVarint(dst, v)
	}
	return dst
}

func decodeAnswer(b []byte, e *TokenEntry) error {
	bad := fmt.Errorf("%w: answer of %d bytes", wal.ErrCorrupt, len(b))
	if len(b) < 3 {
		return bad
	}
	e.Outcome, e.Violation, e.Ended = Outcome(b[0]), Violation(b[1]), ReservationState(b[2])
	b = b[3:]
	for _, v := range [...]*int64{&e.Value, &e.Held, &e.AppliedDelta, &e.ExpiresAt} {
		x, n := binary.Varint(b)
		if n <= 0 {
			return bad
		}
		*v, b = x, b[n:]
	}
	if len(b) != 0 {
		return bad
	}
	return nil
}

// appendTaken writes the Data of an exception `taken`: outcome and violation (1
// each), then the delta that was added (zigzag varint).
func appendTaken(dst []byte, out Outcome, delta int64, v Violation) []byte {
	return binary.AppendVarint(append(dst, byte(out), byte(v)), delta)
}

func decodeTaken(b []byte) (out Outcome, delta int64, v Violation, err error) {
	if len(b) > 2 {
		if delta, n := binary.Varint(b[2:]); n == len(b)-2 {
			return Outcome(b[0]), delta, Violation(b[1]), nil
		}
	}
	return 0, 0, 0, fmt.Errorf("%w: decision of an add in %d bytes", wal.ErrCorrupt, len(b))
}
