package wal

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func TestPositionCursorIsThePositionOfEachStep(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 256).Draw(t, "partitions")
		want := Position{Namespace: rapid.StringMatching("[a-z][a-z0-9-]{0,47}").Draw(t, "ns"), Incarnation: Incarnation{5}, Offsets: map[Partition]Offset{}}
		offset := rapid.Custom(func(t *rapid.T) Offset {
			return Offset(rapid.SampledFrom([]int64{-1, 0, 126, 127, 128, 1 << 14, 1<<14 - 2, 1 << 40, 1<<63 - 1}).Draw(t, "offset"))
		})
		begin := make([]Offset, n)
		for p := range begin {
			begin[p] = offset.Draw(t, "begin")
			want.Offsets[Partition(p)] = begin[p]
		}
		c := NewPositionCursor(want.Namespace, want.Incarnation, begin)
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			if got := c.String(); got != want.String() {
				t.Fatalf("%s, want %s, of %+v", got, want, want)
			}
			p := Partition(rapid.IntRange(0, n-1).Draw(t, "partition"))
			o := offset.Draw(t, "to")
			c.Move(p, o)
			want.Offsets[p] = o
		}
		if got := c.String(); got != want.String() {
			t.Fatalf("%s, want %s, of %+v", got, want, want)
		}
	})
}

func BenchmarkPositionOfAStep(b *testing.B) {
	for _, n := range []int{4, 64, 256} {
		offsets := make([]Offset, n)
		for i := range offsets {
			offsets[i] = 1 << 20
		}
		name := fmt.Sprintf("%03d", n)
		b.Run("cursor/"+name, func(b *testing.B) {
			b.ReportAllocs()
			c := NewPositionCursor("plays", Incarnation{1}, offsets)
			for i := range b.N {
				c.Move(Partition(i%n), Offset(1<<20+i))
				_ = c.String()
			}
		})
		b.Run("position/"+name, func(b *testing.B) {
			b.ReportAllocs()
			p := Position{Namespace: "plays", Incarnation: Incarnation{1}, Offsets: map[Partition]Offset{}}
			for i, o := range offsets {
				p.Offsets[Partition(i)] = o
			}
			for i := range b.N {
				p.Merge(NewPosition("plays", Incarnation{1}, Partition(i%n), Offset(1<<20+i)))
				_ = p.String()
			}
		})
	}
}
