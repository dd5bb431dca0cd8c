package consumers

import (
	"context"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// Batched is the part of a Machine whose store saves each batch as it is applied,
// with what was decided of its tokens. A machine embeds it and adds Record and
// Again. E is what the abstraction keeps of a token, B its batch of changes.
type Batched[E wal.Decided, B Batch[State, E]] struct {
	part   *Part
	ledger Ledger[E]
	begin  func(p wal.Partition) B
	forget func()

	batch  B
	opened bool
	// pending are the tokens of the open batch, which the store does not know yet.
	pending map[wal.TokenID]E
}

// NewBatched returns the machine's part for one partition of a store. begin begins
// a batch of it. forget is told that the open batch is committed or given up; it
// may be nil.
func NewBatched[E wal.Decided, B Batch[State, E]](part *Part, ledger Ledger[E], begin func(p wal.Partition) B, forget func()) Batched[E, B] {
	if forget == nil {
		forget = func() {}
	}
	return Batched[E, B]{part: part, ledger: ledger, begin: begin, forget: forget, pending: make(map[wal.TokenID]E)}
}

// Load implements Machine: the store has everything that was applied.
func (m *Batched[E, B]) Load(ctx context.Context, _ bool) (st State, queues []ParkedQueue, kept bool, err error) {
	m.drop()
	if st, err = m.ledger.State(ctx, m.part.p); err != nil {
		return st, nil, false, fmt.Errorf("read the state: %w", err)
	}
	if queues, err = m.ledger.Parked(ctx, m.part.p); err != nil {
		return st, nil, false, fmt.Errorf("read the parked records: %w", err)
	}
	return st, queues, false, nil
}

// drop gives the open batch up.
func (m *Batched[E, B]) drop() {
	if m.opened {
		m.batch.Abort()
	}
	m.closed()
}

// closed forgets the batch and what was known of it alone.
func (m *Batched[E, B]) closed() {
	var none B
	m.batch, m.opened = none, false
	clear(m.pending)
	m.forget()
}

// Open returns the batch of what is applied and not committed.
func (m *Batched[E, B]) Open() B {
	if !m.opened {
		m.batch, m.opened = m.begin(m.part.p), true
	}
	return m.batch
}

// SaveToken remembers what a token did, at once and with the open batch.
func (m *Batched[E, B]) SaveToken(id wal.TokenID, e *E) {
	m.Open().SaveToken(e)
	m.pending[id] = *e
}

// Begin implements Machine.
func (m *Batched[E, B]) Begin(context.Context, *Run) error { return nil }

// Token implements Machine.
func (m *Batched[E, B]) Token(ctx context.Context, id wal.TokenID) (wal.Hash, int64, bool, error) {
	e, ok := m.pending[id]
	if !ok {
		var err error
		if e, ok, err = m.ledger.Token(ctx, m.part.p, id); err != nil || !ok {
			return wal.Hash{}, 0, false, err
		}
	}
	h, logTime := e.Request()
	return h, logTime, true, nil
}

// SaveParked implements Machine.
func (m *Batched[E, B]) SaveParked(c *ParkedChange) { m.Open().SaveParked(c) }

// SaveException implements Machine.
func (m *Batched[E, B]) SaveException(o wal.Offset, row []byte) { m.Open().SaveException(o, row) }

// TrimExceptions implements Machine.
func (m *Batched[E, B]) TrimExceptions(before wal.Offset) { m.Open().TrimExceptions(before) }

// Moved implements Machine: the batch is saved with the state.
func (m *Batched[E, B]) Moved(*State) { m.Open() }

// Commit implements Machine.
func (m *Batched[E, B]) Commit(ctx context.Context, st *State) error {
	if !m.opened {
		return nil
	}
	b := m.batch
	defer b.Abort()
	err := b.Commit(ctx, *st)
	m.closed()
	if err == nil {
		m.part.Saved(st.Applied)
	}
	return err
}

// Save implements Machine: what is committed is saved.
func (m *Batched[E, B]) Save(ctx context.Context, st *State) error { return m.Commit(ctx, st) }
