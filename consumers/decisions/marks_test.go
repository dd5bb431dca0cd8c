package decisions

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// memory is a Local.
type memory struct {
	mu    sync.Mutex // guards rows
	rows  map[wal.Offset][]byte
	first wal.Offset
}

func newMemory() *memory { return &memory{rows: make(map[wal.Offset][]byte)} }

func (l *memory) Exceptions(_ context.Context, _ wal.Partition, from, to wal.Offset, f func(o wal.Offset, row []byte) error) error {
	for o := from; o < to; o++ {
		l.mu.Lock()
		row, ok := l.rows[o]
		l.mu.Unlock()
		if ok {
			if err := f(o, row); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *memory) KeepRows(_ context.Context, _ wal.Partition, rows []consumers.ExceptionRow) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rows {
		l.rows[r.Offset] = bytes.Clone(r.Row)
	}
	return nil
}

func (l *memory) FirstException(context.Context, wal.Partition) (wal.Offset, error) {
	return l.first, nil
}
func (l *memory) Gone(wal.Partition) int64      { return 7 }
func (l *memory) Place() (dataset, life string) { return "set", "life" }

// owner is a process that holds partition 0, or takes itself for who does.
type owner struct {
	name  string
	log   wal.Log
	book  *Book
	local *memory
	marks *Marks
	epoch wal.Offset
}

func newOwner(t testing.TB, l wal.Log, name string) *owner {
	o := &owner{name: name, log: l, book: Follow(l, slog.New(slog.DiscardHandler)), local: newMemory(), epoch: wal.NoOffset}
	t.Cleanup(o.book.Close)
	o.marks = NewMarks(l, o.book, o.local, func(wal.Partition) wal.Offset { return o.epoch })
	return o
}

// claim makes the owner the newest and returns the rows of all marks before its claim, and up to where they go.
func (o *owner) claim(ctx context.Context) (rows map[wal.Offset]string, to wal.Offset, err error) {
	c, err := Append(ctx, o.log, 0, Claim{Process: o.name})
	if err != nil {
		return nil, 0, err
	}
	s, err := o.book.Reach(ctx, 0, c.Epoch)
	if err != nil {
		return nil, 0, err
	}
	if s.Claim.Epoch != c.Epoch { // another one came first
		return o.claim(ctx)
	}
	rows, to = make(map[wal.Offset]string), s.To
	err = o.book.Read(ctx, 0, wal.NoOffset, c.Epoch, func(all []consumers.ExceptionRow) error {
		for _, r := range all {
			rows[r.Offset] = string(r.Row)
		}
		return nil
	})
	o.epoch = c.Epoch
	return rows, to, err
}

// decide decides n records from from on, each with a row.
func (o *owner) decide(ctx context.Context, from wal.Offset, n int, row func(wal.Offset) string) ([]consumers.ExceptionRow, error) {
	d := &consumers.Decisions{From: from, To: from + wal.Offset(n) - 1}
	d.State.Applied, d.State.LogTime, d.State.MaxTime = d.To, int64(d.To)*10, int64(d.To)*20
	for at := from; at <= d.To; at++ {
		d.Rows = append(d.Rows, consumers.ExceptionRow{Offset: at, Row: []byte(row(at))})
	}
	return d.Rows, o.marks.Decide(ctx, 0, d)
}

// TestMarksOfManyOwners: several processes that claim a partition over each other, each without asking. What Decide
// has returned is what whoever claims later reads, and each record is decided once.
func TestMarksOfManyOwners(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), decisions(t)
	const owners, turns = 4, 25
	var mu sync.Mutex // guards told
	told := make(map[wal.Offset]string)
	var work sync.WaitGroup
	superseded := make([]int, owners)
	for i := range owners {
		o := newOwner(t, l, fmt.Sprint("process ", i))
		r := rand.New(rand.NewPCG(uint64(i), 1))
		work.Go(func() {
			for turn := range turns {
				mu.Lock()
				before := len(told)
				mu.Unlock()
				rows, to, err := o.claim(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if len(rows) < before || wal.Offset(len(rows)-1) != to {
					t.Errorf("%s read %d rows up to %d, and %d had been told", o.name, len(rows), to, before)
				}
				for range 1 + r.IntN(6) {
					made, err := o.decide(ctx, to+1, 1+r.IntN(5), func(at wal.Offset) string { return fmt.Sprint(o.name, turn, at) })
					if errors.Is(err, consumers.ErrSuperseded) {
						superseded[i]++
						break
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, m := range made {
						if was, ok := told[m.Offset]; ok {
							t.Errorf("record %d was told as %q and as %q", m.Offset, was, m.Row)
						}
						told[m.Offset] = string(m.Row)
						to = max(to, m.Offset)
					}
					mu.Unlock()
				}
			}
		})
	}
	work.Wait()
	last := newOwner(t, l, "the last")
	rows, to, err := last.claim(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for at, row := range told {
		if rows[at] != row {
			t.Errorf("record %d was told as %q and is read as %q", at, row, rows[at])
		}
	}
	t.Logf("%d records up to %d, %d told; superseded %v", len(rows), to, len(told), superseded)
}

// TestStandingIsTheSameForAll: whoever reads all entries, or those from a place on that Free has left, comes to the same,
// whatever is in them.
func TestStandingIsTheSameForAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, to, by := newStanding(), wal.NoOffset, wal.NoOffset // by: the epoch of the newest mark that counts
		var entries []wal.Entry
		add := func(kind wal.Kind, payload []byte) {
			entries = append(entries, wal.Entry{Offset: wal.Offset(len(entries)), Data: wal.AppendRecord(nil, &wal.Record{Kind: kind, Payload: payload})})
		}
		for range rapid.IntRange(1, 60).Draw(t, "entries") {
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0:
				c := Claim{Process: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "process")}
				payload, err := c.encode()
				if err != nil {
					t.Fatal(err)
				}
				add(wal.KindClaim, payload)
			case 1:
				add(wal.KindBarrier, nil)
			default:
				m := Mark{Epoch: s.Claim.Epoch, From: to + 1, LogTime: rapid.Int64Range(0, 99).Draw(t, "time"), Gone: rapid.Int64Range(0, 99).Draw(t, "gone")}
				switch rapid.IntRange(0, 5).Draw(t, "wrong") {
				case 0:
					m.Epoch = rapid.Custom(func(t *rapid.T) wal.Offset { return wal.Offset(rapid.IntRange(0, len(entries)).Draw(t, "epoch")) }).Draw(t, "of")
				case 1:
					if by != m.Epoch {
						break // Decide makes none: who begins to read at this claim could not tell
					}
					m.From = wal.Offset(rapid.IntRange(0, 40).Draw(t, "from"))
				}
				if m.Epoch < 0 || m.From < 0 {
					continue
				}
				m.To = m.From - 1 + wal.Offset(rapid.IntRange(0, 3).Draw(t, "records"))
				add(wal.KindMark, m.encode())
			}
			m, _, err := s.take(&entries[len(entries)-1])
			if err != nil {
				t.Fatal(err)
			}
			if m != nil {
				by = m.Epoch
			}
			if s.Marked && s.To < to {
				t.Fatalf("decided up to %d, and then up to %d", to, s.To)
			}
			to = s.To
		}
		start := wal.Offset(rapid.IntRange(0, 60).Draw(t, "start of the log"))
		from := s.trimTo(start)
		if from == wal.NoOffset {
			return
		}
		late, lateBy := newStanding(), wal.NoOffset
		for i := range entries[from:] {
			m, _, err := late.take(&entries[from:][i])
			if err != nil {
				t.Fatal(err)
			}
			if m != nil {
				lateBy = m.Epoch
			}
		}
		// A reader that begins later knows of marks below only by later ones.
		if late.Claim != s.Claim || !late.Marked || late.To != s.To || lateBy != by {
			t.Fatalf("from %d on, for a log from %d: %+v, and from the first: %+v", from, start, late, s)
		}
	})
}

// TestOlderDecisionsAreTold: what a store had decided before there were marks is told before the first one, and between
// two where a store without marks has decided meanwhile; and nothing else is taken for that.
func TestOlderDecisionsAreTold(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), decisions(t)
	o := newOwner(t, l, "home")
	o.local.first = 3
	for at := wal.Offset(0); at < 10; at++ {
		o.local.rows[at] = fmt.Append(nil, "old ", at)
	}
	if _, _, err := o.claim(ctx); err != nil {
		t.Fatal(err)
	}
	said := func(at wal.Offset) string { return fmt.Sprint("new ", at) }
	if _, err := o.decide(ctx, 10, 2, said); err != nil {
		t.Fatal(err)
	}
	o.local.rows[12] = []byte("of another store")
	if _, err := o.decide(ctx, 13, 1, said); !errors.Is(err, consumers.ErrCannotFollow) {
		t.Errorf("a gap without a promotion: %v", err)
	}
	d := &consumers.Decisions{From: 13, To: 13, State: consumers.State{Applied: 13, Step: 1}}
	if err := o.marks.Decide(ctx, 0, d); err != nil {
		t.Fatal(err)
	}
	rows, to, err := newOwner(t, l, "next").claim(ctx)
	if err != nil || to != 13 {
		t.Fatalf("up to %d, %v", to, err)
	}
	var keys []wal.Offset
	for at := range rows {
		keys = append(keys, at)
	}
	slices.Sort(keys)
	if fmt.Sprint(keys) != "[3 4 5 6 7 8 9 10 11 12]" || rows[9] != "old 9" || rows[10] != "new 10" || rows[12] != "of another store" {
		t.Errorf("read %v: %v", keys, rows)
	}
}

// TestLargeRowsStandInSeveralMarks: a batch with more than fits is told, and read, whole.
func TestLargeRowsStandInSeveralMarks(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), decisions(t)
	o := newOwner(t, l, "home")
	if _, _, err := o.claim(ctx); err != nil {
		t.Fatal(err)
	}
	large := string(bytes.Repeat([]byte("x"), 1<<20))
	if _, err := o.decide(ctx, 0, 11, func(at wal.Offset) string { return fmt.Sprint(at, large) }); err != nil {
		t.Fatal(err)
	}
	rows, to, err := newOwner(t, l, "next").claim(ctx)
	if err != nil || to != 10 || len(rows) != 11 || rows[10] != "10"+large {
		t.Errorf("up to %d, %d rows, %v", to, len(rows), err)
	}
}

// TestMarksTellWhatHasComeFromOtherLogs up to where they go, and of a batch that stands in several marks with the last.
func TestMarksTellWhatHasComeFromOtherLogs(t *testing.T) {
	t.Parallel()
	ctx, l := t.Context(), decisions(t)
	o := newOwner(t, l, "home")
	if _, _, err := o.claim(ctx); err != nil {
		t.Fatal(err)
	}
	come := func(at int64) consumers.Sources {
		return consumers.Sources("").With(wal.Incarnation{1}, 2, wal.SourcePlace{At: at, Offset: 3})
	}
	rows := make([]consumers.ExceptionRow, 9)
	for i := range rows {
		rows[i] = consumers.ExceptionRow{Offset: wal.Offset(1 + i), Row: bytes.Repeat([]byte("x"), 1<<20)}
	}
	for _, d := range []*consumers.Decisions{
		{From: 0, To: 0, State: consumers.State{Applied: 0, Sources: come(5)}}, {From: 1, To: 9, State: consumers.State{Applied: 9, Sources: come(9)}, Rows: rows},
	} {
		if err := o.marks.Decide(ctx, 0, d); err != nil {
			t.Fatal(err)
		}
	}
	next := newOwner(t, l, "next")
	if _, _, err := next.claim(ctx); err != nil {
		t.Fatal(err)
	}
	d, err := next.marks.Decided(ctx, 0)
	if err != nil || d.To != 9 || d.Sources != come(9) {
		t.Errorf("decided is %+v, %v", d, err)
	}
	s, parts := newStanding(), 0
	rd, err := l.Read(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	for s.To < 9 {
		entries, err := rd.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range entries {
			m, _, err := s.take(&entries[i])
			if err != nil {
				t.Fatal(err)
			}
			if m == nil {
				continue
			}
			if parts++; m.Sources != come(5) && m.To < 9 {
				t.Errorf("the mark up to record %d has other sources than those of before", m.To)
			}
		}
	}
	if parts < 3 {
		t.Errorf("there are %d marks", parts)
	}
}

func FuzzDecodeMark(f *testing.F) {
	m := Mark{Epoch: 3, From: 10, To: 12, LogTime: 5, MaxTime: 6, Gone: 7, Step: 1, Applied: 9, Letters: 10, Parked: 4, Life: "l", Sources: consumers.Sources("").With(wal.Incarnation{1}, 2, wal.SourcePlace{At: 3}), Rows: []consumers.ExceptionRow{{Offset: 11, Row: []byte("row")}}}
	f.Add(m.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMark(b)
		if err != nil {
			if !errors.Is(err, wal.ErrMalformed) && !errors.Is(err, wal.ErrUnknownVersion) {
				t.Error(err)
			}
			return
		}
		again, err := decodeMark(m.encode())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}
