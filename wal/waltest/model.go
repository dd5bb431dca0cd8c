package waltest

import (
	"fmt"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/wal"
)

// modelPartition is a partition as plain data: what is at which offset. Offsets
// between records belong to barriers, on logs that write them.
type modelPartition struct {
	offsets []wal.Offset
	says    []string
	start   wal.Offset
	end     wal.Offset
}

// randomProgram runs random operations, restarts among them, against a log and a
// slice, and compares after every one.
func randomProgram(s *suite) {
	const partitions = 2
	if err := s.b.Close(); err != nil {
		s.Fatalf("close: %v", err)
	}
	rapid.Check(s.T, func(rt *rapid.T) {
		// A broker of its own, so that a restart costs the same in every program.
		s.b = s.h.Open(s.T)
		defer func() {
			if err := s.b.Close(); err != nil {
				rt.Errorf("close: %v", err)
			}
		}()
		l := s.create(partitions)
		name := l.Info().Name
		model := make([]modelPartition, partitions)
		serial := 0
		pick := func(rt *rapid.T) wal.Partition {
			return wal.Partition(rapid.IntRange(0, partitions-1).Draw(rt, "partition"))
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				n := rapid.IntRange(1, 8).Draw(rt, "entries")
				entries := make([]wal.NewEntry, n)
				for i := range entries {
					entries[i] = wal.NewEntry{Partition: pick(rt), Data: rec("%d", serial+i)}
				}
				for i, r := range l.Append(s.ctx, wal.Sync, entries) {
					if r.Err != nil {
						rt.Fatalf("append: %v", r.Err)
					}
					m := &model[entries[i].Partition]
					if r.Offset < m.end {
						rt.Fatalf("offset %d given where the end is %d", r.Offset, m.end)
					}
					m.offsets = append(m.offsets, r.Offset)
					m.says = append(m.says, fmt.Sprint(serial+i))
					m.end = r.Offset + 1
				}
				serial += n
			},
			"trim": func(rt *rapid.T) {
				p := pick(rt)
				m := &model[p]
				to := wal.Offset(rapid.Int64Range(0, int64(m.end)).Draw(rt, "before"))
				if err := l.Trim(s.ctx, p, to); err != nil {
					rt.Fatalf("trim: %v", err)
				}
				m.start = max(m.start, to)
			},
			"barrier": func(rt *rapid.T) {
				p := pick(rt)
				b, err := l.Barrier(s.ctx, p)
				if err != nil {
					rt.Fatalf("barrier: %v", err)
				}
				if m := &model[p]; b < m.end-1 {
					rt.Fatalf("barrier %d, but %d is acknowledged", b, m.end-1)
				}
			},
			"reopen": func(rt *rapid.T) {
				s.reopen()
				l = s.open(name)
			},
			"": func(rt *rapid.T) {
				for p := range model {
					s.matchModel(rt, l, wal.Partition(p), &model[p])
				}
			},
		})
	})
}

func (s *suite) matchModel(rt *rapid.T, l wal.Log, p wal.Partition, m *modelPartition) {
	b, err := l.Bounds(s.ctx, p)
	if err != nil {
		rt.Fatalf("bounds: %v", err)
	}
	if b.Start != m.start || b.End < m.end {
		rt.Fatalf("partition %d has bounds %d to %d, the model %d to %d", p, b.Start, b.End, m.start, m.end)
	}
	first := len(m.offsets)
	for i, o := range m.offsets {
		if o >= m.start {
			first = i
			break
		}
	}
	want := len(m.offsets) - first
	got := s.read(l, p, m.start, want)
	for i, g := range got[:want] {
		if g.offset != m.offsets[first+i] || g.say != m.says[first+i] {
			rt.Fatalf("partition %d: offset %d says %q, the model has %d and %q", p, g.offset, g.say, m.offsets[first+i], m.says[first+i])
		}
	}
}
