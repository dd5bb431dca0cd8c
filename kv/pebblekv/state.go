package pebblekv

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebbletokens"
)

const stateHeadLen = 8 + 8 + 8

// appendState encodes st and, behind it, the token buckets as of change, which are
// part of the state so that Open knows them without a scan.
func appendState(dst []byte, st *kv.State, change *pebbletokens.Change) ([]byte, error) {
	dst = binary.BigEndian.AppendUint64(dst, uint64(st.Applied))
	dst = binary.BigEndian.AppendUint64(dst, uint64(st.LogTime))
	dst = binary.BigEndian.AppendUint64(dst, uint64(st.MaxTime))
	return change.AppendState(dst)
}

// decodeState returns the token buckets, which follow the state, as rest.
func decodeState(b []byte) (st kv.State, rest []byte, err error) {
	if len(b) < stateHeadLen {
		return st, nil, fmt.Errorf("%w: state of %d bytes", wal.ErrCorrupt, len(b))
	}
	st.Applied = wal.Offset(binary.BigEndian.Uint64(b[0:]))
	st.LogTime = int64(binary.BigEndian.Uint64(b[8:]))
	st.MaxTime = int64(binary.BigEndian.Uint64(b[16:]))
	if st.Applied < wal.NoOffset {
		return st, nil, fmt.Errorf("%w: state of %d bytes, applied to %d", wal.ErrCorrupt, len(b), st.Applied)
	}
	return st, b[stateHeadLen:], nil
}
