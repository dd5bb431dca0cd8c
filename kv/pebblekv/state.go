package pebblekv

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

const (
	stateHeadLen  = 8 + 8 + 8 + 2
	stateEntryLen = bucketLen + 8
)

// putState encodes st and the token buckets, which are part of the state so that
// Open knows them without a scan. dst is stateLen long.
func putState(dst []byte, st *kv.State, buckets []*bucket) {
	binary.BigEndian.PutUint64(dst[0:], uint64(st.Applied))
	binary.BigEndian.PutUint64(dst[8:], uint64(st.LogTime))
	binary.BigEndian.PutUint64(dst[16:], uint64(st.MaxTime))
	binary.BigEndian.PutUint16(dst[24:], uint16(len(buckets)))
	dst = dst[stateHeadLen:]
	for _, b := range buckets {
		binary.BigEndian.PutUint64(dst, uint64(b.id.start))
		dst[8] = b.id.exp
		binary.BigEndian.PutUint64(dst[bucketLen:], uint64(b.count.Load()))
		dst = dst[stateEntryLen:]
	}
}

func stateLen(buckets []*bucket) int { return stateHeadLen + len(buckets)*stateEntryLen }

func decodeState(b []byte, t *tokens) (st kv.State, err error) {
	if len(b) < stateHeadLen {
		return st, fmt.Errorf("%w: state of %d bytes", wal.ErrCorrupt, len(b))
	}
	st.Applied = wal.Offset(binary.BigEndian.Uint64(b[0:]))
	st.LogTime = int64(binary.BigEndian.Uint64(b[8:]))
	st.MaxTime = int64(binary.BigEndian.Uint64(b[16:]))
	n := int(binary.BigEndian.Uint16(b[24:]))
	b = b[stateHeadLen:]
	if len(b) != n*stateEntryLen || st.Applied < wal.NoOffset {
		return st, fmt.Errorf("%w: state with %d token buckets in %d bytes", wal.ErrCorrupt, n, len(b))
	}
	for range n {
		id := bucketID{start: int64(binary.BigEndian.Uint64(b)), exp: b[8]}
		if id.exp > maxTokenExp {
			return st, fmt.Errorf("%w: token bucket of 2^%d microseconds", wal.ErrCorrupt, id.exp)
		}
		t.load(id, int64(binary.BigEndian.Uint64(b[bucketLen:])))
		b = b[stateEntryLen:]
	}
	return st, nil
}
