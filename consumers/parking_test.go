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

// yard is a Parking with what stands around it: a store of queues, dead letters,
// and mutations that are poisonous until they are cured. Its diary holds what
// happened, in order.
type yard struct {
	*consumers.Parking
	store  map[string]consumers.ParkedQueue
	diary  []string
	poison map[wal.Ref]bool
	ill    error // what stands in the way of letters and redrives
}

func newYard(maxParked int) *yard {
	y := &yard{store: map[string]consumers.ParkedQueue{}, poison: map[wal.Ref]bool{}}
	y.Parking = consumers.NewParking(consumers.ParkingConfig{
		Partition: 3, Letters: y, MaxParked: maxParked,
		Save: func(q *consumers.ParkedQueue) {
			y.note("save %s %v x%d", q.Key, q.Refs, q.Attempts)
			if y.store[string(q.Key)] = *q; len(q.Refs) == 0 {
				delete(y.store, string(q.Key))
			}
		},
		Again: func(_ context.Context, r wal.Ref) (poison, err error) {
			if y.ill != nil {
				return nil, y.ill
			}
			y.note("again %s", r)
			if y.poison[r] {
				return errors.New("still sick"), nil
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
		y.note("letter %s %s %s %s x%d", l.Ref, l.Key, l.Reason, l.Disposition, l.Attempts)
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
	if err := y.Park(t.Context(), &wal.Entry{Offset: o, Data: []byte("record")}, 0, []byte(key), 1, errors.New("sick")); err != nil {
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
	payload, err := consumers.EncodeControl(&c)
	if err != nil {
		t.Fatal(err)
	}
	return y.Control(t.Context(), &wal.Entry{Offset: 99}, &wal.Record{Kind: wal.KindControl, RoutingKey: c.Key, Payload: payload}, 2)
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

func TestParkingQueuesBehindAPoisonousKey(t *testing.T) {
	t.Parallel()
	y := newYard(3)
	if _, ok := y.Find([]byte("k")); ok || y.Len() != 0 || y.Lowest() != wal.NoOffset || y.Queue([]byte("k")) != nil {
		t.Error("something is parked at the start")
	}
	y.park(t, "k", 7)
	y.wantDiary(t,
		"letter 3-7-0 k poison PARKED x1", // before it is saved
		"save k [3-7-0] x1", "save k [3-7-0 3-8-0] x1", "save k [3-7-0 3-8-0 3-9-0] x1")
	y.wantQueue(t, "k", at(7, 0), at(8, 0), at(9, 0))
	if y.Len() != 1 || y.Lowest() != 7 {
		t.Errorf("%d keys, lowest %d", y.Len(), y.Lowest())
	}
	if y.Queue([]byte("other")) != nil {
		t.Error("another key waits")
	}

	// What was half committed comes by again, also as a Park of the poison itself.
	if err := y.Park(t.Context(), &wal.Entry{Offset: 7}, 0, []byte("k"), 1, errors.New("sick")); err != nil {
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
	y := newYard(10)
	if err := y.Park(t.Context(), &wal.Entry{Offset: 7}, 1, []byte("k"), 1, errors.New("sick")); err != nil {
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

func TestParkingWithoutALetterParksNothing(t *testing.T) {
	t.Parallel()
	y := newYard(0)
	y.ill = wal.ErrUnavailable
	if err := y.Park(t.Context(), &wal.Entry{Offset: 7}, wal.WholeRecord, nil, 1, errors.New("sick")); !errors.Is(err, wal.ErrUnavailable) {
		t.Error(err)
	}
	if err := y.Refuse(t.Context(), consumers.DeadLetter{Ref: wal.Ref{Offset: 1}}); !errors.Is(err, wal.ErrUnavailable) {
		t.Error(err)
	}
	y.wantQueue(t, "")
	y.wantDiary(t)
	y.ill = nil
	if err := y.Park(t.Context(), &wal.Entry{Offset: 7}, wal.WholeRecord, nil, 1, errors.New("sick")); err != nil {
		t.Error(err)
	}
	y.wantQueue(t, "", at(7, wal.WholeRecord))
}

func TestParkingRedrivesAndDrops(t *testing.T) {
	t.Parallel()
	redrive := consumers.Control{Op: consumers.OpRedrive, Key: []byte("k"), By: "me"}
	drop := consumers.Control{Op: consumers.OpDrop, Key: []byte("k"), Ref: at(7, 0), By: "me"}
	for _, c := range []struct {
		name  string
		ask   consumers.Control
		cure  bool
		sick  []wal.Ref // besides the head
		ill   error
		queue []wal.Ref
		diary []string
	}{
		{
			name: "redrive of a cured key", ask: redrive, cure: true,
			diary: []string{"again 3-7-0", "letter 3-7-0 k poison REDRIVEN x2", "again 3-8-0", "again 3-9-0", "save k [] x0"},
		},
		{
			name: "redrive of a sick key", ask: redrive, queue: []wal.Ref{at(7, 0), at(8, 0), at(9, 0)},
			diary: []string{"again 3-7-0", "letter 3-7-0 k poison PARKED x2", "save k [3-7-0 3-8-0 3-9-0] x2"},
		},
		{
			name: "redrive up to the next poison", ask: redrive, cure: true, sick: []wal.Ref{at(8, 0)}, queue: []wal.Ref{at(8, 0), at(9, 0)},
			diary: []string{"again 3-7-0", "letter 3-7-0 k poison REDRIVEN x2", "again 3-8-0", "letter 3-8-0 k poison PARKED x2", "save k [3-8-0 3-9-0] x2"},
		},
		{
			name: "drop", ask: drop,
			diary: []string{"letter 3-7-0 k poison DROPPED x1", "again 3-8-0", "again 3-9-0", "save k [] x0"},
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
			y := newYard(0)
			y.park(t, "k", 7)
			y.diary = nil
			y.poison[at(7, 0)] = !c.cure
			for _, r := range c.sick {
				y.poison[r] = true
			}
			y.ill = c.ill
			if err := y.control(t, c.ask); !errors.Is(err, c.ill) {
				t.Errorf("got %v, want %v", err, c.ill)
			}
			y.wantDiary(t, c.diary...)
			y.wantQueue(t, "k", c.queue...)
		})
	}
}

func TestParkingRefuses(t *testing.T) {
	t.Parallel()
	y := newYard(0)
	if err := y.Refuse(t.Context(), consumers.DeadLetter{Ref: wal.Ref{Offset: 5, Index: 1}, Key: []byte("k"), Reason: "too_old"}); err != nil {
		t.Error(err)
	}
	if err := y.Control(t.Context(), &wal.Entry{Offset: 6}, &wal.Record{RoutingKey: []byte("c"), Payload: []byte("{")}, 1); err != nil {
		t.Error(err)
	}
	y.wantDiary(t, "letter 3-5-1 k too_old REFUSED x1", "letter 3-6-0 c bad_control REFUSED x1")
}

// TestParkingLoads replaces memory by what the store has, after a batch that was
// given up.
func TestParkingLoads(t *testing.T) {
	t.Parallel()
	y := newYard(0)
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
	y := newYard(0)
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
				_ = y.Lowest()
			}
		})
	}
	for i := range wal.Offset(200) {
		y.park(t, "k", i*10)
		y.poison[at(i*10, 0)] = false
		if err := y.control(t, consumers.Control{Op: consumers.OpRedrive, Key: []byte("k")}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	y.wantQueue(t, "k")
}
