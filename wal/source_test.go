package wal

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func drawPlace(t *rapid.T, what string) SourcePlace {
	return SourcePlace{At: rapid.Int64Range(1, 1<<62).Draw(t, what+" at"), Offset: Offset(rapid.Int64Range(0, 1<<62).Draw(t, what+" offset"))}
}

func TestASourceIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Source{Partition: Partition(rapid.Uint32().Draw(t, "partition")), Hops: rapid.IntRange(0, 1000).Draw(t, "hops"), Place: drawPlace(t, "place")}
		copy(want.Topic[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "topic"))
		if rapid.Bool().Draw(t, "under way") {
			want.After = drawPlace(t, "after")
		}
		got, err := ParseSource(want.Encode())
		if err != nil || got != want {
			t.Fatalf("%v, %v; want %v", got, err, want)
		}
	})
}

func FuzzParseSource(f *testing.F) {
	s := Source{Topic: Incarnation{1}, Partition: 2, Place: SourcePlace{3, 4}, After: SourcePlace{5, 6}, Hops: 7}
	f.Add(s.Encode())
	f.Add("\x02" + s.Encode()[1:])
	f.Fuzz(func(t *testing.T, origin string) {
		got, err := ParseSource(origin)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnknownVersion) {
				t.Fatal(err)
			}
			return
		}
		if again, err := ParseSource(got.Encode()); err != nil || again != got {
			t.Fatalf("%v, %v; want %v", again, err, got)
		}
	})
}
