package wal

import "time"

// Seen is what a read saw of one partition: every record up to Offset, at least.
type Seen struct {
	Partition Partition
	Offset    Offset // NoOffset: none
	Time      int64  // microseconds since 1970: what was acknowledged by then is among it
}

// AsOf is what an answer is exact as of, as callers are told.
type AsOf struct {
	Position string
	Time     int64 // microseconds since 1970
}

// Seen says what a read of p that begins after the call sees at least. Taken
// after the read, it would claim what the read may not have seen: a caller who
// goes on in the log from there would miss it.
func (s *Stream) Seen(p Partition, now time.Time) Seen {
	g := s.cfg.Progress
	at := g.LogTime(p) // before the offset, so that it is not of a later record
	applied := g.Applied(p)
	if g.Acked(p) <= applied {
		at = now.UnixMicro()
	}
	return Seen{Partition: p, Offset: applied, Time: min(at, now.UnixMicro())}
}

// AsOf is what an answer that was made from several reads is exact as of: the
// position names every partition that was read, also one in which nothing is
// applied yet, and the time is that of the partition that is furthest behind.
func (s *Stream) AsOf(seen ...Seen) AsOf {
	if len(seen) == 1 {
		return AsOf{Position: s.Position(seen[0].Partition, seen[0].Offset), Time: seen[0].Time}
	}
	pos := Position{Namespace: s.cfg.Namespace, Incarnation: s.info.Incarnation, Offsets: make(map[Partition]Offset, len(seen))}
	var at int64
	for i, x := range seen {
		pos.Offsets[x.Partition] = x.Offset
		if i == 0 || x.Time < at {
			at = x.Time
		}
	}
	return AsOf{Position: pos.String(), Time: at}
}
