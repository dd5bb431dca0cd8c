package wal

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
// goes on in the log from there would miss it. barrier is the time at which the
// read asked for the barrier that it waited for, microseconds since 1970, 0 for
// none.
func (s *Stream) Seen(p Partition, barrier int64) Seen {
	g := s.cfg.Progress
	logTime := g.LogTime(p) // before the offset, so that it is not of a later record
	end := s.cfg.Log.LastEnd(p)
	return s.SeenAt(p, g.Applied(p), logTime, end, barrier)
}

// SeenAt is Seen for a read that is as of another offset than the watermark.
// logTime is that of the record there, or less, and end was taken before the
// read.
//
// The time is that of the barrier, or the last at which the log's end was found
// to be seen, or the append time of the last record seen, whichever is latest:
// each is one at which nothing was acknowledged that the read lacks.
func (s *Stream) SeenAt(p Partition, seen Offset, logTime int64, end LogEnd, barrier int64) Seen {
	found := &s.parts[p].found
	at := found.Load()
	if seen >= end.End-1 {
		for at < end.At && !found.CompareAndSwap(at, end.At) {
			at = found.Load()
		}
		at = max(at, end.At)
	}
	return Seen{Partition: p, Offset: seen, Time: max(barrier, at, logTime)}
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
