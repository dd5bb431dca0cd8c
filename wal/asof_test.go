package wal_test

import (
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// TestTheTimeOfAReadIsOneAtWhichItHadEverything: the time that a read tells is
// never later than the append of a record that it has not seen, whoever appended
// that, and as late as this process can know.
func TestTheTimeOfAReadIsOneAtWhichItHadEverything(t *testing.T) {
	t.Parallel()
	s := newStream(t, wal.StreamConfig{})
	log, g := s.Log(), s.Progress()
	now := func() int64 { return log.LastEnd(0).At }
	// another appends as another producer of the topic does, which this stream is
	// told nothing of.
	another := func() (wal.Offset, int64) {
		data := wal.AppendRecord(nil, &wal.Record{Kind: wal.KindMessage, RoutingKey: []byte("k")})
		res := log.Append(t.Context(), wal.Sync, []wal.NewEntry{{Data: data}})[0]
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		return res.Offset, res.LogTime
	}
	before := now()
	if at := s.Seen(0, 0); at.Offset != wal.NoOffset || at.Time < before {
		t.Errorf("of an empty log, from %d on: %+v", before, at)
	}
	o, first := another()
	if at := s.Seen(0, 0); at.Offset != wal.NoOffset || at.Time < before || at.Time > first {
		t.Errorf("with all pending, between %d and %d: %+v", before, first, at)
	}
	g.Advance(0, o, first)
	before = now()
	quiet := s.Seen(0, 0)
	if quiet.Offset != o || quiet.Time < before {
		t.Errorf("with nothing pending, from %d on: %+v", before, quiet)
	}
	_, second := another()
	o, third := another()
	if at := s.Seen(0, 0); at.Offset != o-2 || at.Time < quiet.Time || at.Time > second {
		t.Errorf("between %d, which a read had told, and %d, of the record that is pending: %+v", quiet.Time, second, at)
	}
	g.Advance(0, o-1, second)
	if at := s.Seen(0, 0); at.Offset != o-1 || at.Time != second {
		t.Errorf("the last record applied is of %d, one of %d is pending: %+v", second, third, at)
	}
	// A barrier is known to be applied: the time before it was asked for counts.
	barrier := now()
	if at := s.Seen(0, barrier); at.Time != barrier {
		t.Errorf("after a barrier at %d: %+v", barrier, at)
	}
	// Of several partitions, the one that is furthest behind.
	if got := s.AsOf(s.Seen(0, 0), s.Seen(1, 0)); got.Time != second {
		t.Errorf("two partitions, one as of %d: %s", second, time.UnixMicro(got.Time))
	}
}
