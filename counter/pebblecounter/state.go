package pebblecounter

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

const stateExpiring = 1

// appendState writes what counters have of a state beside the common part.
func appendState(dst []byte, st *counter.State) []byte {
	flags := byte(0)
	if st.Expiring {
		flags = stateExpiring
	}
	dst = append(pebblestore.AppendVersion(dst), flags)
	return binary.AppendVarint(dst, int64(st.Folded))
}

func decodeState(b []byte, st *counter.State) (rest []byte, err error) {
	r, err := pebblestore.ReadValue("state of counters", b)
	if err != nil {
		return nil, err
	}
	flags := r.Byte()
	st.Expiring, st.Folded = flags&stateExpiring != 0, wal.Offset(r.Int())
	if r.Bad() || flags > stateExpiring {
		return nil, fmt.Errorf("state of counters: %w", errBadValue)
	}
	return r.Rest(), nil
}
