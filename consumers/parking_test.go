package consumers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// yard is a Parking with what stands around it: a log, a store of queues, dead
// letters, and mutations that are poisonous until they are cured. Its diary holds
// what happened, in order.
type yard struct {
	*consumers.Parking
	store  map[string]consumers.ParkedQueue
	diary  []string
	poison map[wal.Ref]bool
	refuse map[wal.Ref]bool // decided against when they are redriven
	ill    error            // what stands in the way of letters and redrives
}

// yardLog has a record at each offset, in partition 3.
func yardLog(t *testing.T) wal.Log {
	t.Helper()
	l := newLog(t, 4)
	put(t, l, 3, 100)
	return l
}

func newYard(t *testing.T, maxParked int) *yard {
	t.Helper()
	y := &yard{store: map[string]consumers.ParkedQueue{}, poison: map[wal.Ref]bool{}, refuse: map[wal.Ref]bool{}}
	y.Parking = consumers.NewParking(consumers.ParkingConfig{
		Partition: 3, Letters: y, MaxParked: maxParked, Log: yardLog(t),
		Save: func(c *consumers.ParkedChange) {
			c.Do(y.store)
			switch c.Op {
			case consumers.ParkedBegin:
				y.note("begin %s x%d @%d", c.Key, c.Head.Attempts, c.Head.At)
			case consumers.ParkedAgain:
				y.note("again %s x%d @%d", c.Key, c.Head.Attempts, c.Head.At)
			case consumers.ParkedAdd:
				y.note("add %s %s", c.Key, c.Ref)
			case consumers.ParkedBelow:
				y.note("below %s %s", c.Key, c.Ref)
			case consumers.ParkedGone:
				y.note("gone %s", c.Key)
			}
		},
		Again: func(_ context.Context, r wal.Ref) (poison, err error) {
			if y.ill != nil {
				return nil, y.ill
			}
			y.note("try %s", r)
			switch {
			case y.poison[r]:
				return errors.New("still sick"), nil
			case y.refuse[r]:
				y.Refuse(consumers.DeadLetter{Ref: wal.Ref{Offset: r.Offset, Index: r.Index}, Key: []byte("k"), Reason: "too_old"})
			}
			return nil, nil
		},
	})
	return y
}

// Put implements consumers.DeadLetters.
func (y *yard) Put(_ context.Context, letters []consumers.DeadLetter) error {
	if y.ill != nil {
		return y.ill
	}
	for i := range letters {
		l := &letters[i]
		by := ""
		if l.By != "" {
			by = " by " + l.By
		}
		if l.Record != nil {
			by += " with its record"
		}
		y.note("letter %s %s %s %s x%d @%d%s", l.Ref, l.Key, l.Reason, l.Disposition, l.Attempts, l.At, by)
	}
	return nil
}

func (y *yard) note(format string, args ...any) {
	y.diary = append(y.diary, fmt.Sprintf(format, args...))
}

func (y *yard) wantDiary(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(y.diary, want) {
		t.Errorf("happened:\n%s\nwant:\n%s", strings.Join(y.diary, "\n"), strings.Join(want, "\n"))
	}
	y.diary = nil
}

func at(o wal.Offset, index int) wal.Ref { return wal.Ref{Partition: 3, Offset: o, Index: index} }

// park parks key at offset o with two records behind it, which wait at o+1 and
// o+2.
func (y *yard) park(t *testing.T, key string, o wal.Offset) {
	t.Helper()
	if err := y.Park(&wal.Entry{Offset: o, Data: []byte("record")}, 0, []byte(key), 1, errors.New("sick")); err != nil {
		t.Fatal(err)
	}
	y.poison[at(o, 0)] = true
	for i := range wal.Offset(2) {
		if err := y.Enqueue(y.Queue([]byte(key)), at(o+1+i, 0)); err != nil {
			t.Fatal(err)
		}
	}
}

func (y *yard) control(t *testing.T, c consumers.Control) error {
	t.Helper()
	return y.Control(t.Context(), 99, &c, 2, false)
}

func (y *yard) wantQueue(t *testing.T, key string, want ...wal.Ref) {
	t.Helper()
	q, ok := y.Find([]byte(key))
	if ok != (len(want) > 0) || !slices.Equal(q.Refs, want) {
		t.Errorf("queue of %s is %v, %v; want %v", key, q.Refs, ok, want)
	}
	if kept := y.store[key]; !slices.Equal(kept.Refs, want) {
		t.Errorf("the store has %v for %s, want %v", kept.Refs, key, want)
	}
}

func (y *yard) flush(t *testing.T) {
	t.Helper()
	if err := y.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestParkingQueuesBehindAPoisonousKey(t *testing.T) {
	t.Parallel()
	y := newYard(t, 3)
	if _, ok := y.Find([]byte("k")); ok || y.Len() != 0 || y.Lowest() != wal.NoOffset || y.Queue([]byte("k")) != nil {
		t.Error("something is parked at the start")
	}
	y.park(t, "k", 7)
	if !y.Owes() {
		t.Error("a letter is due")
	}
	y.flush(t)
	y.wantDiary(t, "begin k x1 @7", "add k 3-7-0", "add k 3-8-0", "add k 3-9-0", "letter 3-7-0 k poison PARKED x1 @7 with its record")
	y.wantQueue(t, "k", at(7, 0), at(8, 0), at(9, 0))
	if y.Len() != 1 || y.Lowest() != 7 || y.LowestAt() != 7 {
		t.Errorf("%d keys, lowest %d, decided at %d", y.Len(), y.Lowest(), y.LowestAt())
	}
	if y.Queue([]byte("other")) != nil {
		t.Error("another key waits")
	}

	// What was half committed comes by again, also as a Park of the poison itself.
	if err := y.Park(&wal.Entry{Offset: 7}, 0, []byte("k"), 1, errors.New("sick")); err != nil {
		t.Error(err)
	}
	if err := y.Enqueue(y.Queue([]byte("k")), at(9, 0)); err != nil {
		t.Error(err)
	}
	y.wantDiary(t)
	if err := y.Enqueue(y.Queue([]byte("k")), at(10, 0)); !errors.Is(err, consumers.ErrHeld) {
		t.Errorf("at the bound: %v", err)
	}
	y.wantQueue(t, "k", at(7, 0), at(8, 0), at(9, 0))
}

func TestParkingQueuesARecordOnce(t *testing.T) {
	t.Parallel()
	y := newYard(t, 10)
	if err := y.Park(&wal.Entry{Offset: 7}, 1, []byte("k"), 1, errors.New("sick")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the record has two more mutations of the key, and is applied again
		for _, index := range []int{1, 3, 6} {
			if err := y.Enqueue(y.Queue([]byte("k")), at(7, index)); err != nil {
				t.Fatal(err)
			}
		}
	}
	y.wantQueue(t, "k", at(7, 1), at(7, 3), at(7, 6))
}

// TestParkingOwesLettersUntilTheyAreWritten: what cannot be written is kept, all of
// it, and written later, once.
func TestParkingOwesLettersUntilTheyAreWritten(t *testing.T) {
	t.Parallel()
	y := newYard(t, 0)
	y.ill = wal.ErrUnavailable
	if err := y.Park(&wal.Entry{Offset: 7}, wal.WholeRecord, nil, 1, errors.New("sick")); err != nil {
		t.Error(err)
	}
	y.Refuse(consumers.DeadLetter{Ref: wal.Ref{Offset: 8, Index: 3}, Reason: "too_old"})
	y.Refuse(consumers.DeadLetter{Ref: wal.Ref{Offset: 8, Index: 1}, Reason: "too_old"})
	y.diary = nil
	for range 2 {
		if err := y.Flush(t.Context()); !errors.Is(err, wal.ErrUnavailable) || !y.Owes() {
			t.Errorf("flush: %v, owes %v", err, y.Owes())
		}
	}
	y.Refuse(consumers.DeadLetter{Ref: wal.Ref{Offset: 9}, Reason: "too_old"})
	y.Forget(9) // the record at 9 could not be applied after all
	y.ill = nil
	for range 2 {
		y.flush(t)
	}
	y.wantDiary(t, "letter 3-7  poison PARKED x1 @7", "letter 3-8-1  too_old REFUSED x1 @8", "letter 3-8-3  too_old REFUSED x1 @8")
	if y.Owes() {
		t.Error("letters are due that were written")
	}
	y.Refuse(consumers.DeadLetter{Ref: wal.Ref{Offset: 10}, Reason: "too_old"})
	y.Load(nil) // what it tells of is applied again
	if y.Owes() {
		t.Error("a letter is left of a batch that was given up")
	}
}

func TestParkingRedrivesAndDrops(t *testing.T) {
	t.Parallel()
	redrive := consumers.Control{Op: consumers.OpRedrive, Key: []byte("k"), By: "me"}
	drop := consumers.Control{Op: consumers.OpDrop, Key: []byte("k"), Ref: at(7, 0), By: "me"}
	for _, c := range []struct {
		name string
		ask  consumers.Control
		cure bool
		sick []wal.Ref // besides the head
		// refuse is what is decided against when it is redriven.
		refuse []wal.Ref
		ill    error
		queue  []wal.Ref
		diary  []string
	}{
		{
			name: "redrive of a cured key", ask: redrive, cure: true,
			diary: []string{"try 3-7-0", "try 3-8-0", "try 3-9-0", "gone k", "letter 3-7-0 k poison REDRIVEN x2 @99 by me with its record"},
		},
		{
			name: "redrive of a sick key", ask: redrive, queue: []wal.Ref{at(7, 0), at(8, 0), at(9, 0)},
			diary: []string{"try 3-7-0", "again k x2 @99", "letter 3-7-0 k poison PARKED x2 @99 by me"},
		},
		{
			name: "redrive up to the next poison", ask: redrive, cure: true, sick: []wal.Ref{at(8, 0)}, queue: []wal.Ref{at(8, 0), at(9, 0)},
			diary: []string{"try 3-7-0", "try 3-8-0", "below k 3-8-0", "again k x1 @99",
				"letter 3-7-0 k poison REDRIVEN x2 @99 by me with its record", "letter 3-8-0 k poison PARKED x1 @99 by me"},
		},
		{
			name: "redrive of what is decided against", ask: redrive, cure: true, refuse: []wal.Ref{at(7, 0), at(9, 0)},
			diary: []string{"try 3-7-0", "try 3-8-0", "try 3-9-0", "gone k",
				"letter 3-7-0 k too_old REFUSED x2 @99 by me", "letter 3-9-0 k too_old REFUSED x1 @99 by me"},
		},
		{
			name: "drop", ask: drop,
			diary: []string{"try 3-8-0", "try 3-9-0", "gone k", "letter 3-7-0 k poison DROPPED x1 @99 by me with its record"},
		},
		{
			name: "drop in front of another poison", ask: drop, sick: []wal.Ref{at(8, 0)}, queue: []wal.Ref{at(8, 0), at(9, 0)},
			diary: []string{"try 3-8-0", "below k 3-8-0", "again k x1 @99",
				"letter 3-7-0 k poison DROPPED x1 @99 by me with its record", "letter 3-8-0 k poison PARKED x1 @99 by me"},
		},
		{
			name: "drop of what is not the head", ask: consumers.Control{Op: consumers.OpDrop, Key: []byte("k"), Ref: at(8, 0)},
			queue: []wal.Ref{at(7, 0), at(8, 0), at(9, 0)},
		},
		{
			name: "another key", ask: consumers.Control{Op: consumers.OpRedrive, Key: []byte("other")},
			queue: []wal.Ref{at(7, 0), at(8, 0), at(9, 0)},
		},
		{
			name: "redrive that is held up", ask: redrive, ill: wal.ErrUnavailable,
			queue: []wal.Ref{at(7, 0), at(8, 0), at(9, 0)},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			y := newYard(t, 0)
			y.park(t, "k", 7)
			y.flush(t)
			y.diary = nil
			y.poison[at(7, 0)] = !c.cure
			for _, r := range c.sick {
				y.poison[r] = true
			}
			for _, r := range c.refuse {
				y.refuse[r] = true
			}
			y.ill = c.ill
			if err := y.control(t, c.ask); !errors.Is(err, c.ill) {
				t.Errorf("got %v, want %v", err, c.ill)
			}
			y.flush(t)
			y.wantDiary(t, c.diary...)
			y.wantQueue(t, "k", c.queue...)
		})
	}
}

func TestParkingRefuses(t *testing.T) {
	t.Parallel()
	y := newYard(t, 0)
	y.Refuse(consumers.DeadLetter{Ref: wal.Ref{Offset: 5, Index: 1}, Key: []byte("k"), Reason: "too_old"})
	y.flush(t)
	y.wantDiary(t, "letter 3-5-1 k too_old REFUSED x1 @5")
}

// TestParkingLoads replaces memory by what the store has, after a batch that was
// given up.
func TestParkingLoads(t *testing.T) {
	t.Parallel()
	y := newYard(t, 0)
	y.park(t, "lost", 4)
	y.Load([]consumers.ParkedQueue{{Key: []byte("a"), Refs: []wal.Ref{at(9, 0)}}, {Key: []byte("b"), Refs: []wal.Ref{at(6, 2), at(12, 0)}}})
	if _, ok := y.Find([]byte("lost")); ok || y.Len() != 2 || y.Lowest() != 6 {
		t.Errorf("lost %v, %d keys, lowest %d", ok, y.Len(), y.Lowest())
	}
	y.Load(nil)
	if y.Len() != 0 || y.Lowest() != wal.NoOffset || y.Queue([]byte("a")) != nil {
		t.Error("something is left")
	}
}

// TestParkingIsReadWhileItChanges is for the race detector, and for a queue that a
// reader holds: it does not change under it.
func TestParkingIsReadWhileItChanges(t *testing.T) {
	t.Parallel()
	y := newYard(t, 0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if q, ok := y.Find([]byte("k")); ok {
					if n := len(q.Refs); n == 0 || q.Refs[0].Offset%10 != 0 || q.Refs[n-1].Offset != q.Refs[0].Offset+wal.Offset(n-1) {
						t.Errorf("a queue that never was: %v", q.Refs)
						return
					}
				}
				_, _ = y.Lowest(), y.LowestAt()
			}
		})
	}
	for i := range wal.Offset(200) {
		o := i % 9 * 10
		y.park(t, "k", o)
		y.poison[at(o, 0)] = false
		if err := y.control(t, consumers.Control{Op: consumers.OpRedrive, Key: []byte("k")}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	y.wantQueue(t, "k")
}
