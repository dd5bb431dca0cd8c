package pebblecounter

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var (
	errBadKey   = fmt.Errorf("%w: key of no known form", wal.ErrCorrupt)
	errBadValue = pebblestore.ErrBadValue
)

const baseCleared = 1

func appendBase(dst []byte, b *counter.Base) []byte {
	flags := byte(0)
	if b.Cleared {
		flags = baseCleared
	}
	dst = append(pebblestore.AppendVersion(dst), flags)
	dst = binary.AppendVarint(dst, b.Sum)
	return binary.AppendVarint(dst, b.Events)
}

func decodeBase(v []byte) (b counter.Base, err error) {
	r, err := pebblestore.ReadValue("base", v)
	if err != nil {
		return b, err
	}
	flags := r.Byte()
	if flags > baseCleared {
		r.Fail()
	}
	b.Cleared = flags == baseCleared
	b.Sum, b.Events = r.Int(), r.Int()
	return b, r.Done("base")
}

// decodeRetired returns the offset of the record that an id was retired by.
func decodeRetired(v []byte) (wal.Offset, error) {
	r, err := pebblestore.ReadValue("retired id", v)
	if err != nil {
		return 0, err
	}
	o := wal.Offset(r.Int())
	return o, r.Done("retired id")
}
