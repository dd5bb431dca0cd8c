package waltest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/headwater-db/headwater/wal"
)

func numbered(n int) (says []string) {
	for i := range n {
		says = append(says, fmt.Sprintf("record-%d", i))
	}
	return says
}

func readFromAnyOffset(s *suite) {
	l := s.create(1)
	says := numbered(40)
	offsets := s.appendSaid(l, 0, says...)
	for _, i := range []int{0, 1, 17, 38, 39} {
		s.wantSaid(l, 0, offsets[i], says[i:]...)
		if g := s.read(l, 0, offsets[i], 1)[0]; g.offset != offsets[i] {
			s.Errorf("reading from %d begins at %d", offsets[i], g.offset)
		}
	}
}

func readBeyondEnd(s *suite) {
	l := s.create(1)
	if err := s.firstError(l, 0, 5); !errors.Is(err, wal.ErrBeyondEnd) {
		s.Errorf("read at 5 of an empty partition: %v", err)
	}
	s.appendSaid(l, 0, numbered(3)...)
	end := s.bounds(l, 0).End
	if err := s.firstError(l, 0, end+1); !errors.Is(err, wal.ErrBeyondEnd) {
		s.Errorf("read at %d, end %d: %v", end+1, end, err)
	}
	// At the end itself a reader waits; the next record is its first.
	r, err := l.Read(s.ctx, 0, end)
	if err != nil {
		s.Fatalf("read at the end: %v", err)
	}
	defer s.closeReader(r)
	s.append1(l, 0, rec("next"))
	entries, err := r.Next(s.ctx)
	if err != nil || s.say(entries[0].Data) != "next" {
		s.Errorf("first record after the end: %d entries, %v", len(entries), err)
	}
}

func readBlocksAndWakes(s *suite) {
	l := s.create(1)
	r, err := l.Read(s.ctx, 0, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer s.closeReader(r)
	says := make(chan string)
	go func() {
		defer close(says)
		for n := 0; n < 20; {
			entries, err := r.Next(s.ctx)
			if err != nil {
				s.Errorf("next: %v", err)
				return
			}
			for _, e := range entries {
				if x := s.say(e.Data); x != "" {
					says <- x
					n++
				}
			}
		}
	}()
	// Each record is appended only when the one before it has been read, so the
	// reader is at the end every time.
	for i := range 20 {
		s.append1(l, 0, rec("%d", i))
		if x, ok := <-says; !ok || x != fmt.Sprint(i) {
			s.Fatalf("record %d says %q", i, x)
		}
	}
	for range says {
		s.Error("more records than were written")
	}
}

// readHonoursContext: a cancelled Next loses nothing.
func readHonoursContext(s *suite) {
	l := s.create(1)
	r, err := l.Read(s.ctx, 0, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer s.closeReader(r)
	for i := range 5 {
		ctx, cancel := context.WithCancel(s.ctx)
		ended := make(chan error, 1)
		go func() { _, err := r.Next(ctx); ended <- err }()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.Fatalf("next of a cancelled context at the end: %v", err)
		}
		s.append1(l, 0, rec("%d", i))
		entries, err := r.Next(s.ctx)
		if err != nil || len(entries) != 1 || s.say(entries[0].Data) != fmt.Sprint(i) {
			s.Fatalf("next after a cancelled one: %d entries, %v", len(entries), err)
		}
	}
}

// readerDataLives: appends, other readers and restarts of their buffers do not
// touch what a reader holds.
func readerDataLives(s *suite) {
	l := s.create(1)
	says := numbered(200)
	s.appendSaid(l, 0, says...)
	r, err := l.Read(s.ctx, 0, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer s.closeReader(r)
	entries, err := r.Next(s.ctx)
	if err != nil {
		s.Fatal(err)
	}
	s.appendSaid(l, 0, numbered(200)...)
	s.read(l, 0, 0, 400)
	for i, e := range entries {
		if s.say(e.Data) != says[i] {
			s.Fatalf("record %d changed under its reader", i)
		}
	}
}

func manyReaders(s *suite) {
	l := s.create(1)
	const n = 300
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := l.Read(s.ctx, 0, 0)
			if err != nil {
				s.Errorf("read: %v", err)
				return
			}
			defer s.closeReader(r)
			for i := 0; i < n; {
				entries, err := r.Next(s.ctx)
				if err != nil {
					s.Errorf("next: %v", err)
					return
				}
				for _, e := range entries {
					var rd wal.Record
					if err := wal.DecodeRecord(e.Data, &rd); err != nil {
						s.Errorf("decode: %v", err)
						return
					}
					if rd.Kind == wal.KindBarrier {
						continue
					}
					if string(rd.Payload) != fmt.Sprint(i) {
						s.Errorf("record %d says %q", i, rd.Payload)
						return
					}
					i++
				}
			}
		})
	}
	for i := range n {
		s.append1(l, 0, rec("%d", i))
	}
	wg.Wait()
}

func bounds(s *suite) {
	l := s.create(2)
	if b := s.bounds(l, 0); b.Start != 0 || b.End != 0 {
		s.Errorf("empty partition has bounds %d to %d", b.Start, b.End)
	}
	offsets := s.appendSaid(l, 0, numbered(7)...)
	if b := s.bounds(l, 0); b.Start != 0 || b.End != offsets[6]+1 || b.Bytes < -1 {
		s.Errorf("bounds %+v, the last record is %d", b, offsets[6])
	}
	if b := s.bounds(l, 1); b.Start != 0 || b.End != 0 {
		s.Errorf("the other partition has bounds %d to %d", b.Start, b.End)
	}
}

func offsetAt(s *suite) {
	l := s.create(1)
	if o, err := l.OffsetAt(s.ctx, 0, 1); err != nil || o != 0 {
		s.Errorf("offset at a time in an empty partition: %d, %v", o, err)
	}
	for i := range 12 {
		s.append1(l, 0, rec("%d", i))
	}
	all := s.read(l, 0, 0, 12)
	ask := func(t int64) wal.Offset {
		o, err := l.OffsetAt(s.ctx, 0, t)
		if err != nil {
			s.Fatalf("offset at %d: %v", t, err)
		}
		return o
	}
	want := func(t int64) wal.Offset {
		for _, g := range all {
			if g.logTime >= t {
				return g.offset
			}
		}
		return s.bounds(l, 0).End
	}
	// Kafka keeps milliseconds, so whole milliseconds are asked for.
	const ms = 1000
	times := []int64{ms, all[11].logTime/ms*ms + 3600_000_000}
	for _, g := range all {
		times = append(times, g.logTime/ms*ms)
	}
	for _, t := range times {
		if got := ask(t); got != want(t) {
			s.Errorf("offset at %d is %d, want %d", t, got, want(t))
		}
	}
}

// lastEnd: what was acknowledged before the moment of LastEnd is below its end,
// and Bounds brings it up to the moment that it was called at.
func lastEnd(s *suite) {
	l := s.create(2)
	for i := range 5 {
		acked := s.append1(l, 0, rec("%d", i))
		now := s.b.Now().UnixMicro()
		if e := l.LastEnd(0); e.At >= now && e.End <= acked || e.At > s.b.Now().UnixMicro() {
			s.Errorf("the last end %+v, with a record at %d from before %d", e, acked, now)
		}
		b := s.bounds(l, 0)
		if e := l.LastEnd(0); e.At < now || e.End < b.End || e.At > s.b.Now().UnixMicro() {
			s.Errorf("the last end %+v, after it was read as %d, after %d", e, b.End, now)
		}
	}
	if b, e := s.bounds(l, 1), l.LastEnd(1); e.End != 0 || b.End != 0 {
		s.Errorf("an empty partition ends at %+v", e)
	}
}

func barrierCovers(s *suite) {
	l := s.create(2)
	for i := range 10 {
		o := s.append1(l, 0, rec("%d", i))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				b, err := l.Barrier(s.ctx, 0)
				if err != nil || b < o {
					s.Errorf("barrier %d after an append at %d: %v", b, o, err)
				}
			})
		}
		wg.Wait()
		// It is reachable: a reader gets there.
		b, err := l.Barrier(s.ctx, 0)
		if err != nil {
			s.Fatal(err)
		}
		if end := s.bounds(l, 0).End; end < b+1 {
			s.Errorf("barrier %d is beyond the end %d", b, end)
		}
	}
	if _, err := l.Barrier(s.ctx, 1); err != nil {
		s.Errorf("barrier of an empty partition: %v", err)
	}
}

func noSuchPartition(s *suite) {
	l := s.create(2)
	_, err1 := l.Read(s.ctx, 2, 0)
	_, err2 := l.Bounds(s.ctx, 2)
	_, err3 := l.OffsetAt(s.ctx, 9, 0)
	_, err4 := l.Barrier(s.ctx, 2)
	err5 := l.Trim(s.ctx, 2, 0)
	for i, err := range []error{err1, err2, err3, err4, err5} {
		if !errors.Is(err, wal.ErrNoPartition) {
			s.Errorf("method %d on a partition that is not there: %v", i+1, err)
		}
	}
}
