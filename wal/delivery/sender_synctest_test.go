package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/pebbledelivery"
)

// sending is a sender with one target and a store of its own, in a bubble whose time is made up.
type sending struct {
	t       *testing.T
	store   *pebbledelivery.Store
	sender  *delivery.Sender
	step    atomic.Int64 // of the clock
	applier sync.Mutex   // held as by the partition's goroutine
	logTime atomic.Int64
	ticks   atomic.Int64

	mu      sync.Mutex
	next    wal.Offset
	running int
	most    int
	got     []attempt
	places  []wal.SourcePlace // of a relay
	dead    []string
	deliver func(a *delivery.Attempt) error // nil: it is well
	takes   time.Duration                   // of an attempt
	relays  bool
	applies func() // what is applied just before log time is asked for; nil: nothing
}

type attempt struct {
	body string
	at   time.Time
}

func (s *sending) now() time.Time { return time.Now().Add(time.Duration(s.step.Load())) }

// Deliver implements delivery.Receiver.
func (s *sending) Deliver(_ context.Context, a *delivery.Attempt) error {
	s.mu.Lock()
	s.running++
	s.most = max(s.most, s.running)
	s.got = append(s.got, attempt{string(a.Payload), s.now()})
	f, takes := s.deliver, s.takes
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.running--
		s.mu.Unlock()
	}()
	// A timer of a bubble that has already rung is run by who receives from it, and two that do so at once break the race
	// detector (Go 1.26: runtime.(*timer).maybeRunChan shares the race context of the bubble).
	if takes > 0 {
		<-time.After(takes)
	}
	if f != nil {
		return f(a)
	}
	return nil
}

func (s *sending) Close() error { return nil }

// inBubble runs f with a sender to a target of the settings.
func inBubble(t *testing.T, lane delivery.LaneConfig, f func(s *sending)) {
	synctest.Test(t, func(t *testing.T) {
		store, err := pebbledelivery.Open(pebbledelivery.Config{FS: vfs.NewMem(), Dir: "log", Partitions: 1, MemTableBytes: 256 << 10, CacheBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		s := &sending{t: t, store: store, relays: lane.Relay != nil}
		s.sender = delivery.NewSender(delivery.SenderConfig{
			Outbox: store, Partitions: 1, Ready: func(wal.Partition) bool { return true }, Now: s.now, Logger: slog.New(slog.DiscardHandler),
			Do: func(ctx context.Context, _ wal.Partition, f func(context.Context) error) error {
				s.applier.Lock()
				defer s.applier.Unlock()
				return f(ctx)
			},
			Sync: store.DB.Sync, LogTime: func(wal.Partition) int64 {
				if s.applies != nil {
					s.applies()
				}
				return s.logTime.Load()
			},
			Tick: func(context.Context, wal.Partition) error {
				s.ticks.Add(1)
				s.logTime.Store(max(s.logTime.Load(), s.now().UnixMicro()))
				return nil
			},
			Decide: func(_ context.Context, _ wal.Partition, e *delivery.Event) error {
				s.batch(func(b delivery.Batch) {
					if b.Kill(&delivery.Death{Offset: *e.Offset, Target: e.Target, At: e.At, Reason: e.Reason, Now: s.now().UnixMicro()}) != nil {
						s.dead = append(s.dead, e.Reason)
					}
				})
				return nil
			},
			ID:      func(_ wal.Partition, o wal.Offset) string { return fmt.Sprint(o) },
			Observe: func(string, string, time.Duration) {},
		})
		if lane.Relay != nil {
			lane.Relay = func() (delivery.Forwarders, error) { return s, nil }
		}
		lane.Name, lane.Open = "x", func() (delivery.Receiver, error) { return s, nil }
		if lane.Same == nil {
			lane.Same = func(any) bool { return true }
		}
		if lane.Timeout == 0 {
			lane.Timeout = time.Minute
		}
		if err := s.sender.Configure(1, []*delivery.LaneConfig{&lane}); err != nil {
			t.Fatal(err)
		}
		f(s)
		if err := errors.Join(s.sender.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	})
}

func (s *sending) batch(f func(b delivery.Batch)) {
	s.applier.Lock()
	s.batchLocked(f)
}

// batchLocked applies f, and lets the applier go, which its caller holds.
func (s *sending) batchLocked(f func(b delivery.Batch)) {
	b := s.store.Begin(0)
	f(b)
	err := b.Commit(context.Background(), consumers.State{Applied: s.next, LogTime: s.now().UnixMicro()})
	next := b.Next()
	s.applier.Unlock()
	if err != nil {
		s.t.Error(err)
	}
	s.sender.Next(0, next)
}

// add writes a message, keyless where key is "".
func (s *sending) add(key, body string, delay time.Duration) wal.Offset {
	s.applier.Lock()
	o := s.next
	s.next++
	s.logTime.Store(max(s.logTime.Load(), s.now().UnixMicro()))
	now := s.logTime.Load()
	s.batchLocked(func(b delivery.Batch) {
		b.Add(&delivery.Pending{
			Offset: o, LogTime: now, Due: now + delay.Microseconds(), Key: []byte(key), Keyless: key == "", Payload: []byte(body),
			Aims: []delivery.Aim{{Target: "x", Ordered: !s.relays}},
		})
	})
	return o
}

func (s *sending) attempts() []attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]attempt(nil), s.got...)
}

// waits returns what is left.
func (s *sending) waits() int {
	ds, err := s.store.Due(context.Background(), 0, "x", 0, wal.NoOffset, 10_000)
	if err != nil {
		s.t.Fatal(err)
	}
	return len(ds)
}

// TestNothingIsDeliveredBeforeItsTime, whatever the clock does, which is set by 27 seconds here, and soon after.
func TestNothingIsDeliveredBeforeItsTime(t *testing.T) {
	inBubble(t, delivery.LaneConfig{Concurrency: 4}, func(s *sending) {
		rng := rand.New(rand.NewPCG(1, 1))
		due := make(map[string]time.Time)
		for i := range 300 {
			delay := time.Duration(rng.Int64N(int64(10 * time.Minute)))
			body := fmt.Sprint(i)
			due[body] = s.now().Add(delay).Truncate(time.Microsecond)
			s.add([]string{"", "a", "b"}[i%3], body, delay)
			if i%100 == 50 {
				// No attempt is about to be made when the clock is set.
				synctest.Wait()
				s.step.Store(int64([]time.Duration{-20 * time.Second, 7 * time.Second}[i/100%2]))
			}
		}
		<-time.After(11 * time.Minute)
		synctest.Wait()
		got := s.attempts()
		if len(got) != 300 || s.waits() != 0 {
			t.Fatalf("%d attempts, %d wait", len(got), s.waits())
		}
		for _, a := range got {
			if late := a.at.Sub(due[a.body]); late < 0 || late > 29*time.Second {
				t.Errorf("message %s came %v after its time", a.body, late)
			}
		}
	})
}

// TestAMessageWaitsForTheDocumentItWasAcceptedUnder: it does not go to where its target was before. Where the target is
// as it was, the wait ends with the new document too.
func TestAMessageWaitsForTheDocumentItWasAcceptedUnder(t *testing.T) {
	for _, kind := range []delivery.LaneConfig{{Concurrency: 4}, relaying(halfASecond)} {
		for _, same := range []bool{true, false} {
			kind.Same = func(any) bool { return same }
			inBubble(t, kind, func(s *sending) {
				s.sender.Await(1)
				s.add("a", "before", 0)
				<-time.After(time.Second)
				synctest.Wait()
				if got := s.attempts(); len(got) != 1 {
					t.Fatalf("attempts %v, want one", got)
				}
				s.sender.Await(3)
				s.sender.Await(2)
				s.add("a", "behind", 0)
				next := kind
				next.Name, next.Timeout = "x", time.Minute
				arrived := &sending{t: t}
				arrived.logTime.Store(math.MaxInt64) // the time of the log is looked after elsewhere
				next.Open = func() (delivery.Receiver, error) { return arrived, nil }
				if kind.Relay != nil {
					next.Relay = func() (delivery.Forwarders, error) { return arrived, nil }
				}
				if err := s.sender.Configure(2, []*delivery.LaneConfig{&next}); err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Minute)
				synctest.Wait()
				if was, is := s.attempts(), arrived.attempts(); len(was) != 1 || len(is) != 0 || s.waits() != 1 {
					t.Fatalf("attempts %v and %v by an older document", was, is)
				}
				if err := s.sender.Configure(3, []*delivery.LaneConfig{&next}); err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Millisecond)
				synctest.Wait()
				if n := len(s.attempts()) + len(arrived.attempts()); n != 2 || same != (len(arrived.attempts()) == 0) || s.waits() != 0 {
					t.Errorf("attempts %v at the old one and %v at the new one, %d wait", s.attempts(), arrived.attempts(), s.waits())
				}
			})
		}
	}
}

// TestPausesGrow and are those that the receiver asks for.
func TestPausesGrow(t *testing.T) {
	retry := delivery.Retry{Initial: time.Second, Multiplier: 2, Max: 10 * time.Second, Attempts: 6}
	inBubble(t, delivery.LaneConfig{Concurrency: 1, Retry: retry}, func(s *sending) {
		s.deliver = func(a *delivery.Attempt) error {
			if a.Number == 2 {
				return &delivery.RetryAfterError{After: time.Minute, Err: errors.New("later")}
			}
			return errors.New("down")
		}
		s.add("a", "m", 0)
		<-time.After(10 * time.Minute)
		synctest.Wait()
		got := s.attempts()
		if len(got) != 6 || s.waits() != 0 || len(s.dead) != 1 || !strings.Contains(s.dead[0], "6 of 6 attempts have failed; the last one: down") {
			t.Fatalf("%d attempts, %d wait, dead: %q", len(got), s.waits(), s.dead)
		}
		for i, most := range []time.Duration{time.Second, time.Minute, 4 * time.Second, 8 * time.Second, 10 * time.Second} {
			if pause := got[i+1].at.Sub(got[i].at); pause < most*79/100 || pause > most+10*time.Millisecond {
				t.Errorf("pause %d is %v, want %v at most", i+1, pause, most)
			}
		}
	})
}

// TestOldMessagesAreGivenUp by their age.
func TestOldMessagesAreGivenUp(t *testing.T) {
	inBubble(t, delivery.LaneConfig{Concurrency: 1, Retry: delivery.Retry{Initial: time.Second, Multiplier: 1, Max: time.Second, Age: time.Minute}}, func(s *sending) {
		s.deliver = func(*delivery.Attempt) error { return errors.New("down") }
		s.add("a", "m", time.Hour) // its age begins when it is due
		<-time.After(2 * time.Hour)
		synctest.Wait()
		got := s.attempts()
		if len(s.dead) != 1 || len(got) < 50 {
			t.Fatalf("%d attempts, dead: %q", len(got), s.dead)
		}
		if last := got[len(got)-1].at.Sub(got[0].at); last > time.Minute {
			t.Errorf("the last attempt is made %v after the first", last)
		}
	})
}

// TestADeadEndpointIsAskedOneAtATime, and gets everything once it is back.
func TestADeadEndpointIsAskedOneAtATime(t *testing.T) {
	retry := delivery.Retry{Initial: time.Second, Multiplier: 2, Max: 30 * time.Second}
	inBubble(t, delivery.LaneConfig{Concurrency: 16, Breaker: 5, Retry: retry}, func(s *sending) {
		s.takes = 10 * time.Millisecond
		var down bool
		s.deliver = func(*delivery.Attempt) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if down {
				return errors.New("down")
			}
			return nil
		}
		down = true
		for i := range 200 {
			s.add(fmt.Sprint(i), fmt.Sprint(i), 0)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		early := len(s.attempts())
		s.mu.Lock()
		s.most = 0
		s.mu.Unlock()
		<-time.After(10 * time.Minute)
		synctest.Wait()
		s.mu.Lock()
		later, most := len(s.got)-early, s.most
		down = false
		s.mu.Unlock()
		if most != 1 || later > 30 {
			t.Errorf("while it was down for ten minutes %d attempts were made, up to %d at once", later, most)
		}
		<-time.After(10 * time.Minute)
		synctest.Wait()
		if n := s.waits(); n != 0 || len(s.dead) != 0 {
			t.Errorf("%d wait, %d are dead", n, len(s.dead))
		}
	})
}

// TestRateAndConcurrency of a target hold.
func TestRateAndConcurrency(t *testing.T) {
	inBubble(t, delivery.LaneConfig{Concurrency: 3}, func(s *sending) {
		s.takes = 100 * time.Millisecond
		for i := range 60 {
			s.add("", fmt.Sprint(i), 0)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		if s.most != 3 || len(s.attempts()) != 60 {
			t.Errorf("%d attempts, %d at once; want 60, 3", len(s.attempts()), s.most)
		}
	})
	inBubble(t, delivery.LaneConfig{Concurrency: 16, Rate: 10}, func(s *sending) {
		for i := range 60 {
			s.add("", fmt.Sprint(i), 0)
		}
		<-time.After(3 * time.Second)
		synctest.Wait()
		if n := len(s.attempts()); n < 25 || n > 31 {
			t.Errorf("%d attempts in 3 seconds at 10 a second", n)
		}
	})
}
