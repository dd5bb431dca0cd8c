package countertest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

var tokenCases = []testCase{
	{"a token is found at once, after a reopen, and nowhere else", tokensFound},
	{"of two entries of a token the newer is found", tokenTwice},
	{"every answer of a token is kept", tokenAnswers},
	{"a reservation is found in every state, and held ones are listed", reservationStates},
	{"parked queues are replaced, removed and listed by key", parkedQueues},
}

// nonce is different for every i.
func nonce(i int) (n wal.Nonce) {
	binary.BigEndian.PutUint64(n[4:], uint64(i)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint32(n[12:], uint32(i))
	return n
}

func token(i int, logTime int64) *counter.TokenEntry {
	e := &counter.TokenEntry{Nonce: nonce(i), Hash: wal.Hash{byte(i), 15: 1}, Offset: wal.Offset(i), LogTime: logTime, AcceptedAt: logTime - 5, Time: logTime - 7, Outcome: counter.Applied}
	if i%3 == 0 {
		e.Value, e.Held, e.AppliedDelta = int64(i), 7, int64(-i)
	}
	return e
}

func reservation(i int, state counter.ReservationState) *counter.Reservation {
	r := &counter.Reservation{ID: nonce(i), Counter: fmt.Append(nil, "counter ", i%10), Amount: int64(i) + 1, ExpiresAt: int64(i) * second, State: state}
	if state != counter.Held {
		r.EndedAt = int64(i) * 2 * second
	}
	return r
}

func tokensFound(t *testing.T, h Harness) {
	n := 6_000
	if testing.Short() {
		n = 2_000
	}
	// The tokens are of 40 minutes.
	at := func(i int) int64 { return int64(i) * 40 * minute / int64(n) }
	p := open(t, h, 2)
	for i := 0; i < n; i += 100 {
		p.commit(0, func(w changes, _ *counter.State) {
			for j := i; j < i+100; j++ {
				w.SaveToken(token(j, at(j)))
			}
		})
		if e, ok, err := p.s.Token(bg, 0, nonce(i+99)); err != nil || !ok || e != *token(i+99, at(i+99)) {
			t.Fatalf("token of the last commit: %+v %v %v", e, ok, err)
		}
		if i == n/2 {
			p.s.SetTokenWindow(24 * time.Hour)
		}
	}
	for range 2 {
		p.check()
		for i := range n {
			if e, ok, err := p.s.Token(bg, 0, nonce(n+i)); err != nil || ok {
				t.Fatalf("a token that was never saved: %+v %v", e, err)
			}
			if e, ok, err := p.s.Token(bg, 1, nonce(i)); err != nil || ok {
				t.Fatalf("a token of another partition: %+v %v", e, err)
			}
		}
		if live := p.s.LiveTokens(0); live != int64(n) {
			t.Fatalf("%d live tokens, want %d", live, n)
		}
		if live := p.s.LiveTokens(1); live != 0 {
			t.Fatalf("%d live tokens of another partition", live)
		}
		if u, err := p.s.Usage(bg); err != nil || u.Tokens != int64(n) {
			t.Fatalf("%d tokens in use, %v; want %d", u.Tokens, err, n)
		}
		p.reopen()
	}
}

func tokenTwice(t *testing.T, h Harness) {
	p := open(t, h, 1)
	// The last of these come late, under the position that they were parked at.
	for _, logTime := range []int64{-hour, minute, 2 * minute, 300 * minute, 300*minute + 1, minute + 1, -hour + 1} {
		p.commit(0, func(w changes, _ *counter.State) {
			e := token(1, logTime)
			e.Offset = wal.Offset(2*hour + logTime)
			w.SaveToken(e)
		})
		p.checkKept()
	}
	p.commit(0, func(w changes, _ *counter.State) { // and in one commit
		for i, logTime := range []int64{hour, hour + 1, 9 * hour} {
			e := token(2, logTime)
			e.Offset = wal.Offset(i)
			w.SaveToken(e)
		}
	})
	p.checkKept()
}

func tokenAnswers(t *testing.T, h Harness) {
	p := open(t, h, 1)
	p.commit(0, func(w changes, _ *counter.State) {
		i := 0
		save := func(e counter.TokenEntry) {
			e.Nonce = nonce(i)
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
	if _, ok, err := p.s.Reservation(bg, 0, nonce(5000)); err != nil || ok {
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

func parkedQueues(t *testing.T, h Harness) {
	p := open(t, h, 2)
	queue := func(key string, n int) *consumers.ParkedQueue {
		q := &consumers.ParkedQueue{Key: []byte(key), Reason: fmt.Sprintf("poison %d", n), Attempts: n}
		for i := range n {
			q.Refs = append(q.Refs, wal.Ref{Partition: wal.Partition(i * 300), Offset: wal.Offset(n * i << 20), Index: i - 1})
		}
		return q
	}
	p.commit(0, func(w changes, _ *counter.State) {
		for i, key := range []string{"b", "a", "", "\xff", "a\x00"} {
			w.SaveParked(queue(key, i+1))
		}
	})
	p.checkKept()
	p.commit(0, func(w changes, _ *counter.State) {
		w.SaveParked(queue("a", 3))
		w.SaveParked(queue("b", 0))
		w.SaveParked(queue("never was", 0))
		w.SaveParked(queue("c", 1))
		w.SaveParked(queue("c", 0))
	})
	p.checkKept()
	if u, err := p.s.Usage(bg); err != nil || u.Parked != 4 {
		t.Fatalf("%d parked queues in use, %v", u.Parked, err)
	}
}
