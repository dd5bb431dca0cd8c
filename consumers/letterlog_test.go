package consumers_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// shelf is a dead-letter topic that is opened again and again.
type shelf struct {
	*consumers.DeadLetterLog
	t       testing.TB
	log     *shelfLog
	counted map[string]int
}

// shelfLog counts what is read and appended, and fails as it is told.
type shelfLog struct {
	wal.Log
	appends, delivered atomic.Int64
	unknown            func(i int) bool // of an append, whether it took place without a word of it
	trim               error
}

func (l *shelfLog) Append(ctx context.Context, d wal.Durability, entries []wal.NewEntry) []wal.Result {
	n := int(l.appends.Add(1))
	if l.unknown != nil && l.unknown(n) {
		l.Log.Append(ctx, d, entries)
		return slices.Repeat([]wal.Result{{Offset: wal.NoOffset, Err: wal.ErrUnknown}}, len(entries))
	}
	return l.Log.Append(ctx, d, entries)
}

func (l *shelfLog) Trim(ctx context.Context, p wal.Partition, before wal.Offset) error {
	if l.trim != nil {
		return l.trim
	}
	return l.Log.Trim(ctx, p, before)
}

func (l *shelfLog) Read(ctx context.Context, p wal.Partition, from wal.Offset) (wal.Reader, error) {
	r, err := l.Log.Read(ctx, p, from)
	return &shelfReader{Reader: r, delivered: &l.delivered}, err
}

// shelfReader delivers entries one by one, and so no more than are looked at.
type shelfReader struct {
	wal.Reader
	delivered *atomic.Int64
	rest      []wal.Entry
}

func (r *shelfReader) Next(ctx context.Context) (e []wal.Entry, err error) {
	if len(r.rest) == 0 {
		if r.rest, err = r.Reader.Next(ctx); err != nil {
			return nil, err
		}
	}
	e, r.rest = r.rest[:1], r.rest[1:]
	r.delivered.Add(int64(len(e[0].Data)))
	return e, nil
}

func newShelf(t testing.TB) *shelf {
	t.Helper()
	s := &shelf{t: t, log: &shelfLog{Log: newLog(t, 1)}, counted: map[string]int{}}
	s.reopen()
	return s
}

func (s *shelf) reopen() {
	s.t.Helper()
	d, err := consumers.OpenDeadLetters(context.Background(), s.log, func(reason string) { s.counted[reason]++ })
	if err != nil {
		s.t.Fatal(err)
	}
	s.DeadLetterLog = d
}

func (s *shelf) put(letters ...consumers.DeadLetter) {
	s.t.Helper()
	if err := s.Put(context.Background(), letters); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shelf) end() wal.Offset {
	s.t.Helper()
	b, err := s.log.Bounds(context.Background(), 0)
	if err != nil {
		s.t.Fatal(err)
	}
	return b.End
}

// list returns all letters that match, by pages.
func (s *shelf) list(q consumers.LetterQuery) (all []consumers.DeadLetter) {
	s.t.Helper()
	if q.Match == nil {
		q.Match = func(*consumers.DeadLetter) bool { return true }
	}
	q.Limit, q.Bytes, q.Scan = max(q.Limit, 1), max(q.Bytes, 1), max(q.Scan, 1)
	for {
		letters, next, more, err := s.List(context.Background(), &q)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(letters) > q.Limit {
			s.t.Fatalf("a page of %d letters, at most %d were asked for", len(letters), q.Limit)
		}
		if all = append(all, letters...); !more {
			return all
		}
		if q.From == next {
			s.t.Fatalf("the page behind %+v begins there", next)
		}
		q.From = next
	}
}

func (s *shelf) wantList(want []consumers.DeadLetter, q consumers.LetterQuery) {
	s.t.Helper()
	got := s.list(q)
	if !slices.EqualFunc(got, want, func(a, b consumers.DeadLetter) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
		s.t.Fatalf("listed %d letters, want %d:\n%v\nwant\n%v", len(got), len(want), got, want)
	}
}

// refusals are letters of n mutations of the record at o.
func refusals(p wal.Partition, o wal.Offset, n int) (letters []consumers.DeadLetter) {
	for i := range n {
		letters = append(letters, consumers.DeadLetter{
			Ref: wal.Ref{Partition: p, Offset: o, Index: i}, Key: fmt.Append(nil, "key ", i), Reason: "bound", Disposition: consumers.Refused,
			Detail: "a delta of -1 would pass the namespace's floor", Attempts: 1, LogTime: int64(o) * 1000, At: o,
		})
	}
	return letters
}

var whole = consumers.LetterQuery{Limit: 1000, Bytes: 1 << 30, Scan: 1 << 30}

// TestTheLettersOfARecordAreOneAppend: a record of ten thousand adds below a floor
// is not ten thousand appends.
func TestTheLettersOfARecordAreOneAppend(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.put(refusals(0, 5, 10_000)...)
	if n := s.log.appends.Load(); n != 1 {
		t.Errorf("%d appends, want 1", n)
	}
	if s.end() != 1 || s.Len() != 10_000 || s.counted["bound"] != 10_000 {
		t.Errorf("%d entries, %d letters, counted %v", s.end(), s.Len(), s.counted)
	}
	s.wantList(refusals(0, 5, 10_000), whole)
}

func TestLettersThatAreTooLargeForARecordAreSeveral(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	var letters []consumers.DeadLetter
	for i := range wal.Offset(5) {
		letters = append(letters, consumers.DeadLetter{
			Ref: wal.Ref{Offset: i, Index: wal.WholeRecord}, Reason: "poison", Disposition: consumers.Parked, Attempts: 1, At: i,
			Record: bytes.Repeat([]byte{byte(i)}, 3<<20),
		})
	}
	letters[4].Record = make([]byte, wal.MaxRecordBytes) // with its letter it is too large for any entry
	s.put(letters...)
	letters[4].Record = nil
	q := whole
	q.Record = func(context.Context, wal.Ref) ([]byte, error) { return []byte("from the log"), nil }
	letters[4].Record = []byte("from the log")
	s.wantList(letters, q)
	q.Bytes = 4 << 20
	if got, _, more, err := s.List(t.Context(), &consumers.LetterQuery{
		Match: func(*consumers.DeadLetter) bool { return true }, Limit: 9, Bytes: 4 << 20, Scan: 1 << 30, Record: q.Record,
	}); err != nil || len(got) != 1 || !more {
		t.Errorf("a page of %d letters, more %v, %v: its bytes are bounded", len(got), more, err)
	}
	s.wantList(letters, q)
}

// TestAReplayAddsNoLetters: what a replay puts again is neither written nor counted
// nor listed again, also by a process that did not write it.
func TestAReplayAddsNoLetters(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	parked := consumers.DeadLetter{
		Ref: wal.Ref{Partition: 1, Offset: 7, Index: wal.WholeRecord}, Key: []byte("k"), Reason: "poison", Disposition: consumers.Parked,
		Attempts: 1, LogTime: 7, At: 7, Record: []byte("bytes"),
	}
	again := parked
	again.Disposition, again.Attempts, again.At, again.By, again.Detail, again.Target = consumers.Redriven, 2, 99, "me", "detail", ""
	all := slices.Concat(refusals(1, 5, 3), []consumers.DeadLetter{parked, again}, refusals(0, 5, 2), refusals(1, 100, 2))
	s.put(all[:4]...)
	s.put(all[4:]...)
	for round := range 3 {
		end := s.end()
		for i := range all {
			s.put(all[i:]...)
		}
		if s.end() != end || s.Len() != 8 || s.counted["poison"] != 1 || s.counted["bound"] != 7 {
			t.Errorf("round %d: %d entries more, %d letters, counted %v", round, s.end()-end, s.Len(), s.counted)
		}
		q := whole
		q.Record = func(context.Context, wal.Ref) ([]byte, error) { return nil, nil }
		s.wantList(all, q)
		s.reopen()
	}
}

// TestARecordThatCannotBeReadEndsTheList, with its reason.
func TestARecordThatCannotBeReadEndsTheList(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.put(refusals(0, 1, 3)...)
	q := whole
	q.Match = func(*consumers.DeadLetter) bool { return true }
	q.Record = func(_ context.Context, r wal.Ref) ([]byte, error) { return nil, wal.ErrUnavailable }
	if l, _, _, err := s.List(t.Context(), &q); !errors.Is(err, wal.ErrUnavailable) {
		t.Errorf("%d letters, %v", len(l), err)
	}
}

func TestLettersOutOfOrderAreRefused(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	l := refusals(0, 5, 3)
	slices.Reverse(l)
	early := refusals(0, 5, 1)
	early[0].At = 4
	for _, letters := range [][]consumers.DeadLetter{l, early} {
		if err := s.Put(t.Context(), letters); err == nil {
			t.Errorf("taken: %v", letters)
		}
	}
	if s.end() != 0 {
		t.Error("something was written")
	}
}

// TestAnUnknownOutcomeIsFoundOut: letters whose append was not told about are put
// again, and stand in the topic once.
func TestAnUnknownOutcomeIsFoundOut(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.log.unknown = func(i int) bool { return i%2 == 1 }
	var want []consumers.DeadLetter
	for o := range wal.Offset(20) {
		l := refusals(0, o, 2)
		for tries := 0; ; tries++ {
			err := s.Put(t.Context(), l)
			if err == nil {
				break
			}
			if !errors.Is(err, wal.ErrUnknown) || tries > 2 {
				t.Fatal(err)
			}
		}
		want = append(want, l...)
	}
	s.wantList(want, whole)
	s.log.unknown = nil
	s.reopen()
	s.put(want...)
	s.wantList(want, whole)
	if s.Len() != 40 {
		t.Errorf("%d letters, want 40", s.Len())
	}
}

// TestOpeningReadsTheEndOnly: the cost of opening a topic, of a page, and of finding
// a letter does not grow with what came before.
func TestOpeningReadsTheEndOnly(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	const records, each = 1500, 100
	for o := range wal.Offset(records) {
		s.put(refusals(wal.Partition(o%3), o, each)...)
	}
	var size int64
	read := func(what string, f func()) {
		t.Helper()
		before := s.log.delivered.Load()
		f()
		if got := s.log.delivered.Load() - before; size > 0 && got > size/3 {
			t.Errorf("%s reads %d bytes of %d", what, got, size)
		}
	}
	all := s.list(whole)
	before := s.log.delivered.Load()
	s.list(consumers.LetterQuery{Limit: 1 << 30, Bytes: 1 << 30, Scan: 1 << 30})
	size = s.log.delivered.Load() - before
	if len(all) != records*each || size < 10<<20 {
		t.Fatalf("%d letters in %d bytes", len(all), size)
	}
	read("opening", s.reopen)
	if s.Len() != records*each {
		t.Errorf("%d letters, want %d", s.Len(), records*each)
	}
	q := whole
	q.Limit = 10
	q.Match = func(*consumers.DeadLetter) bool { return true }
	for range 3 {
		read("a page", func() {
			var more bool
			var err error
			if _, q.From, more, err = s.List(t.Context(), &q); err != nil || !more {
				t.Fatal(more, err)
			}
		})
	}
	ref := wal.Ref{Partition: 1, Offset: 1300, Index: 50}
	q = whole
	q.Refs, q.Enough = []wal.Ref{ref}, 1
	q.Match = func(l *consumers.DeadLetter) bool { return l.Ref == ref }
	read("finding a letter", func() {
		if l, _, _, err := s.List(t.Context(), &q); err != nil || len(l) != 1 || l[0].LogTime != 1300_000 {
			t.Errorf("%v, %v", l, err)
		}
	})
}

// TestALogThatLostItsEndHasItsLettersWritten: the records that come to stand where
// others stood have letters of their own.
func TestALogThatLostItsEndHasItsLettersWritten(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.put(slices.Concat(refusals(0, 5, 1), refusals(0, 9, 1), refusals(1, 9, 1))...)
	if err := s.Rewind(t.Context(), 0, 7); err != nil {
		t.Fatal(err)
	}
	second := refusals(0, 8, 1)
	second[0].Reason = "too_old"
	for range 2 {
		s.put(refusals(0, 5, 1)...)
		s.put(slices.Concat(second, refusals(1, 9, 1))...)
		s.wantList(slices.Concat(refusals(0, 5, 1), refusals(0, 9, 1), refusals(1, 9, 1), second), whole)
		s.reopen()
	}
	end := s.end()
	if err := s.Rewind(t.Context(), 0, 100); err != nil || s.end() != end {
		t.Errorf("a log that lost nothing: %d entries more, %v", s.end()-end, err)
	}
}
