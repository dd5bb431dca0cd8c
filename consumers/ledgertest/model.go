package ledgertest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// model is a partition in plain maps.
type model[S comparable, E Entry] struct {
	h          *Harness[S, E]
	common     consumers.State
	state      S
	tokens     map[wal.TokenID]E // of each the newest
	horizon    int64             // entries logged before it may be gone
	parked     map[string]consumers.ParkedQueue
	exceptions map[wal.Offset]string
}

func newModel[S comparable, E Entry](h *Harness[S, E]) *model[S, E] {
	m := &model[S, E]{h: h, common: consumers.State{Applied: wal.NoOffset}, horizon: -1 << 62}
	m.state = h.Fresh
	m.tokens, m.parked, m.exceptions = map[wal.TokenID]E{}, map[string]consumers.ParkedQueue{}, map[wal.Offset]string{}
	return m
}

func (m *model[S, E]) clone() *model[S, E] {
	c := *m
	c.tokens, c.parked, c.exceptions = maps.Clone(m.tokens), maps.Clone(m.parked), maps.Clone(m.exceptions)
	return &c
}

func (m *model[S, E]) SaveToken(e *E) {
	n, o := m.h.Key(e)
	if old, ok := m.tokens[n]; ok {
		if _, at := m.h.Key(&old); at > o {
			return
		}
	}
	m.tokens[n] = *e
}

func (m *model[S, E]) SaveException(o wal.Offset, row []byte) { m.exceptions[o] = string(row) }

func (m *model[S, E]) TrimExceptions(before wal.Offset) {
	maps.DeleteFunc(m.exceptions, func(o wal.Offset, _ string) bool { return o < before })
}

func (m *model[S, E]) SaveParked(c *consumers.ParkedChange) { c.Do(m.parked) }

// differs is err, or that an answer is another.
func differs(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return errors.New(what)
}

// row is an exception as it was read.
type row struct {
	o    wal.Offset
	data string
}

// read reads the rows of from <= o < to.
func read[E Entry](l consumers.Ledger[E], p wal.Partition, from, to wal.Offset) (rows []row, err error) {
	err = l.Exceptions(bg, p, from, to, func(o wal.Offset, data []byte) error {
		rows = append(rows, row{o, string(data)})
		return nil
	})
	return rows, err
}

func (m *model[S, E]) rows(from, to wal.Offset) (rows []row) {
	for _, o := range slices.Sorted(maps.Keys(m.exceptions)) {
		if from <= o && o < to {
			rows = append(rows, row{o, m.exceptions[o]})
		}
	}
	return rows
}

// compare compares everything that a partition of a ledger answers with a model.
func (m *model[S, E]) compare(l consumers.Ledger[E], p wal.Partition) error {
	if st, err := l.State(bg, p); err != nil || st != m.common {
		return differs(err, "state %+v, want %+v", st, m.common)
	}
	if st, err := m.h.Saved(l, p); err != nil || st != m.state {
		return differs(err, "all of the state %+v, want %+v", st, m.state)
	}
	for n, want := range m.tokens {
		e, ok, err := l.Token(bg, p, n)
		_, logTime := want.Request()
		if err != nil || ok && e != want || !ok && logTime >= m.horizon {
			return differs(err, "token %s: %+v %v, want %+v", n, e, ok, want)
		}
	}
	queues, err := l.Parked(bg, p)
	var want []consumers.ParkedQueue
	for _, k := range slices.Sorted(maps.Keys(m.parked)) {
		want = append(want, m.parked[k])
	}
	if err != nil || !slices.EqualFunc(queues, want, func(a, b consumers.ParkedQueue) bool { return sameQueue(p, &a, &b) }) {
		return differs(err, "parked %+v, want %+v", queues, want)
	}
	rows, err := read(l, p, 0, 1<<62)
	if want := m.rows(0, 1<<62); err != nil || !slices.Equal(rows, want) {
		return differs(err, "exceptions %v, want %v", rows, want)
	}
	return nil
}

// sameQueue compares a queue of partition p with one of a model.
func sameQueue(p wal.Partition, a, b *consumers.ParkedQueue) bool {
	same := func(r, s wal.Ref) bool { s.Partition = p; return r == s }
	return bytes.Equal(a.Key, b.Key) && slices.EqualFunc(a.Refs, b.Refs, same) && a.ParkedHead == b.ParkedHead
}
