package waltest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/headwater-db/headwater/wal"
)

func (s *suite) trim(l wal.Log, p wal.Partition, before wal.Offset) {
	s.Helper()
	if err := l.Trim(s.ctx, p, before); err != nil {
		s.Fatalf("trim to %d: %v", before, err)
	}
}

// wantStart checks that a partition begins at start, by every way to ask.
func (s *suite) wantStart(l wal.Log, p wal.Partition, start wal.Offset) {
	s.Helper()
	if b := s.bounds(l, p); b.Start != start {
		s.Errorf("the partition starts at %d, want %d", b.Start, start)
	}
	for _, from := range []wal.Offset{0, start - 1} {
		if from < 0 || from >= start {
			continue
		}
		err := s.firstError(l, p, from)
		var trimmed *wal.TrimmedError
		if !errors.Is(err, wal.ErrTrimmed) || !errors.As(err, &trimmed) {
			s.Errorf("read at %d below the start %d: %v", from, start, err)
		} else if trimmed.Start != start || trimmed.Wanted != from {
			s.Errorf("trimmed error says wanted %d, start %d; asked for %d, starts at %d", trimmed.Wanted, trimmed.Start, from, start)
		}
	}
}

func trimMovesStart(s *suite) {
	l := s.create(2)
	says := numbered(30)
	offsets := s.appendSaid(l, 0, says...)
	s.appendSaid(l, 1, says...)
	s.trim(l, 0, offsets[10])
	s.wantStart(l, 0, offsets[10])
	s.wantSaid(l, 0, offsets[10], says[10:]...)
	s.trim(l, 0, offsets[4]) // backwards does nothing
	s.wantStart(l, 0, offsets[10])
	end := s.bounds(l, 0).End
	if err := l.Trim(s.ctx, 0, end+1); err == nil {
		s.Errorf("trim to %d beyond the end %d was accepted", end+1, end)
	}
	s.wantStart(l, 0, offsets[10])
	s.wantSaid(l, 1, 0, says...)
	if o, err := l.OffsetAt(s.ctx, 0, 1000); err != nil || o != offsets[10] {
		s.Errorf("the first offset after the beginning of time is %d, %v; want the start", o, err)
	}
}

// lastBounds: what this process has done itself is known at once, and what the log
// held before from the opening on.
func lastBounds(s *suite) {
	l := s.create(2)
	want := func(what string, p wal.Partition, start, end wal.Offset) {
		s.Helper()
		b, at := l.LastBounds(p)
		if b.Start != start || b.End != end || at == 0 {
			s.Errorf("%s: %d to %d is known as of %v, want %d to %d", what, b.Start, b.End, at, start, end)
		}
	}
	want("a new topic", 0, 0, 0)
	offsets := s.appendSaid(l, 0, numbered(30)...)
	want("after appends", 0, 0, offsets[29]+1)
	want("the partition beside", 1, 0, 0)
	s.trim(l, 0, offsets[10])
	want("after a trim", 0, offsets[10], offsets[29]+1)
	s.reopen()
	l = s.open(l.Info().Name)
	want("reopened", 0, offsets[10], offsets[29]+1)
	if b, at := l.LastBounds(2); b.Start != 0 || b.End != 0 || at != 0 {
		s.Errorf("of a partition that does not exist, %+v is known as of %v", b, at)
	}
}

func trimUnderReader(s *suite) {
	l := s.create(1)
	says := numbered(20)
	offsets := s.appendSaid(l, 0, says...)
	r, err := l.Read(s.ctx, 0, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer s.closeReader(r)
	s.trim(l, 0, offsets[15])
	if _, err := r.Next(s.ctx); !errors.Is(err, wal.ErrTrimmed) {
		s.Errorf("next of a reader below the new start: %v", err)
	}
	if _, err := r.Next(s.ctx); !errors.Is(err, wal.ErrTrimmed) {
		s.Errorf("next once more: %v", err)
	}
}

func trimSurvivesReopen(s *suite) {
	l := s.create(1)
	says := numbered(20)
	offsets := s.appendSaid(l, 0, says...)
	s.trim(l, 0, offsets[12])
	s.reopen()
	l = s.open(l.Info().Name)
	s.wantStart(l, 0, offsets[12])
	s.wantSaid(l, 0, offsets[12], says[12:]...)
}

// emptiedKeepsEnd: an offset is given once, also when nothing is left that shows
// that it was.
func emptiedKeepsEnd(s *suite) {
	l := s.create(1)
	name := l.Info().Name
	s.appendSaid(l, 0, numbered(9)...)
	end := s.bounds(l, 0).End
	s.trim(l, 0, end)
	if b := s.bounds(l, 0); b.Start != end || b.End != end {
		s.Errorf("emptied partition has bounds %d to %d, want %d twice", b.Start, b.End, end)
	}
	for range 2 {
		s.reopen()
		l = s.open(name)
		if b := s.bounds(l, 0); b.Start != end || b.End != end {
			s.Errorf("after a restart bounds are %d to %d, want %d twice", b.Start, b.End, end)
		}
	}
	if o := s.append1(l, 0, rec("next")); o != end {
		s.Errorf("the next record is at %d, want %d", o, end)
	}
	s.wantSaid(l, 0, end, "next")
}

func createIdempotent(s *suite) {
	l := s.create(3)
	s.append1(l, 2, rec("a"))
	again := s.createNamed(l.Info().Name, 3)
	if again.Info() != l.Info() {
		s.Errorf("created again: %+v, was %+v", again.Info(), l.Info())
	}
	s.wantSaid(again, 2, 0, "a")
	topics, err := s.b.Topics(s.ctx)
	if err != nil || !slices.Contains(topics, l.Info()) {
		s.Errorf("topics %v, %v: %v is missing", topics, err, l.Info())
	}
}

func partitionCount(s *suite) {
	l := s.create(3)
	for _, n := range []int{2, 4} {
		if _, err := s.b.Create(s.ctx, wal.TopicSpec{Name: l.Info().Name, Partitions: n}); !errors.Is(err, wal.ErrPartitionCount) {
			s.Errorf("create with %d partitions where 3 are: %v", n, err)
		}
	}
	if got := s.open(l.Info().Name).Info().Partitions; got != 3 {
		s.Errorf("the topic has %d partitions now", got)
	}
	if _, err := s.b.Create(s.ctx, wal.TopicSpec{Name: topicName(), Partitions: 0}); err == nil {
		s.Error("a topic without partitions was created")
	}
}

func openUnknown(s *suite) {
	if _, err := s.b.Open(s.ctx, topicName()); !errors.Is(err, wal.ErrTopicNotFound) {
		s.Errorf("open of no topic: %v", err)
	}
	if err := s.b.Delete(s.ctx, topicName()); err != nil {
		s.Errorf("delete of no topic: %v", err)
	}
}

func incarnationReopen(s *suite) {
	l := s.create(2)
	was := l.Info()
	if was.Incarnation.IsZero() {
		s.Error("incarnation is zero")
	}
	s.reopen()
	if got := s.open(was.Name).Info(); got != was {
		s.Errorf("after a restart %+v, was %+v", got, was)
	}
}

func recreatedTopic(s *suite) {
	l := s.create(1)
	was := l.Info()
	s.appendSaid(l, 0, numbered(5)...)
	if err := s.b.Delete(s.ctx, was.Name); err != nil {
		s.Fatalf("delete: %v", err)
	}
	if _, err := s.b.Open(s.ctx, was.Name); !errors.Is(err, wal.ErrTopicNotFound) {
		s.Errorf("open after delete: %v", err)
	}
	l = s.createNamed(was.Name, 1)
	if l.Info().Incarnation == was.Incarnation {
		s.Error("the topic made again has the old incarnation")
	}
	if b := s.bounds(l, 0); b.Start != 0 || b.End != 0 {
		s.Errorf("the topic made again has bounds %d to %d", b.Start, b.End)
	}
	s.append1(l, 0, rec("new"))
	s.wantSaid(l, 0, 0, "new")
	now := l.Info()
	s.reopen()
	l = s.open(was.Name)
	if l.Info() != now {
		s.Errorf("after a restart %+v, was %+v", l.Info(), now)
	}
	s.wantSaid(l, 0, 0, "new")
}

// staleHandle: a handle of a deleted topic touches neither the hole nor the topic
// of the same name that stands there now.
func staleHandle(s *suite) {
	l := s.create(1)
	name := l.Info().Name
	s.appendSaid(l, 0, numbered(3)...)
	r, err := l.Read(s.ctx, 0, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer s.closeReader(r)
	refused := func(what string, err error) {
		s.Helper()
		if !errors.Is(err, wal.ErrIncarnation) && !errors.Is(err, wal.ErrTopicNotFound) {
			s.Errorf("%s on a stale handle: %v", what, err)
		}
	}
	if err := s.b.Delete(s.ctx, name); err != nil {
		s.Fatalf("delete: %v", err)
	}
	fresh := s.createNamed(name, 1)
	res := l.Append(s.ctx, wal.Sync, []wal.NewEntry{{Data: rec("stale")}})[0]
	refused("append", res.Err)
	if !errors.Is(res.Err, wal.ErrNotAppended) {
		s.Errorf("append on a stale handle: %v", res.Err)
	}
	_, err = l.Bounds(s.ctx, 0)
	refused("bounds", err)
	refused("trim", l.Trim(s.ctx, 0, 1))
	_, err = l.Barrier(s.ctx, 0)
	refused("barrier", err)
	refused("read", s.firstError(l, 0, 0))
	_, err = r.Next(s.ctx)
	refused("next", err)
	if b := s.bounds(fresh, 0); b.End != 0 {
		s.Errorf("a stale handle wrote into the new topic: its end is %d", b.End)
	}
}

func reopenKeeps(s *suite) {
	l := s.create(2)
	name := l.Info().Name
	var want []string
	for round := range 4 {
		says := []string{fmt.Sprintf("%d-a", round), fmt.Sprintf("%d-b", round)}
		want = append(want, says...)
		s.appendSaid(l, 1, says...)
		end := s.bounds(l, 1).End
		last := s.read(l, 1, 0, len(want))[len(want)-1].logTime
		s.reopen()
		l = s.open(name)
		if b := s.bounds(l, 1); b.Start != 0 || b.End != end {
			s.Errorf("after a restart bounds are %d to %d, want 0 to %d", b.Start, b.End, end)
		}
		if again := s.read(l, 1, 0, len(want))[len(want)-1].logTime; again != last {
			s.Errorf("after a restart the last log time is %d, was %d", again, last)
		}
		s.wantSaid(l, 1, 0, want...)
	}
	if b := s.bounds(l, 0); b.End != 0 {
		s.Errorf("the untouched partition ends at %d", b.End)
	}
}

func useAfterClose(s *suite) {
	l := s.create(1)
	name := l.Info().Name
	s.append1(l, 0, rec("a"))
	r, err := l.Read(s.ctx, 0, 0)
	if err != nil {
		s.Fatal(err)
	}
	if err := s.b.Close(); err != nil {
		s.Fatalf("close: %v", err)
	}
	for _, d := range []wal.Durability{wal.Sync, wal.Buffered} {
		if err := l.Append(s.ctx, d, []wal.NewEntry{{Data: rec("late")}})[0].Err; !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, wal.ErrClosed) {
			s.Errorf("append after close: %v", err)
		}
	}
	_, err1 := l.Bounds(s.ctx, 0)
	_, err2 := l.Barrier(s.ctx, 0)
	_, err3 := l.OffsetAt(s.ctx, 0, 0)
	_, err4 := s.b.Create(s.ctx, wal.TopicSpec{Name: topicName(), Partitions: 1})
	_, err5 := s.b.Open(s.ctx, name)
	_, err6 := r.Next(s.ctx)
	for i, err := range []error{err1, err2, err3, err4, err5, err6, s.firstError(l, 0, 0), l.Trim(s.ctx, 0, 1), s.b.Delete(s.ctx, name)} {
		if !errors.Is(err, wal.ErrClosed) {
			s.Errorf("method %d after close: %v", i+1, err)
		}
	}
	if s.b.Health() == nil {
		s.Error("a closed broker says that it is healthy")
	}
	s.closeReader(r)
	if err := s.b.Close(); err != nil {
		s.Errorf("close again: %v", err)
	}
	s.reopen()
	s.wantSaid(s.open(name), 0, 0, "a")
}

func closeWakesReaders(s *suite) {
	l := s.create(1)
	ended := make(chan error, 4)
	for range cap(ended) {
		r, err := l.Read(s.ctx, 0, 0)
		if err != nil {
			s.Fatal(err)
		}
		go func() {
			_, err := r.Next(s.ctx)
			ended <- errors.Join(err, r.Close())
		}()
	}
	if err := s.b.Close(); err != nil {
		s.Fatalf("close: %v", err)
	}
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, wal.ErrClosed) {
			s.Errorf("next while the broker closes: %v", err)
		}
	}
}
