package gateway

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"unicode/utf8"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/wal"
)

// A reservation's id is the URL-safe base64, without padding, of: a version byte,
// the identity of the write that reserved (16 bytes), the counter's name, and the CRC-32C of all
// that (4 bytes, big-endian). It is opaque to callers; the check tells an id that
// was cut or mistyped from one that is unknown.
const (
	reservationVersion = 1
	reservationHead    = 1 + len(wal.TokenID{})
	reservationSum     = 4
	maxReservationID   = (reservationHead + MaxCounterName + reservationSum + 2) / 3 * 4
)

func reservationID(by wal.TokenID, name string) string {
	b := make([]byte, 0, reservationHead+len(name)+reservationSum)
	b = append(b, reservationVersion)
	b = append(b, by[:]...)
	b = append(b, name...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseReservationID is the strict inverse of reservationID.
func parseReservationID(id string) (by wal.TokenID, name string, err error) {
	bad := apierrors.New(apierrors.BadReservationID, "reservation_id is not one that ReserveCount gave; send it unchanged")
	if len(id) > maxReservationID || strings.ContainsAny(id, "\r\n") { // base64 would skip line ends
		return by, "", bad
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(b) <= reservationHead+reservationSum || b[0] != reservationVersion {
		return by, "", bad
	}
	body, sum := b[:len(b)-reservationSum], binary.BigEndian.Uint32(b[len(b)-reservationSum:])
	copy(by[:], body[1:])
	name = string(body[reservationHead:])
	if sum != crc32.Checksum(body, castagnoli) || len(name) > MaxCounterName || !utf8.ValidString(name) {
		return wal.TokenID{}, "", bad
	}
	return by, name, nil
}
