package ledgertest

import (
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

func tokensFound[S comparable, E Entry](s *suite[S, E]) {
	n := 6_000
	if testing.Short() {
		n = 2_000
	}
	// The tokens are of 40 minutes.
	at := func(i int) int64 { return int64(i) * 40 * minute / int64(n) }
	s.open(2)
	for i := 0; i < n; i += 100 {
		s.commit(0, func(w changes[E]) {
			for j := i; j < i+100; j++ {
				w.SaveToken(s.token(j, wal.Offset(j), at(j)))
			}
		})
		last := i + 99
		if e, ok, err := s.l.Token(bg, 0, tokenID(last)); err != nil || !ok || e != *s.token(last, wal.Offset(last), at(last)) {
			s.Fatalf("token of the last commit: %+v %v %v", e, ok, err)
		}
		if i == n/2 {
			s.l.SetTokenWindow(24 * time.Hour)
		}
	}
	for range 2 {
		s.check()
		for i := range n {
			if e, ok, err := s.l.Token(bg, 0, tokenID(n+i)); err != nil || ok {
				s.Fatalf("a token that was never saved: %+v %v", e, err)
			}
			if e, ok, err := s.l.Token(bg, 1, tokenID(i)); err != nil || ok {
				s.Fatalf("a token of another partition: %+v %v", e, err)
			}
		}
		s.live(0, int64(n))
		s.live(1, 0)
		if u, err := s.l.Usage(bg); err != nil || u.Tokens != int64(n) || u.DiskBytes <= 0 {
			s.Fatalf("usage %+v, %v; want %d tokens", u, err, n)
		}
		s.reopen()
	}
}

func (s *suite[S, E]) live(p wal.Partition, want int64) {
	s.Helper()
	if live := s.l.LiveTokens(p); live != want {
		s.Fatalf("%d live tokens of partition %d, want %d", live, p, want)
	}
}

func tokenTwice[S comparable, E Entry](s *suite[S, E]) {
	s.open(1)
	const hour = 60 * minute
	// The last of these come late, under the position that they were parked at.
	for _, logTime := range []int64{-hour, minute, 2 * minute, 300 * minute, 300*minute + 1, minute + 1, -hour + 1} {
		s.commit(0, func(w changes[E]) { w.SaveToken(s.token(1, wal.Offset(2*hour+logTime), logTime)) })
		s.checkKept()
	}
	s.commit(0, func(w changes[E]) { // and in one commit
		for i, logTime := range []int64{hour, hour + 1, 9 * hour} {
			w.SaveToken(s.token(2, wal.Offset(i), logTime))
		}
	})
	s.checkKept()
}

func (s *suite[S, E]) evict(p wal.Partition, horizon int64) int {
	s.Helper()
	s.models[p].horizon = max(s.models[p].horizon, horizon)
	n, err := s.h.Evict(s.l, p, horizon)
	if err != nil {
		s.Fatalf("evict: %v", err)
	}
	return n
}

func tokensEvicted[S comparable, E Entry](s *suite[S, E]) {
	s.open(2)
	s.l.SetTokenWindow(15 * time.Minute)
	const n = 600
	for p := range s.models {
		s.commit(wal.Partition(p), func(w changes[E]) {
			for i := range n {
				w.SaveToken(s.token(i, wal.Offset(i), int64(i)*minute/10)) // an hour
			}
		})
	}
	if n := s.evict(0, 0); n != 0 {
		s.Fatalf("%d tokens from before the first one are evicted", n)
	}
	evicted := 0
	for horizon := int64(0); horizon <= 75*minute; horizon += 15 * minute {
		evicted += s.evict(0, horizon)
		s.check()
		left := s.l.LiveTokens(0)
		// All from the horizon on, and of older ones an eighth of the window, give or
		// take the power of two.
		from := max(60*minute-horizon, 0) * n / (60 * minute)
		if left < from || left > from+n/12 || evicted != n-int(left) {
			s.Fatalf("horizon %d: %d of %d tokens are left, %d were evicted", horizon, left, n, evicted)
		}
		gone := 0
		for i := range n {
			if _, ok, err := s.l.Token(bg, 0, tokenID(i)); err != nil {
				s.Fatal(err)
			} else if !ok {
				gone++
			}
		}
		if gone != evicted {
			s.Fatalf("horizon %d: %d tokens are gone, %d were evicted", horizon, gone, evicted)
		}
		s.reopen()
		s.live(0, left)
	}
	s.live(0, 0)
	s.live(1, n)
	s.commit(0, func(w changes[E]) { w.SaveToken(s.token(5, n, 240*minute)) })
	s.checkKept()
	s.live(0, 1)
}
