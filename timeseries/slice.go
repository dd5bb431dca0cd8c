package timeseries

import (
	"slices"
	"time"
)

// Slice is a span of event time, start included and end excluded, in microseconds since
// 1970. The slices of a partition do not overlap. Each keeps the settings that it was
// born with.
type Slice struct {
	Start, End   int64
	EventBuckets int
	Index        IndexKeys // items that searches find events by
}

// Slices are those of a partition, by start. They are not changed: With makes new ones.
type Slices []Slice

// at is the index of the slice that holds t, or where one that does would stand.
func (s Slices) at(t int64) (i int, found bool) {
	i, found = slices.BinarySearchFunc(s, t, func(x Slice, t int64) int {
		switch {
		case x.End <= t:
			return -1
		case x.Start > t:
			return 1
		}
		return 0
	})
	return i, found
}

// Of returns the slice that holds t, and whether there is one.
func (s Slices) Of(t int64) (Slice, bool) {
	i, found := s.at(t)
	if !found {
		return Slice{}, false
	}
	return s[i], true
}

// New is the slice that is to hold t where there is none: as long as the settings say,
// beginning at a multiple of that since 1970, and cut where a neighbour begins or ends.
func (s Slices) New(t int64, set *Settings) Slice {
	length := set.Slice.Microseconds()
	start := floorDiv(t, length) * length
	x := Slice{Start: start, End: start + length, EventBuckets: set.EventBuckets, Index: set.Index}
	i, _ := s.at(t)
	if i > 0 {
		x.Start = max(x.Start, s[i-1].End)
	}
	if i < len(s) {
		x.End = min(x.End, s[i].Start)
	}
	return x
}

// With returns the slices and x.
func (s Slices) With(x Slice) Slices {
	i, _ := s.at(x.Start)
	return slices.Insert(slices.Clone(s), i, x)
}

// Without returns the slices but the one that begins at start.
func (s Slices) Without(start int64) Slices {
	return slices.DeleteFunc(slices.Clone(s), func(x Slice) bool { return x.Start == start })
}

// Overlapping are the slices with a time of start <= t < end.
func (s Slices) Overlapping(start, end int64) Slices {
	var out Slices
	for _, x := range s {
		if x.End > start && x.Start < end {
			out = append(out, x)
		}
	}
	return out
}

// ReadIn are the slices that a read of start <= t < end looks at, in its order: those that are
// open. ErrAcrossTime: there are more than MaxSlices.
func (s Slices) ReadIn(start, end int64, oldest bool, open OpenSlices) (Slices, error) {
	all := s.Overlapping(start, end)
	if len(all) > MaxSlices {
		return nil, ErrAcrossTime
	}
	if !oldest {
		slices.Reverse(all)
	}
	return slices.DeleteFunc(all, func(x Slice) bool { return !open.Has(x) }), nil
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// Settings are the parts of a namespace's configuration that decide what becomes of an
// event. A record is applied under the version that it was accepted under.
type Settings struct {
	TokenWindow time.Duration
	// Slice is how long a new slice is.
	Slice        time.Duration
	EventBuckets int
	// AcceptLimit is how old an event may be when it comes, AcceptFuture how far ahead;
	// 0: no limit.
	AcceptLimit, AcceptFuture time.Duration
	// Index is what a new slice has an index on.
	Index IndexKeys
	// CloseAfter is how long after its end a slice is read and written; 0: for ever.
	CloseAfter time.Duration
	// DeleteAfter is how long after its end a slice is dropped; 0: never.
	DeleteAfter time.Duration
	// Blocked are series of which nothing is taken.
	Blocked map[string]bool
}

// judge says whether an event is taken at a time that was sent at another one, 0 for yes. grace is added to each
// limit.
func (s *Settings) judge(series []byte, t, now, sent int64, in Slice, grace time.Duration) Why {
	switch {
	case len(s.Blocked) > 0 && s.Blocked[string(series)]:
		return Blocked
	case s.closed(in, now-grace.Microseconds()):
		return SliceClosed
	case s.AcceptLimit > 0 && t < sent-(s.AcceptLimit+grace).Microseconds():
		return TooOld
	case s.AcceptFuture > 0 && t > now+(s.AcceptFuture+grace).Microseconds():
		return TooNew
	}
	return 0
}

// closed reports whether a slice is closed at a time.
func (s *Settings) closed(x Slice, now int64) bool {
	return s.CloseAfter > 0 && x.End+s.CloseAfter.Microseconds() <= now
}

// OpenAt tells which slices are read at a time, microseconds since 1970.
func (s *Settings) OpenAt(now int64) OpenSlices {
	if s.CloseAfter <= 0 {
		return OpenSlices{}
	}
	return OpenSlices{Bounded: true, After: now - s.CloseAfter.Microseconds()}
}

// OpenSlices are the slices that are read: those that end after After, or all where they are not
// Bounded.
type OpenSlices struct {
	Bounded bool
	After   int64 // microseconds since 1970
}

// Has reports whether a slice is one of them.
func (o OpenSlices) Has(x Slice) bool { return !o.Bounded || x.End > o.After }

// dropped reports whether a slice is due to be dropped at a time.
func (s *Settings) dropped(x Slice, now int64) bool {
	return s.DeleteAfter > 0 && x.End+s.DeleteAfter.Microseconds() <= now
}
