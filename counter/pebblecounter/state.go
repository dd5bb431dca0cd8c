package pebblecounter

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

const stateExpiring = 1

// appendState writes a state. What the token table needs to know of itself
// follows it in the store, so that Open finds it without a scan.
func appendState(dst []byte, st *counter.State) []byte {
	flags := byte(0)
	if st.Expiring {
		flags = stateExpiring
	}
	dst = append(dst, valueVersion, flags)
	dst = binary.AppendVarint(dst, int64(st.Applied))
	dst = binary.AppendVarint(dst, st.LogTime)
	dst = binary.AppendVarint(dst, st.MaxTime)
	dst = binary.AppendUvarint(dst, st.NextID)
	return binary.AppendVarint(dst, int64(st.Folded))
}

// decodeState returns what follows the state as rest.
func decodeState(b []byte) (st counter.State, rest []byte, err error) {
	r, err := open("state", b)
	if err != nil {
		return st, nil, err
	}
	flags := r.byte()
	if flags > stateExpiring {
		r.fail()
	}
	st = counter.State{
		Expiring: flags&stateExpiring != 0, Applied: wal.Offset(r.int()), LogTime: r.int(), MaxTime: r.int(),
		NextID: r.uint(), Folded: wal.Offset(r.int()),
	}
	if r.bad {
		return counter.State{}, nil, fmt.Errorf("state: %w", errBadValue)
	}
	return st, r.b, nil
}

// newState is that of a partition nothing was committed to.
func newState() counter.State {
	return counter.State{Applied: wal.NoOffset, NextID: 1, Folded: wal.NoOffset}
}
