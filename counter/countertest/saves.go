package countertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var tokenCases = []testCase{
	{"every answer of a token is kept", tokenAnswers},
	{"a reservation is found in every state, and held ones are listed", reservationStates},
}

// tokenID is different for every i.
func tokenID(i int) (n wal.TokenID) {
	binary.BigEndian.PutUint64(n[4:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint32(n[12:], uint32(i))
	return n
}

func token(i int, logTime int64) *counter.TokenEntry {
	e := &counter.TokenEntry{ID: tokenID(i), Hash: wal.Hash{byte(i), 15: 1}, Offset: wal.Offset(i), LogTime: logTime, AcceptedAt: logTime - 5, Time: logTime - 7, Outcome: counter.Applied}
	if i%3 == 0 {
		e.Value, e.Held, e.AppliedDelta = int64(i), 7, int64(-i)
	}
	return e
}

func reservation(i int, state counter.ReservationState) *counter.Reservation {
	r := &counter.Reservation{ID: tokenID(i), Counter: fmt.Append(nil, "counter ", i%10), Amount: int64(i) + 1, ExpiresAt: int64(i) * second, State: state}
	if state != counter.Held {
		r.EndedAt = int64(i) * 2 * second
	}
	return r
}

func tokenAnswers(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w changes, _ *counter.State) {
		i := 0
		save := func(e counter.TokenEntry) {
			e.ID = tokenID(i)
			i++
			w.SaveToken(&e)
		}
		for o := counter.Applied; o <= counter.TooMany; o++ {
			save(counter.TokenEntry{Outcome: o})
		}
		save(counter.TokenEntry{Outcome: counter.Rejected, Violation: counter.AtFloor})
		save(counter.TokenEntry{Outcome: counter.Rejected, Violation: counter.AtCeiling, Value: -1})
		save(counter.TokenEntry{Outcome: counter.ReservationEnded, Ended: counter.Expired})
		save(counter.TokenEntry{Held: 1})
		save(counter.TokenEntry{AppliedDelta: math.MinInt64})
		save(counter.TokenEntry{ExpiresAt: math.MaxInt64})
		save(counter.TokenEntry{
			Hash: wal.Hash{0: 1, 15: 2}, Offset: math.MaxInt64, LogTime: 1_700_000_000 * second, AcceptedAt: math.MaxInt64, Time: math.MinInt64,
			Outcome: counter.Applied, Value: math.MaxInt64, Held: math.MinInt64, AppliedDelta: 5, Violation: counter.AtCeiling, ExpiresAt: 1, Ended: counter.Settled,
		})
	})
	p.checkKept()
}

func reservationStates(t *testing.T, h Harness) {
	p := open(t, h, 2)
	states := []counter.ReservationState{counter.Settled, counter.Cancelled, counter.Expired}
	for i := range 60 {
		p.commit(0, func(w changes, _ *counter.State) {
			w.SaveReservation(reservation(i, counter.Held))
			if i%4 == 3 { // held and ended in one commit
				w.SaveReservation(reservation(i, states[i%3]))
			}
		})
		if i > 10 && i%2 == 0 {
			p.commit(0, func(w changes, _ *counter.State) { w.SaveReservation(reservation(i-10, states[i%3])) })
		}
		p.check()
	}
	p.commit(0, func(w changes, _ *counter.State) {
		long := reservation(1000, counter.Held)
		long.Counter = make([]byte, counter.MaxNameBytes)
		long.Amount, long.ExpiresAt = math.MaxInt64, math.MaxInt64
		w.SaveReservation(long)
		none := reservation(1001, counter.Expired)
		none.Counter, none.Amount, none.EndedAt = nil, math.MinInt64, math.MinInt64
		w.SaveReservation(none)
		w.SaveReservation(reservation(0, counter.Held)) // once more
	})
	p.checkKept()
	if _, ok, err := p.s.Reservation(bg, 0, tokenID(5000)); err != nil || ok {
		t.Fatalf("a reservation that was never made: %v %v", ok, err)
	}
	stop := errors.New("stop")
	n := 0
	err := p.s.HeldReservations(bg, 0, func(*counter.Reservation) error { n++; return stop })
	if !errors.Is(err, stop) || n != 1 {
		t.Fatalf("an error of the callback: %v after %d", err, n)
	}
	p.commit(0, func(w changes, _ *counter.State) { w.SaveReservation(reservation(0, counter.Cancelled)) })
	p.checkKept()
}
