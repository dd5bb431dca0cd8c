package consumers

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/wal"
)

// sourceKey is a partition of a log.
type sourceKey struct {
	topic wal.Incarnation
	p     wal.Partition
}

func TestSourcesAreTheHighestPlaceOfEachPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := make(map[sourceKey]wal.SourcePlace)
		all := [2]Sources{}
		for range rapid.IntRange(0, 40).Draw(t, "places") {
			k := sourceKey{wal.Incarnation{rapid.Byte().Draw(t, "topic") % 3, 0xff}, wal.Partition(rapid.SampledFrom([]uint32{0, 1, 256, 1<<32 - 1}).Draw(t, "partition"))}
			at := wal.SourcePlace{At: rapid.Int64Range(1, 5).Draw(t, "at"), Offset: wal.Offset(rapid.Int64Range(0, 5).Draw(t, "offset"))}
			i := rapid.IntRange(0, 1).Draw(t, "of")
			all[i] = all[i].With(k.topic, k.p, at)
			if want[k].Compare(at) < 0 {
				want[k] = at
			}
		}
		s := all[0].Merge(all[1])
		if s != all[1].Merge(all[0]) || s.Merge(s) != s || !s.Valid() || len(s) != len(want)*sourceSize {
			t.Fatalf("%x of %x and %x", string(s), string(all[0]), string(all[1]))
		}
		for k, at := range want {
			if got := s.Place(k.topic, k.p); got != at {
				t.Fatalf("%v of %v, want %v", got, k, at)
			}
		}
		if got := s.Place(wal.Incarnation{9}, 0); !got.IsZero() {
			t.Fatalf("%v of a log that nothing came of", got)
		}
		if len(s) > 0 && (s[1:].Valid() || (s + s).Valid()) {
			t.Fatal("what is no list passes for one")
		}
	})
}
