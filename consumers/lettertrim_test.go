package consumers_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// TestTrimKeepsWhatItIsTold: by time, by bytes, and never below what is parked.
func TestTrimKeepsWhatItIsTold(t *testing.T) {
	t.Parallel()
	const n = 100
	for _, c := range []struct {
		name string
		keep consumers.LetterKeep
		want func(got int) bool // how many records keep their letters
	}{
		{"all", consumers.LetterKeep{Bytes: math.MaxInt64}, func(got int) bool { return got == n }},
		{"nothing", consumers.LetterKeep{Since: math.MaxInt64, Bytes: math.MaxInt64}, func(got int) bool { return got == 0 }},
		{"so many bytes", consumers.LetterKeep{Bytes: 100_000}, func(got int) bool { return got > 40 && got < 60 }},
		{"no bytes", consumers.LetterKeep{}, func(got int) bool { return got == 0 }},
		{"what is parked", consumers.LetterKeep{Decided: map[wal.Partition]wal.Offset{0: 30, 1: 81}}, func(got int) bool { return got == n-30 }},
		{"what is parked in another partition", consumers.LetterKeep{Decided: map[wal.Partition]wal.Offset{0: 90, 1: 51}}, func(got int) bool { return got == n-51 }},
		{"what is parked at the start", consumers.LetterKeep{Decided: map[wal.Partition]wal.Offset{0: 0}}, func(got int) bool { return got == n }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t)
			for o := range wal.Offset(n) {
				s.put(refusals(wal.Partition(o%2), o, 20)...) // some 2,000 bytes
			}
			if err := s.Trim(t.Context(), c.keep); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				got := s.list(whole)
				if len(got)%20 != 0 || !c.want(len(got)/20) {
					t.Fatalf("%d letters are left", len(got))
				}
				if s.Len() != int64(len(got)) || s.Trimmed()+s.Len() != n*20 {
					t.Errorf("%d letters, %d trimmed", s.Len(), s.Trimmed())
				}
				if err := s.Trim(t.Context(), c.keep); err != nil {
					t.Error(err)
				}
				s.reopen()
			}
			end := s.end()
			for o := range wal.Offset(n) { // a replay: what has left does not come back
				s.put(refusals(wal.Partition(o%2), o, 20)...)
			}
			if s.end() != end {
				t.Error("a replay wrote letters again")
			}
		})
	}
}

// TestATrimIsFinishedAfterACrash: what was counted and not freed is freed, and not
// counted again.
func TestATrimIsFinishedAfterACrash(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	for o := range wal.Offset(10) {
		s.put(refusals(0, o, 1)...)
	}
	s.log.trim = errors.New("the process dies here")
	keep := consumers.LetterKeep{Bytes: math.MaxInt64, Since: math.MaxInt64}
	if err := s.Trim(t.Context(), keep); !errors.Is(err, s.log.trim) {
		t.Fatal(err)
	}
	s.log.trim = nil
	s.reopen()
	s.put(refusals(0, 10, 1)...)
	keep.Since = 0
	for range 2 {
		if err := s.Trim(t.Context(), keep); err != nil {
			t.Error(err)
		}
		s.wantList(refusals(0, 10, 1), whole)
		if s.Trimmed() != 10 || s.Len() != 1 {
			t.Errorf("%d trimmed, %d letters", s.Trimmed(), s.Len())
		}
	}
}

// TestAnIdleTopicIsNotTrimmedForEver: a trim writes an entry, which is not a reason
// for the next.
func TestAnIdleTopicIsNotTrimmedForEver(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.put(refusals(0, 1, 1)...)
	for range 10 {
		if err := s.Trim(t.Context(), consumers.LetterKeep{Since: math.MaxInt64}); err != nil {
			t.Fatal(err)
		}
	}
	if s.end() != 2 {
		t.Errorf("%d entries, want the letter and one tally", s.end())
	}
}

// TestLettersRandomly compares a topic with a list of letters, over replays, trims,
// restarts and appends of unknown outcome.
func TestLettersRandomly(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := newShelf(t)
		var all []consumers.DeadLetter // that were put
		var next [3]wal.Offset         // by partition
		gone := 0                      // of all
		put := func(letters []consumers.DeadLetter) {
			for s.Put(t.Context(), letters) != nil {
				continue
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				var batch []consumers.DeadLetter
				p := wal.Partition(rapid.IntRange(0, 2).Draw(t, "partition"))
				for range rapid.IntRange(1, 10).Draw(t, "records") {
					next[p] += wal.Offset(rapid.IntRange(1, 3).Draw(t, "apart"))
					batch = append(batch, refusals(p, next[p], rapid.SampledFrom([]int{1, 1, 2, 300}).Draw(t, "letters"))...)
				}
				put(batch)
				all = append(all, batch...)
			},
			"put one by one": func(t *rapid.T) {
				for range rapid.SampledFrom([]int{1, 2, 60, 200}).Draw(t, "records") {
					next[0]++
					put(refusals(0, next[0], 1))
					all = append(all, refusals(0, next[0], 1)...)
				}
			},
			"replay": func(t *rapid.T) {
				p := wal.Partition(rapid.IntRange(0, 2).Draw(t, "partition"))
				from := next[p] - wal.Offset(rapid.IntRange(0, 50).Draw(t, "back"))
				var batch []consumers.DeadLetter
				for _, l := range all {
					if l.Ref.Partition == p && l.At >= from {
						batch = append(batch, l)
					}
				}
				put(batch)
			},
			"reopen": func(*rapid.T) { s.reopen() },
			"unknown": func(t *rapid.T) {
				n := int(s.log.appends.Load()) + rapid.IntRange(1, 5).Draw(t, "append")
				s.log.unknown = func(i int) bool { return i == n }
			},
			"trim": func(t *rapid.T) {
				keep := consumers.LetterKeep{Bytes: rapid.Int64Range(0, 3<<20).Draw(t, "bytes"), Decided: map[wal.Partition]wal.Offset{}}
				for p := range wal.Partition(3) {
					keep.Decided[p] = rapid.SampledFrom([]wal.Offset{0, next[p] / 2, next[p] + 1}).Draw(t, "parked")
				}
				for err := s.Trim(s.t.Context(), keep); err != nil; err = s.Trim(s.t.Context(), keep) {
					if !errors.Is(err, wal.ErrUnknown) {
						t.Fatal(err)
					}
				}
				left := int(s.Trimmed()) - gone
				for _, l := range all[gone:][:left] {
					if l.At >= keep.Decided[l.Ref.Partition] {
						t.Fatalf("%s has left, decided at %d", l.Ref, l.At)
					}
				}
				gone += left
			},
			"": func(t *rapid.T) {
				want := all[gone:]
				if s.Len() != int64(len(want)) || s.Trimmed() != int64(gone) {
					t.Fatalf("%d letters and %d trimmed, want %d and %d", s.Len(), s.Trimmed(), len(want), gone)
				}
				if rapid.IntRange(0, 3).Draw(t, "one in four is listed") > 0 {
					return
				}
				q := consumers.LetterQuery{
					Limit: rapid.IntRange(300, 5000).Draw(t, "limit"), Bytes: rapid.Int64Range(1<<12, 1<<20).Draw(t, "bytes"),
					Scan: rapid.Int64Range(1<<14, 1<<22).Draw(t, "scan"),
				}
				if len(all) > 0 && rapid.Bool().Draw(t, "find some") {
					for range 3 {
						q.Refs = append(q.Refs, rapid.SampledFrom(all).Draw(t, "ref").Ref)
					}
					q.Match = func(l *consumers.DeadLetter) bool { return slices.Contains(q.Refs, l.Ref) }
					want = nil
					for _, l := range all[gone:] {
						if q.Match(&l) {
							want = append(want, l)
						}
					}
				}
				got := s.list(q)
				for i := range max(len(got), len(want)) {
					if i >= len(got) || i >= len(want) || fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
						t.Fatalf("%d letters, want %d; number %d differs", len(got), len(want), i)
					}
				}
			},
		})
	})
}
