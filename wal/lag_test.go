package wal_test

import (
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// known is a log of which nothing but its last bounds is asked.
type known struct {
	wal.Log
	end wal.Offset
}

func (k *known) Info() wal.TopicInfo { return wal.TopicInfo{Partitions: 1} }

func (k *known) LastBounds(wal.Partition) (wal.Bounds, int64) {
	return wal.Bounds{End: k.end}, 1
}

func TestLagIsTheTimeThatTheOldestRecordHasWaited(t *testing.T) {
	t.Parallel()
	base := time.Unix(1_700_000_000, 0)
	at := func(d time.Duration) time.Time { return base.Add(d) }
	entries := func(from wal.Offset, times ...time.Duration) []wal.Entry {
		out := make([]wal.Entry, len(times))
		for i, d := range times {
			out[i] = wal.Entry{Offset: from + wal.Offset(i), LogTime: at(d).UnixMicro()}
		}
		return out
	}
	log, g := &known{}, wal.NewProgress(1)
	s := wal.NewStream(wal.StreamConfig{Log: log, Progress: g})
	want := func(what string, now time.Duration, records int64, waited time.Duration) {
		t.Helper()
		if l := s.Lag(0, at(now)); l.Records != records || l.Time != waited {
			t.Errorf("%s: %d records for %v, not %d for %v", what, l.Records, l.Time, records, waited)
		}
	}
	want("an empty log", 0, 0, 0)

	log.end = 1
	g.Hold(0, entries(0, 0))
	g.Advance(0, 0, at(0).UnixMicro())
	g.Release(0)
	want("all is applied, long ago", 10*time.Hour, 0, 0)

	// An hour without records is no lag of the record that ends it.
	log.end = 4
	g.Hold(0, entries(1, time.Hour, time.Hour+time.Minute, time.Hour+2*time.Minute))
	want("three wait after an idle hour", time.Hour+5*time.Minute, 3, 5*time.Minute)
	g.Advance(0, 1, at(time.Hour).UnixMicro())
	want("a part of a batch is applied", time.Hour+5*time.Minute, 2, 4*time.Minute)
	g.Release(0) // the rest has failed, and is read again
	want("the batch is given up", time.Hour+6*time.Minute, 2, 5*time.Minute)
	g.Hold(0, entries(2, time.Hour+time.Minute, time.Hour+2*time.Minute))
	g.Advance(0, 3, at(time.Hour+2*time.Minute).UnixMicro())
	g.Release(0)
	want("all is applied", time.Hour+7*time.Minute, 0, 0)

	// A record that can't be read has waited since it was known of.
	log.end = 6
	want("two are known of", 2*time.Hour, 2, 0)
	want("and cannot be read", 2*time.Hour+time.Minute, 2, time.Minute)
	log.end = 7
	want("nor can the next", 2*time.Hour+2*time.Minute, 3, 2*time.Minute)
	g.Hold(0, entries(4, 2*time.Hour-3*time.Second))
	want("the first of them is read", 2*time.Hour+3*time.Minute, 3, 3*time.Minute+3*time.Second)
	g.Advance(0, 4, at(2*time.Hour).UnixMicro())
	g.Release(0)
	want("and applied", 2*time.Hour+4*time.Minute, 2, 0)
	want("the next cannot be read", 2*time.Hour+5*time.Minute, 2, time.Minute)

	// What this process has acknowledged is in the log, also before the log's end is
	// heard of.
	g.Ack(0, 8)
	want("acknowledged", 2*time.Hour+6*time.Minute, 4, 2*time.Minute)
	g.Advance(0, 9, at(2*time.Hour).UnixMicro())
	want("applied beyond the last known end", 2*time.Hour+7*time.Minute, 0, 0)
	log.end = 11
	want("another, later", 3*time.Hour, 1, 0)
	want("which has waited since", 3*time.Hour+time.Second, 1, time.Second)
	if l := s.Lag(0, at(0)); l.Time != 0 {
		t.Errorf("a clock behind that of the log makes the lag %v", l.Time)
	}
}
