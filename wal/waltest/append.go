package waltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/headwater-db/headwater/wal"
)

func roundTrip(s *suite) {
	l := s.create(1)
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprintf("one-%d", i))
		s.append1(l, 0, rec("one-%d", i))
	}
	var datas [][]byte
	for i := range 500 {
		want = append(want, fmt.Sprintf("batch-%d", i))
		datas = append(datas, rec("batch-%d", i))
	}
	s.appendAll(l, 0, datas...)
	s.wantSaid(l, 0, 0, want...)
}

// resultPerEntry: each entry has its own result, at its place, and a refused one
// does not take the others with it.
func resultPerEntry(s *suite) {
	l := s.create(2)
	tooLarge := make([]byte, wal.MaxRecordBytes+1)
	results := l.Append(s.ctx, wal.Sync, []wal.NewEntry{
		{Partition: 0, Data: rec("a")},
		{Partition: 7, Data: rec("nowhere")},
		{Partition: 1, Data: rec("b")},
		{Partition: 0, Data: tooLarge},
		{Partition: 0, Data: rec("c")},
	})
	if len(results) != 5 {
		s.Fatalf("%d results for 5 entries", len(results))
	}
	for i, want := range []error{nil, wal.ErrNoPartition, nil, wal.ErrTooLarge, nil} {
		err := results[i].Err
		if want == nil {
			if err != nil {
				s.Errorf("entry %d: %v", i, err)
			}
			continue
		}
		if !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, want) {
			s.Errorf("entry %d: %v, want not appended and %v", i, err, want)
		}
	}
	if results[0].Offset >= results[4].Offset {
		s.Errorf("offsets %d and %d of one partition are not in order", results[0].Offset, results[4].Offset)
	}
	s.wantSaid(l, 0, 0, "a", "c")
	s.wantSaid(l, 1, 0, "b")
}

func partitionsApart(s *suite) {
	a, b := s.create(3), s.create(2)
	logs := map[string]struct {
		l wal.Log
		p wal.Partition
	}{"a0": {a, 0}, "a1": {a, 1}, "a2": {a, 2}, "b0": {b, 0}, "b1": {b, 1}}
	for i := range 20 {
		for name, x := range logs {
			s.append1(x.l, x.p, rec("%s-%d", name, i))
		}
	}
	for name, x := range logs {
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprintf("%s-%d", name, i))
		}
		s.wantSaid(x.l, x.p, 0, want...)
	}
}

// concurrentAppenders: every caller's records are all there, once, in the order of
// its calls, at the offsets that it was told.
func concurrentAppenders(s *suite) {
	const callers, calls, partitions = 16, 25, 3
	l := s.create(partitions)
	type place struct {
		p wal.Partition
		o wal.Offset
	}
	var mu sync.Mutex
	told := map[place]string{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range calls {
				entries := make([]wal.NewEntry, 1+i%4)
				for k := range entries {
					entries[k] = wal.NewEntry{Partition: wal.Partition((c + k) % partitions), Data: rec("%d %d", c, i*10+k)}
				}
				for k, r := range l.Append(s.ctx, wal.Sync, entries) {
					if r.Err != nil {
						s.Errorf("caller %d: %v", c, r.Err)
						return
					}
					mu.Lock()
					at := place{entries[k].Partition, r.Offset}
					if other, taken := told[at]; taken {
						s.Errorf("offset %v given twice, to %q too", at, other)
					}
					told[at] = s.say(entries[k].Data)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if s.Failed() {
		return
	}
	perPartition := map[wal.Partition]int{}
	for at := range told {
		perPartition[at.p]++
	}
	for p := range wal.Partition(partitions) {
		last := map[int]int{}
		for _, g := range s.read(l, p, 0, perPartition[p]) {
			if want := told[place{p, g.offset}]; g.say != want {
				s.Fatalf("partition %d offset %d says %q, its caller was told it holds %q", p, g.offset, g.say, want)
			}
			var c, n int
			if _, err := fmt.Sscanf(g.say, "%d %d", &c, &n); err != nil {
				s.Fatalf("record says %q: %v", g.say, err)
			}
			if before, seen := last[c]; seen && n <= before {
				s.Fatalf("partition %d: caller %d's %d comes after its %d", p, c, n, before)
			}
			last[c] = n
		}
	}
}

func largeAndEmptyCalls(s *suite) {
	l := s.create(1)
	if got := l.Append(s.ctx, wal.Sync, nil); len(got) != 0 {
		s.Fatalf("%d results for no entries", len(got))
	}
	// One call of about 12 MiB: more than any batch or request.
	pad := bytes.Repeat([]byte("x"), 6<<10)
	var datas [][]byte
	for i := range 2000 {
		datas = append(datas, rec("%d %s", i, pad))
	}
	s.appendAll(l, 0, datas...)
	for i, g := range s.read(l, 0, 0, len(datas)) {
		if want := fmt.Sprintf("%d %s", i, pad); g.say != want {
			s.Fatalf("record %d differs", i)
		}
	}
}

func largestRecord(s *suite) {
	l := s.create(1)
	data := rec("%s", bytes.Repeat([]byte("y"), wal.MaxRecordBytes-64))
	payload := len(data)
	data = rec("%s", bytes.Repeat([]byte("y"), wal.MaxRecordBytes-64+wal.MaxRecordBytes-payload))
	if len(data) != wal.MaxRecordBytes {
		s.Fatalf("test makes a record of %d bytes", len(data))
	}
	s.append1(l, 0, rec("before"))
	s.append1(l, 0, data)
	s.append1(l, 0, rec("after"))
	got := s.read(l, 0, 0, 3)
	if got[0].say != "before" || got[2].say != "after" || got[1].say != s.say(data) {
		s.Fatal("records differ")
	}
}

// bytesAreNotKept scribbles over everything that was handed in.
func bytesAreNotKept(s *suite) {
	l := s.create(1)
	for _, d := range []wal.Durability{wal.Sync, wal.Buffered, wal.Sync} {
		entries := make([]wal.NewEntry, 100)
		for i := range entries {
			entries[i].Data = rec("%d-%d", d, i)
		}
		for _, r := range l.Append(s.ctx, d, entries) {
			if r.Err != nil {
				s.Fatal(r.Err)
			}
		}
		for _, e := range entries {
			for i := range e.Data {
				e.Data[i] = 0xff
			}
		}
		clear(entries)
	}
	for i, g := range s.read(l, 0, 0, 300) {
		d := wal.Sync
		if i/100 == 1 {
			d = wal.Buffered
		}
		if want := fmt.Sprintf("%d-%d", d, i%100); g.say != want {
			s.Fatalf("record %d says %q, want %q", i, g.say, want)
		}
	}
}

func bufferedArrives(s *suite) {
	l := s.create(2)
	for i := range 30 {
		results := l.Append(s.ctx, wal.Buffered, []wal.NewEntry{
			{Partition: 0, Data: rec("x-%d", i)}, {Partition: 1, Data: rec("y-%d", i)},
		})
		for _, r := range results {
			if r.Err != nil || r.Offset != wal.NoOffset {
				s.Fatalf("buffered append answered offset %d, error %v", r.Offset, r.Err)
			}
		}
	}
	for i, g := range s.read(l, 1, 0, 30) {
		if want := fmt.Sprintf("y-%d", i); g.say != want {
			s.Fatalf("record %d says %q, want %q", i, g.say, want)
		}
	}
	if r := l.Append(s.ctx, wal.Buffered, []wal.NewEntry{{Partition: 2, Data: rec("z")}})[0]; !errors.Is(r.Err, wal.ErrNoPartition) {
		s.Errorf("buffered append to no partition: %v", r.Err)
	}
	// A durable append of the same partition comes after what was buffered.
	s.append1(l, 0, rec("last"))
	if got := s.read(l, 0, 0, 31); got[30].say != "last" {
		s.Errorf("the last record says %q", got[30].say)
	}
}

// bufferedIsTold: whoever asks learns once what became of a buffered record, and
// where it is; of a refused one there is nothing to learn.
func bufferedIsTold(s *suite) {
	const n = 200
	if loss := s.b.BufferedLoss(); loss <= 0 {
		s.Errorf("a crash loses buffered appends of %s", loss)
	}
	l := s.create(2)
	type outcome struct {
		i int
		r wal.Result
	}
	told := make(chan outcome, 2*n) // room for twice as many as there should be
	var entries []wal.NewEntry
	for i := range n {
		e := wal.NewEntry{Partition: wal.Partition(i % 2), Data: rec("b-%d", i)}
		if i%10 != 9 { // not everybody asks
			e.Settled = func(r wal.Result) { told <- outcome{i, r} }
		}
		entries = append(entries, e)
	}
	nowhere := wal.NewEntry{Partition: 2, Data: rec("nowhere"), Settled: func(wal.Result) { s.Error("told of a refused record") }}
	for from := 0; from < n; from += 20 {
		for i, r := range l.Append(s.ctx, wal.Buffered, append(entries[from:from+20:from+20], nowhere)) {
			if refused := r.Err != nil; refused != (i == 20) {
				s.Fatalf("entry %d: %v", from+i, r.Err)
			}
		}
	}
	at := map[int]wal.Offset{}
	for range n * 9 / 10 {
		select {
		case o := <-told:
			if _, twice := at[o.i]; twice || o.r.Err != nil || o.r.Offset < 0 {
				s.Fatalf("record %d: offset %d, %v, told before %v", o.i, o.r.Offset, o.r.Err, twice)
			}
			at[o.i] = o.r.Offset
		case <-s.ctx.Done():
			s.Fatalf("%d of %d were told", len(at), n*9/10)
		}
	}
	for p := range wal.Partition(2) {
		for k, g := range s.read(l, p, 0, n/2) {
			i := 2*k + int(p)
			if want := fmt.Sprintf("b-%d", i); g.say != want {
				s.Fatalf("partition %d record %d says %q, want %q", p, k, g.say, want)
			}
			if o, asked := at[i]; asked && o != g.offset {
				s.Fatalf("record %d is at %d, told %d", i, g.offset, o)
			}
		}
	}
	if len(told) != 0 {
		s.Errorf("%d were told twice", len(told))
	}
	// What is told is durable: it is there after a restart.
	s.reopen()
	l = s.open(l.Info().Name)
	if b := s.bounds(l, 0); b.End <= at[0] {
		s.Errorf("partition 0 ends at %d after a restart, a record was told at %d", b.End, at[0])
	}
}

func cancelledBefore(s *suite) {
	l := s.create(1)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	for _, d := range []wal.Durability{wal.Sync, wal.Buffered} {
		for _, r := range l.Append(ctx, d, []wal.NewEntry{{Data: rec("never")}, {Data: rec("never")}}) {
			if !errors.Is(r.Err, wal.ErrNotAppended) || !errors.Is(r.Err, context.Canceled) {
				s.Errorf("append under a cancelled context: %v", r.Err)
			}
		}
	}
	s.append1(l, 0, rec("a"))
	s.wantSaid(l, 0, 0, "a")
	if n := len(s.read(l, 0, 0, 1)); n != 1 {
		s.Errorf("%d records", n)
	}
	if _, err := l.Bounds(ctx, 0); !errors.Is(err, context.Canceled) {
		s.Errorf("bounds under a cancelled context: %v", err)
	}
}

// cancelledDuring cancels appends at unforeseen moments and holds the log to what
// it said: acknowledged is there, not appended is not, unknown may be.
func cancelledDuring(s *suite) {
	l := s.create(1)
	const callers = 64
	outcome := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		ctx, cancel := context.WithCancel(s.ctx)
		started := make(chan struct{})
		wg.Go(func() {
			close(started)
			outcome[i] = l.Append(ctx, wal.Sync, []wal.NewEntry{{Data: rec("call-%d", i)}})[0].Err
		})
		go func() { <-started; cancel() }()
	}
	wg.Wait()
	// Nothing that was unknown a moment ago may show up behind this one and go
	// unnoticed: a later append of the same partition comes after it or the unknown
	// one never comes, as far as any test can see.
	s.append1(l, 0, rec("end"))
	found := map[string]int{}
	r, err := l.Read(s.ctx, 0, 0)
	if err != nil {
		s.Fatal(err)
	}
	defer s.closeReader(r)
	for found["end"] == 0 {
		entries, err := r.Next(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		for _, e := range entries {
			found[s.say(e.Data)]++
		}
	}
	for i, err := range outcome {
		n := found[fmt.Sprintf("call-%d", i)]
		switch {
		case err == nil && n != 1:
			s.Errorf("acknowledged record %d is there %d times", i, n)
		case errors.Is(err, wal.ErrNotAppended) && n != 0:
			s.Errorf("record %d was not appended and is there", i)
		case err != nil && !errors.Is(err, wal.ErrNotAppended) && !errors.Is(err, wal.ErrUnknown):
			s.Errorf("outcome of record %d is none of the three: %v", i, err)
		case err != nil && errors.Is(err, wal.ErrNotAppended) && errors.Is(err, wal.ErrUnknown):
			s.Errorf("outcome of record %d is two of the three: %v", i, err)
		case n > 1:
			s.Errorf("record %d is there %d times", i, n)
		}
	}
}

// logTime: what the reader sees is what the appender was told, near the broker's
// own clock, and never falling while one broker leads.
func logTime(s *suite) {
	l := s.create(1)
	before := s.b.Now().UnixMicro()
	var results []wal.Result
	for i := range 10 {
		results = append(results, s.appendAll(l, 0, rec("%d", i))...)
	}
	after := s.b.Now().UnixMicro()
	const slack = 5e6 // microseconds: another machine's clock
	last := int64(0)
	for i, g := range s.read(l, 0, 0, 10) {
		if told := results[i].LogTime; told != 0 && told != g.logTime {
			s.Errorf("record %d: appended at %d, read with %d", i, told, g.logTime)
		}
		if g.logTime < last || g.logTime < before-slack || g.logTime > after+slack {
			s.Errorf("record %d has log time %d; the one before %d, the broker's clock %d to %d", i, g.logTime, last, before, after)
		}
		last = g.logTime
	}
}
