package pebblestore

import (
	"encoding/binary"
	"fmt"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// What flags say of a state.
const (
	stateFollows = 1
	stateSources = 2 // it has some, at its end
)

// appendState writes the part of a state that every store has.
func appendState(dst []byte, st *consumers.State) []byte {
	flags := byte(0)
	if st.Follows {
		flags = stateFollows
	}
	if st.Sources != "" {
		flags |= stateSources
	}
	dst = append(dst, valueVersion, flags)
	dst = binary.AppendVarint(dst, int64(st.Applied))
	dst = binary.AppendVarint(dst, st.LogTime)
	dst = binary.AppendVarint(dst, st.MaxTime)
	dst = binary.AppendUvarint(dst, st.Step)
	dst = binary.AppendVarint(dst, int64(st.FirstException))
	if st.Sources != "" {
		dst = binary.AppendUvarint(dst, uint64(len(st.Sources)))
		dst = append(dst, st.Sources...)
	}
	return dst
}

// decodeState returns what follows as rest.
func decodeState(b []byte) (st consumers.State, rest []byte, err error) {
	r, err := ReadValue("state", b)
	if err != nil {
		return st, nil, err
	}
	flags := r.Byte()
	st = consumers.State{
		Follows: flags&stateFollows != 0, Applied: wal.Offset(r.Int()), LogTime: r.Int(), MaxTime: r.Int(),
		Step: r.Uint(), FirstException: wal.Offset(r.Int()),
	}
	if flags&stateSources != 0 {
		st.Sources = consumers.Sources(r.Bytes(int(min(r.Uint(), 1<<30))))
	}
	if r.Bad() || flags > stateFollows|stateSources || !st.Sources.Valid() || st.Applied < wal.NoOffset {
		return st, nil, fmt.Errorf("state: %w", ErrBadValue)
	}
	return st, r.Rest(), nil
}

// DecodeState reads the row of a partition's state, for a store that reads it with
// other rows as of one moment; nil is that nothing was committed. It keeps nothing
// of row.
func (s *Store[S, E]) DecodeState(row []byte) (S, error) {
	st, _, err := s.layout.decodeState(row)
	return st, err
}

func (l *Layout[S, E]) appendState(dst []byte, st *S) []byte {
	dst = appendState(dst, l.Common(st))
	if l.AppendState != nil {
		dst = l.AppendState(dst, st)
	}
	return dst
}

func (l *Layout[S, E]) decodeState(row []byte) (st S, rest []byte, err error) {
	st = l.Fresh
	if row == nil {
		return st, nil, nil
	}
	if *l.Common(&st), rest, err = decodeState(row); err == nil && l.DecodeState != nil {
		rest, err = l.DecodeState(rest, &st)
	}
	return st, rest, err
}
