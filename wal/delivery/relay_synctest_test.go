package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// Forward implements delivery.Forwarder: one message after the other, up to the first that fails.
func (s *sending) Forward(ctx context.Context, ms []*delivery.Attempt) (n int, err error) {
	for _, m := range ms {
		s.mu.Lock()
		if s.places = append(s.places, m.Source.Place); m.Source.Place.At > s.logTime.Load() {
			s.t.Errorf("message %s came before its time, by the log", m.Payload)
		}
		s.mu.Unlock()
		if err := s.Deliver(ctx, m); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// relaying has inBubble make a relay.
func relaying(retry delivery.Retry) delivery.LaneConfig {
	return delivery.LaneConfig{Retry: retry, Relay: func() (delivery.Forwarders, error) { return nil, nil }}
}

// Forwarder implements delivery.Forwarders.
func (s *sending) Forwarder(wal.Partition) delivery.Forwarder { return s }

var halfASecond = delivery.Retry{Initial: 500 * time.Millisecond, Multiplier: 1, Max: 500 * time.Millisecond}

// TestARelayKeepsTheOrderOfPlaces, and is never early, whatever the clock and the delays do: a message never comes behind
// one of a later place, even where it was written when the clock had been set back.
func TestARelayKeepsTheOrderOfPlaces(t *testing.T) {
	inBubble(t, relaying(halfASecond), func(s *sending) {
		rng := rand.New(rand.NewPCG(2, 2))
		due := make(map[string]time.Time)
		for i := range 400 {
			delay := time.Duration(0)
			if rng.IntN(2) == 0 {
				delay = time.Duration(rng.Int64N(int64(20 * time.Second)))
			}
			body := fmt.Sprint(i)
			s.add([]string{"", "a", "b"}[i%3], body, delay)
			due[body] = time.UnixMicro(s.logTime.Load()).Add(delay).Truncate(time.Microsecond)
			<-time.After(time.Duration(rng.IntN(200)) * time.Millisecond)
			if i%100 == 50 {
				synctest.Wait()
				s.step.Store(int64([]time.Duration{-20 * time.Second, 7 * time.Second}[i/100%2]))
			}
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		got := s.attempts()
		if len(got) != 400 || s.waits() != 0 {
			t.Fatalf("%d attempts, %d wait", len(got), s.waits())
		}
		if !slices.IsSortedFunc(s.places, wal.SourcePlace.Compare) {
			t.Error("messages came in another order than that of their places")
		}
		for i, a := range got {
			if at := s.places[i].At; at != due[a.body].UnixMicro() {
				t.Errorf("message %s came %v after its time, by its place", a.body, time.UnixMicro(at).Sub(due[a.body]))
			}
		}
		if s.ticks.Load() == 0 {
			t.Error("the log was never moved on")
		}
	})
}

// TestARelayWaitsForItsNamespace for as long as it takes, and goes on with the message that it stands at.
func TestARelayWaitsForItsNamespace(t *testing.T) {
	inBubble(t, relaying(halfASecond), func(s *sending) {
		down := errors.New("down")
		s.deliver = func(a *delivery.Attempt) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if string(a.Payload) == "1" {
				return down
			}
			return nil
		}
		for i := range 3 {
			s.add("a", fmt.Sprint(i), 0)
		}
		<-time.After(24 * time.Hour)
		synctest.Wait()
		if n := s.waits(); n != 2 || len(s.dead) > 0 {
			t.Errorf("%d messages wait, dead are %v", n, s.dead)
		}
		if st := s.sender.States(t.Context()); len(st) != 1 || st[0].Error != "down" || st[0].Failed < 1000 || st[0].Overdue < 23*time.Hour {
			t.Errorf("it is told as %+v", st)
		}
		s.mu.Lock()
		down = nil
		s.mu.Unlock()
		<-time.After(time.Minute)
		synctest.Wait()
		if st := s.sender.States(t.Context()); s.waits() != 0 || st[0].Error != "" || st[0].Failed != 0 {
			t.Errorf("%d messages wait, it is told as %+v", s.waits(), st)
		}
	})
}

// TestARelayGoesOnBehindADeadMessage, which comes behind all that came meanwhile when it is redriven.
func TestARelayGoesOnBehindADeadMessage(t *testing.T) {
	inBubble(t, relaying(halfASecond), func(s *sending) {
		bad := true
		s.deliver = func(a *delivery.Attempt) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			if bad && string(a.Payload) == "1" {
				return &delivery.PermanentError{Err: errors.New("no write")}
			}
			return nil
		}
		for i := range 3 {
			s.add("a", fmt.Sprint(i), 0)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if n := s.waits(); n != 0 || !slices.Equal(s.dead, []string{"no write"}) {
			t.Fatalf("%d messages wait, dead are %v", n, s.dead)
		}
		s.mu.Lock()
		bad = false
		s.mu.Unlock()
		s.batch(func(b delivery.Batch) { b.Redrive(1, "x", s.logTime.Load(), "job") })
		s.add("a", "3", 0)
		<-time.After(time.Second)
		synctest.Wait()
		if s.waits() != 0 || len(s.places) != 5 || !slices.IsSortedFunc(s.places, wal.SourcePlace.Compare) {
			t.Errorf("%d messages wait; places are %v", s.waits(), s.places)
		}
	})
}

// TestARelayKeepsItsRate over all of its messages.
func TestARelayKeepsItsRate(t *testing.T) {
	lane := relaying(halfASecond)
	lane.Rate = 50
	inBubble(t, lane, func(s *sending) {
		for i := range 200 {
			s.add("a", fmt.Sprint(i), 0)
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		if n := len(s.attempts()); n < 90 || n > 110 {
			t.Errorf("%d messages came in two seconds", n)
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		if s.waits() != 0 {
			t.Errorf("%d messages wait", s.waits())
		}
	})
}

// TestARelayGivesAMessageUp after as many attempts as it is told to make, and begins to count at the next one.
func TestARelayGivesAMessageUp(t *testing.T) {
	retry := halfASecond
	retry.Attempts = 3
	inBubble(t, relaying(retry), func(s *sending) {
		s.deliver = func(a *delivery.Attempt) error {
			if b := string(a.Payload); b == "1" || b == "2" {
				return errors.New("not this one")
			}
			return nil
		}
		for i := range 5 {
			s.add("a", fmt.Sprint(i), 0)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		var bodies []string
		for _, a := range s.attempts() {
			bodies = append(bodies, a.body)
		}
		if got := fmt.Sprint(bodies); s.waits() != 0 || len(s.dead) != 2 || got != "[0 1 1 1 2 2 2 3 4]" {
			t.Errorf("%d messages wait, dead are %v, attempts were made at %s", s.waits(), s.dead, got)
		}
	})
}

// TestARelaySeesWhatLogTimeCovers: a message that is applied while the relay looks, with a later one that makes a delayed
// one due, comes before that one.
func TestARelaySeesWhatLogTimeCovers(t *testing.T) {
	inBubble(t, relaying(halfASecond), func(s *sending) {
		<-time.After(time.Second)
		synctest.Wait()
		due := s.now().Add(time.Second).UnixMicro()
		var once sync.Once
		s.applies = func() {
			if s.now().UnixMicro() < due {
				return
			}
			once.Do(func() {
				o := s.next
				s.next++
				s.batch(func(b delivery.Batch) {
					b.Add(&delivery.Pending{
						Offset: o, LogTime: due - 1, Due: due - 1, Payload: []byte("before"), Keyless: true, Aims: []delivery.Aim{{Target: "x"}},
					})
				})
				s.logTime.Store(due + 1)
			})
		}
		s.add("a", "delayed", time.Second)
		<-time.After(time.Minute)
		synctest.Wait()
		if s.waits() != 0 || len(s.places) != 2 || !slices.IsSortedFunc(s.places, wal.SourcePlace.Compare) {
			t.Errorf("%d messages wait; places are %v", s.waits(), s.places)
		}
	})
}
