package decisions

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Local is what a store keeps on this machine of what was decided: a copy of what the marks say.
type Local interface {
	consumers.Exceptions
	// KeepRows saves rows, which survive kill -9 with the next commit.
	KeepRows(ctx context.Context, p wal.Partition, rows []consumers.ExceptionRow) error
	// FirstException is as in consumers.State.
	FirstException(ctx context.Context, p wal.Partition) (wal.Offset, error)
	// Gone is as in Mark.
	Gone(p wal.Partition) int64
	// Place names the rows that the store has on another server.
	Place() (dataset, life string)
}

// Marks is the consumers.Ahead of a store in which any process may apply what was decided: each decision is
// in a mark that counts before it has an effect. Safe for concurrent use, for different partitions.
type Marks struct {
	log   wal.Log
	book  *Book
	local Local
	epoch func(p wal.Partition) wal.Offset
	// applied is up to where the store has everything, by partition.
	applied []atomic.Int64
}

var _ consumers.Ahead = (*Marks)(nil)

// NewMarks returns the marks of a namespace whose decisions topic is log, and book what it says. epoch is that of
// this process's claim of a partition, wal.NoOffset where it has none.
func NewMarks(log wal.Log, book *Book, local Local, epoch func(p wal.Partition) wal.Offset) *Marks {
	m := &Marks{log: log, book: book, local: local, epoch: epoch, applied: make([]atomic.Int64, log.Info().Partitions)}
	for i := range m.applied {
		m.applied[i].Store(int64(wal.NoOffset))
	}
	return m
}

// Applied says that the store has everything of p up to o.
func (m *Marks) Applied(p wal.Partition, o wal.Offset) { m.applied[p].Store(int64(o)) }

// Exceptions implements consumers.Ahead.
func (m *Marks) Exceptions(ctx context.Context, p wal.Partition, from, to wal.Offset, f func(o wal.Offset, row []byte) error) error {
	return m.local.Exceptions(ctx, p, from, to, f)
}

// Decided implements consumers.Ahead.
func (m *Marks) Decided(_ context.Context, p wal.Partition) (consumers.Decided, error) {
	s := m.book.Standing(p)
	return consumers.Decided{To: s.To, LogTime: s.LogTime, MaxTime: s.MaxTime, Sources: s.Sources}, nil
}

// markBytes is how much a mark says, about; of a larger one the rows stand in several.
const markBytes = 4 << 20

// Decide implements consumers.Ahead: it returns when the marks are read back, and count.
func (m *Marks) Decide(ctx context.Context, p wal.Partition, d *consumers.Decisions) error {
	s := m.book.Standing(p)
	if s.Claim.Epoch != m.epoch(p) {
		return m.superseded(p, &s)
	}
	if !s.Marked || d.From > s.To+1 {
		if err := m.tellOlder(ctx, p, &s, d); err != nil {
			return err
		}
	}
	if s = m.book.Standing(p); s.Marked && d.From != s.To+1 { // such a mark would count for nobody
		return fmt.Errorf("%w: record %d of partition %d is decided here, and the marks go up to %d", consumers.ErrCannotFollow, d.From, p, s.To)
	}
	if err := m.tell(ctx, p, d, d.From, d.To, d.Rows); err != nil {
		return err
	}
	return m.local.KeepRows(ctx, p, d.Rows)
}

func (m *Marks) superseded(p wal.Partition, s *Standing) error {
	return fmt.Errorf("partition %d was claimed by process %s at %s: %w", p, s.Claim.Process, s.Claim.Address, consumers.ErrSuperseded)
}

// tellOlder tells what a store on this machine alone had decided before: it keeps no marks.
func (m *Marks) tellOlder(ctx context.Context, p wal.Partition, s *Standing, d *consumers.Decisions) error {
	from := s.To + 1
	if s.Marked && d.State.Step <= s.Step {
		return fmt.Errorf("%w: records %d to %d of partition %d were decided here, and no mark says so", consumers.ErrCannotFollow, from, d.From-1, p)
	}
	if !s.Marked {
		var err error
		if from, err = m.local.FirstException(ctx, p); err != nil {
			return err
		}
	}
	if from >= d.From {
		return nil
	}
	var rows []consumers.ExceptionRow
	size := 0
	err := m.local.Exceptions(ctx, p, from, d.From, func(o wal.Offset, row []byte) error {
		if size += len(row); size > markBytes {
			if err := m.tell(ctx, p, d, from, o-1, rows); err != nil {
				return err
			}
			from, rows, size = o, nil, len(row)
		}
		rows = append(rows, consumers.ExceptionRow{Offset: o, Row: append([]byte(nil), row...)})
		return nil
	})
	if err != nil {
		return err
	}
	return m.tell(ctx, p, d, from, d.From-1, rows)
}

// tell makes the marks of from to to, in several where the rows are many.
func (m *Marks) tell(ctx context.Context, p wal.Partition, d *consumers.Decisions, from, to wal.Offset, rows []consumers.ExceptionRow) error {
	_, life := m.local.Place()
	for {
		n, size := 0, 0
		for n < len(rows) && (n == 0 || size+len(rows[n].Row) <= markBytes) {
			size += len(rows[n].Row) + 16
			n++
		}
		end := to
		if n < len(rows) {
			end = rows[n].Offset - 1
		}
		mark := Mark{
			Epoch: m.epoch(p), From: from, To: end, LogTime: d.State.LogTime, MaxTime: d.State.MaxTime, Gone: m.local.Gone(p), Step: d.State.Step,
			Applied: min(wal.Offset(m.applied[p].Load()), from-1), Life: life, Letters: d.Letters, Parked: d.Parked, Rows: rows[:n],
		}
		if mark.Sources = m.book.Standing(p).Sources; end == d.To { // else who repeats the records learns what came by them
			mark.Sources = d.State.Sources
		}
		if err := m.say(ctx, p, &mark); err != nil {
			return err
		}
		if n == len(rows) {
			return nil
		}
		from, rows = end+1, rows[n:]
	}
}

// say appends a mark and reads it back.
func (m *Marks) say(ctx context.Context, p wal.Partition, mark *Mark) error {
	o, err := appendOne(ctx, m.log, p, wal.KindMark, mark.encode())
	if err != nil {
		return fmt.Errorf("append a mark of partition %d: %w", p, err)
	}
	s, err := m.book.Reach(ctx, p, o)
	if err != nil {
		return err
	}
	if s.Claim.Epoch != mark.Epoch || s.To != mark.To {
		return m.superseded(p, &s)
	}
	return nil
}

// Read calls f with the rows of the marks of p that count, of records above a given one, as of the entry at o: that of
// the claim of who has just claimed p, or Standing.Read.
func (b *Book) Read(ctx context.Context, p wal.Partition, above, o wal.Offset, f func(rows []consumers.ExceptionRow) error) error {
	for range 3 {
		bounds, err := b.log.Bounds(ctx, p)
		if err != nil {
			return fmt.Errorf("bounds of the decisions of partition %d: %w", p, err)
		}
		err = b.readRows(ctx, p, above, bounds.Start, o, f)
		if !errors.Is(err, wal.ErrTrimmed) { // while it was read: it begins higher now
			return err
		}
	}
	return fmt.Errorf("read the decisions of partition %d: %w", p, wal.ErrTrimmed)
}

// Keep has l keep the rows that Read gives of records above a given one: what l repeats.
func (b *Book) Keep(ctx context.Context, l Local, p wal.Partition, above, o wal.Offset) error {
	return b.Read(ctx, p, above, o, func(rows []consumers.ExceptionRow) error {
		for len(rows) > 0 && rows[0].Offset <= above {
			rows = rows[1:]
		}
		return l.KeepRows(ctx, p, rows)
	})
}

func (b *Book) readRows(ctx context.Context, p wal.Partition, above, from, to wal.Offset, f func(rows []consumers.ExceptionRow) error) (err error) {
	rd, err := b.log.Read(ctx, p, from)
	if err != nil {
		return fmt.Errorf("read the decisions of partition %d: %w", p, err)
	}
	defer func() { err = errors.Join(err, rd.Close()) }()
	s := newStanding()
	for {
		entries, err := rd.Next(ctx)
		if err != nil {
			return fmt.Errorf("read the decisions of partition %d from %d on: %w", p, from, err)
		}
		for i := range entries {
			e := &entries[i]
			m, _, err := s.take(e)
			if err != nil {
				return fmt.Errorf("entry %d of partition %d of topic %s: %w", e.Offset, p, b.log.Info().Name, err)
			}
			if m != nil {
				if m.To < above { // the row of the record behind To may be there
					m.Rows = nil
				}
				if err := f(m.Rows); err != nil {
					return err
				}
			}
			if e.Offset >= to {
				return nil
			}
		}
	}
}
