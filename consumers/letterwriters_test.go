package consumers_test

import (
	"context"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// TestLettersOfSeveralWriters: two processes write the letters of a partition each, with tallies of their own between,
// and exchange the partitions in the middle. Whoever opens the topic counts each letter once, and lists all.
func TestLettersOfSeveralWriters(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	other, err := consumers.OpenDeadLetters(context.Background(), s.log, nil)
	if err != nil {
		t.Fatal(err)
	}
	writers := [2]*consumers.DeadLetterLog{s.DeadLetterLog, other}
	const each = 700 // of a writer: several tallies
	put := func(w *consumers.DeadLetterLog, p wal.Partition, o wal.Offset) {
		t.Helper()
		l := consumers.DeadLetter{Ref: wal.Ref{Partition: p, Offset: o}, Reason: "poison", Disposition: consumers.Parked, Attempts: 1, At: o}
		if err := w.Put(context.Background(), []consumers.DeadLetter{l}); err != nil {
			t.Fatal(err)
		}
	}
	for o := range wal.Offset(each) {
		at := 0
		if o >= each/2 {
			at = 1
		}
		if o == each/2 {
			for _, w := range writers {
				if err := w.CatchUp(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			put(writers[1], 0, o-1) // who takes over repeats what was decided last
		}
		put(writers[at], 0, o)
		if o%3 != 0 {
			put(writers[1-at], 1, o)
		}
	}
	want := int64(each + each*2/3)
	for _, w := range writers {
		if err := w.CatchUp(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := w.Len(); n != want {
			t.Errorf("a writer knows of %d letters, not %d", n, want)
		}
	}
	s.reopen()
	if n := s.Len(); n != want {
		t.Errorf("who opens the topic knows of %d letters, not %d", n, want)
	}
	if all := s.list(consumers.LetterQuery{Limit: 1000, Bytes: 1 << 30, Scan: 1 << 30}); int64(len(all)) != want {
		t.Errorf("%d letters are listed, not %d", len(all), want)
	}
}
