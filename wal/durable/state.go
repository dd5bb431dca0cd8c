package durable

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

// state is what is kept of a consumer in a partition: every record below Next is done but those that are open.
type state struct {
	Name string     `json:"name"`
	Life int64      `json:"life"`           // rises when it is made, deleted, or begins anew
	By   string     `json:"by"`             // who wrote this: one opening of the partition by one process
	Seen wal.Offset `json:"seen"`           // up to where that one had read this topic before
	Gone bool       `json:"gone,omitempty"` // it was deleted
	Next wal.Offset `json:"next"`
	// Open is, for each open record in order: its offset less the one before (uvarint), attempts times two, and one more
	// where it was opened again (uvarint).
	Open     []byte     `json:"open,omitempty"`
	Dead     []byte     `json:"dead,omitempty"` // given up, and can be revived: the same
	Missed   int64      `json:"missed,omitempty"`
	GivenUp  int64      `json:"given_up,omitempty"`
	Letter   wal.Offset `json:"letter,omitempty"` // the place of the last that was given up
	Settings Settings   `json:"settings"`
}

// opened is an open record.
type opened struct {
	offset   wal.Offset
	attempts int
	again    bool // it was passed before, and redriven
}

func (s *state) encode() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode consumer %s: %w", s.Name, err)
	}
	return wal.AppendRecord(nil, &wal.Record{Kind: wal.KindConsumer, RoutingKey: []byte(s.Name), Payload: b}), nil
}

// decodeState reads the payload of a record. wal.ErrMalformed.
func decodeState(b []byte) (s state, open []opened, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // a newer build knows what they mean
	if err := d.Decode(&s); err != nil {
		return s, nil, fmt.Errorf("%w state of a consumer: %w", wal.ErrMalformed, err)
	}
	if s.Name == "" || s.Next < 0 || s.Settings.MaxInFlight < 1 || s.Settings.AckWait <= 0 {
		return s, nil, fmt.Errorf("%w state of consumer %.64q", wal.ErrMalformed, s.Name)
	}
	if open, err = decodeOpen(s.Open, s.Next); err == nil {
		_, err = decodeOpen(s.Dead, s.Next)
	}
	return s, open, err
}

func appendOpen(b []byte, last wal.Offset, o *opened) []byte {
	b = binary.AppendUvarint(b, uint64(o.offset-last))
	n := uint64(o.attempts) << 1
	if o.again {
		n++
	}
	return binary.AppendUvarint(b, n)
}

func decodeOpen(b []byte, next wal.Offset) (open []opened, err error) {
	bad := fmt.Errorf("%w open records of a consumer, %d bytes", wal.ErrMalformed, len(b))
	last := wal.NoOffset
	for len(b) > 0 {
		step, n := binary.Uvarint(b)
		if n <= 0 || step == 0 || step > uint64(next-last) {
			return nil, bad
		}
		attempts, m := binary.Uvarint(b[n:])
		last += wal.Offset(step)
		if m <= 0 || attempts > 1<<31 || last >= next || len(open) >= 2*(MaxOpen+MaxLater) {
			return nil, bad
		}
		open, b = append(open, opened{last, int(attempts >> 1), attempts&1 == 1}), b[n+m:]
	}
	return open, nil
}

// told is what the topic says of one consumer.
type told struct {
	at   wal.Offset // of the record
	s    state
	open []opened
}

// fold is what the last records of each writer come to, of one consumer. The writer that has opened the partition last
// knew what the others had written before. What they wrote since, not knowing of it, is merged.
func fold(last []told) (state, []opened) {
	newest := 0
	for i := range last {
		if a, b := &last[i], &last[newest]; a.s.Life > b.s.Life || a.s.Life == b.s.Life && a.s.Seen > b.s.Seen {
			newest = i
		}
	}
	w := last[newest]
	for i := range last {
		if t := &last[i]; i != newest && t.s.Life == w.s.Life && t.at > w.s.Seen {
			w.open = merge(&w.s, w.open, &t.s, t.open)
		}
	}
	return w.s, w.open
}

// merge adds to s and open what by, of the same life, calls done.
func merge(s *state, open []opened, by *state, byOpen []opened) (both []opened) {
	has := func(all []opened, o wal.Offset) bool {
		_, ok := slices.BinarySearchFunc(all, o, func(x opened, o wal.Offset) int { return cmp.Compare(x.offset, o) })
		return ok
	}
	for _, x := range open {
		if x.again || x.offset >= by.Next || has(byOpen, x.offset) {
			both = append(both, x)
		}
	}
	for _, y := range byOpen {
		if !has(open, y.offset) && (y.again || y.offset >= s.Next) {
			both = append(both, y)
		}
	}
	slices.SortFunc(both, func(a, b opened) int { return cmp.Compare(a.offset, b.offset) })
	s.Dead = mergeDead(s, by, both)
	s.Next, s.Letter = max(s.Next, by.Next), max(s.Letter, by.Letter)
	s.Missed, s.GivenUp = max(s.Missed, by.Missed), max(s.GivenUp, by.GivenUp)
	return both
}

// mergeDead is what either calls given up, but for what is open.
func mergeDead(s, by *state, open []opened) (b []byte) {
	mine, err := decodeOpen(s.Dead, s.Next)
	theirs, err2 := decodeOpen(by.Dead, by.Next)
	if err != nil || err2 != nil { // they were read before
		return s.Dead
	}
	all := slices.Concat(mine, theirs)
	slices.SortFunc(all, func(a, b opened) int { return cmp.Compare(a.offset, b.offset) })
	all = slices.CompactFunc(all, func(a, b opened) bool { return a.offset == b.offset })
	last := wal.NoOffset
	for i := range all {
		if slices.ContainsFunc(open, func(o opened) bool { return o.offset == all[i].offset }) {
			continue
		}
		b = appendOpen(b, last, &all[i])
		last = all[i].offset
	}
	return b
}
