package counter_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

func TestAClearTakesEffectInLogOrderNotByTokenTime(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	late, early := r.token(), r.token()
	late.GenerationTime += time.Minute.Microseconds()
	early.GenerationTime -= time.Minute.Microseconds()
	r.addAll(late, plus("c", 5)) // generated after the clear, logged before it: cleared
	cleared := r.token()
	if res := r.call(cleared, on(counter.OpClear, "c")); res.Err != nil {
		t.Fatal(res.Err)
	}
	r.want("c", 0, 0)
	r.addAll(early, plus("c", 7)) // the other way round: it counts
	r.want("c", 7, 0)
	if res := r.call(cleared, on(counter.OpClear, "c")); res.Err != nil || !res.Duplicate {
		t.Errorf("the clear once more: %+v", res)
	}
	r.raw(0, r.record(cleared, &counter.Call{Op: counter.OpClear, Add: counter.Add{Counter: []byte("c")}}))
	r.want("c", 7, 0)
}

// sameAnswer compares what copies of a call are told.
func sameAnswer(t interface{ Errorf(string, ...any) }, what string, first, again counter.Result) {
	if !again.Duplicate {
		t.Errorf("%s: not a duplicate: %+v", what, again)
	}
	errs := first.Err == nil && again.Err == nil || first.Err != nil && again.Err != nil && first.Err.Error() == again.Err.Error()
	if first.Count.Value != again.Count.Value || first.Count.Held != again.Count.Held || first.AppliedDelta != again.AppliedDelta || first.Position != again.Position ||
		first.Violation != again.Violation || first.ExpiresAt != again.ExpiresAt || !errs {
		t.Errorf("%s: told %+v, the first copy was told %+v", what, again, first)
	}
}

func TestATokenIsKnownAfterFlushEvictionAndRestart(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{hotBytes: 1})
	tok, adds := r.token(), r.token()
	c := addAndGet("c", 3)
	first := r.call(tok, c)
	if first.Err != nil || first.Count.Value != 3 || first.Duplicate {
		t.Fatalf("%+v", first)
	}
	if res := r.addAll(adds, plus("c", 10)); res.Err != nil || res.Duplicate {
		t.Fatalf("%+v", res)
	}
	again := func(when string) {
		t.Helper()
		sameAnswer(t, when, first, r.call(tok, c))
		if res := r.addAll(adds, plus("c", 10)); res.Err != nil || !res.Duplicate {
			t.Errorf("%s: adds once more: %+v", when, res)
		}
		// What another gateway does, that does not know the token.
		r.raw(0, r.record(tok, &c))
		rec := r.addsRecord(adds, plus("c", 10))
		rec.RequestHash = wal.Hash{1, 15: 0xff}
		r.raw(0, rec)
		r.want("c", 13, 0)
	}
	again("before a flush")
	r.save()
	again("after a flush")
	for range 3 {
		r.tick()
		r.save()
	}
	r.do(func(context.Context) error {
		if r.applier.InMemory(0, "c") {
			t.Error("the counter is still in memory: nothing was evicted")
		}
		return nil
	})
	again("after an eviction")
	r.durable()
	r.crash(0)
	again("after a restart")
	r.crash(0)
	again("after another")
}

func TestThePositionIsSavedWithTheEffect(t *testing.T) {
	t.Parallel()
	for _, percent := range []int{0, 50, 100} {
		r := newRoom(t, roomConfig{})
		for i := range 30 {
			r.add("c", 1)
			switch i % 10 {
			case 4:
				r.save()
			case 7:
				r.durable()
			case 9:
				r.crash(percent)
				r.want("c", int64(i+1), 0)
			}
		}
		r.durable()
		saved, err := r.store.Saved(r.ctx(), 0)
		if err != nil {
			t.Fatal(err)
		}
		r.crash(0)
		after, err := r.store.Saved(r.ctx(), 0)
		if err != nil || after.Applied < saved.Applied {
			t.Errorf("the store was at %d, after the crash %d: %v", saved.Applied, after.Applied, err)
		}
		r.want("c", 30, 0)
	}
}

func TestABoundIsNotDecidedAgainByARecount(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{settings: counter.Settings{Bounds: counter.Bounds{HasCeiling: true, Ceiling: 10}}})
	r.add("c", 8)
	r.add("c", 5) // refused
	r.want("c", 8, 0)
	r.rules(counter.Settings{Bounds: counter.Bounds{HasCeiling: true, Ceiling: 100, Saturate: true}})
	r.add("c", 95) // 92 of it
	r.want("c", 100, 0)
	r.rules(counter.Settings{Bounds: counter.Bounds{HasCeiling: true, Ceiling: 1}})
	r.add("c", 1) // refused
	r.want("c", 100, 0)
	r.durable()
	r.crash(0)
	r.rules(counter.Settings{})
	r.want("c", 100, 0)
	points := r.series("c", time.Hour, roomEpoch, roomEpoch+3600e6, nil)
	var sum, adds int64
	for _, p := range points {
		sum, adds = sum+p.Sum, adds+p.Adds
	}
	if sum != 100 || adds != 2 {
		t.Errorf("the series has %d in %d adds, want 100 in 2", sum, adds)
	}
	if n := len(r.lettersOf("bound")); n != 3 {
		t.Errorf("%d letters of bounds, want 3", n)
	}
}

func TestAnOwnTokenCountsOnceInABatch(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	tok := r.token()
	a := own(plus("c", 5), tok)
	r.raw(0, r.addsRecord(r.token(), a, plus("d", 1), a, a))
	r.want("c", 5, 0)
	r.want("d", 1, 0)
	r.raw(0, r.addsRecord(r.token(), plus("d", 1), a))
	r.want("c", 5, 0)
	r.want("d", 2, 0)
	if res := r.addAll(r.token(), a, plus("d", 1), a); res.Err != nil {
		t.Fatal(res.Err)
	}
	r.want("c", 5, 0)
	r.want("d", 3, 0)
	r.raw(0, r.addsRecord(r.token(), own(plus("c", 6), tok))) // used for something else
	r.want("c", 5, 0)
	if n := len(r.lettersOf("token_conflict")); n != 1 {
		t.Errorf("%d letters of conflicts, want 1", n)
	}
}

// An own token's time is no part of its identity: a client that stamps it anew
// sends the same call.
func TestACallIsTheSameWhateverTheTimesOfItsOwnTokens(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	call, tok := r.token(), r.token()
	if res := r.addAll(call, own(plus("c", 5), tok), plus("d", 1), plus("e", 1)); res.Err != nil {
		t.Fatal(res.Err)
	}
	tok.GenerationTime += 7
	if res := r.addAll(call, own(plus("c", 5), tok), plus("d", 1), plus("e", 1)); res.Err != nil || !res.Duplicate {
		t.Errorf("stamped anew: duplicate %v, %v", res.Duplicate, res.Err)
	}
	if res := r.addAll(call, own(plus("c", 6), tok), plus("d", 1), plus("e", 1)); !errors.Is(res.Err, wal.ErrTokenReused) {
		t.Errorf("another delta: %v", res.Err)
	}
	r.want("c", 5, 0)
	r.want("d", 1, 0)
}

// A token that is out of the window is new, whether the store has its entry yet or
// not: a rebuild, whose flushes fall elsewhere, must decide the same.
func TestAnOwnTokenOutOfTheWindowCountsAgainFlushedOrNot(t *testing.T) {
	t.Parallel()
	for _, flush := range []bool{false, true} {
		r := newRoom(t, roomConfig{})
		a := own(plus("c", 5), wal.Token{Nonce: wal.NewNonce()}) // generated when the call is
		r.raw(0, r.addsRecord(r.token(), a))
		if flush {
			r.save()
		}
		r.clock.pass(2 * time.Hour)
		r.raw(0, r.addsRecord(r.token(), a))
		if flush {
			r.save()
		}
		if v := r.get("c")[0].Value; v != 10 {
			t.Errorf("flushed %v: %d, want 10", flush, v)
		}
	}
}

func TestALeaseEndsByLogTimeNotByAWallClock(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("c", 100)
	first := r.call(wal.Token{}, reserve("c", 60, 10*time.Second))
	second := r.call(wal.Token{}, reserve("c", 30, 10*time.Second))
	if first.Err != nil || second.Err != nil || first.ExpiresAt != roomEpoch+10e6 {
		t.Fatalf("%+v %+v", first, second)
	}
	r.clock.wall.Add(30 * time.Minute.Microseconds()) // the clients' clocks and ours are off
	if res := r.call(wal.Token{}, settle("c", first.Reservation, 60)); res.Err != nil || res.Count.Value != 40 || res.Count.Held != 30 {
		t.Errorf("settle before the log's time: %+v", res)
	}
	r.clock.wall.Store(roomEpoch)
	r.clock.log.Add(10e6)
	r.tick()
	r.want("c", 40, 0)
	var ended *counter.EndedError
	if res := r.call(wal.Token{}, settle("c", second.Reservation, 30)); !errors.As(res.Err, &ended) || ended.State != counter.Expired {
		t.Errorf("settle after the log's time: %+v", res)
	}
	r.want("c", 40, 0)
}

func TestARefusedOverflowLeavesALetterAndDoesNotPark(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("c", math.MaxInt64)
	r.add("d", math.MinInt64)
	if res := r.addAll(wal.Token{}, plus("c", 1), plus("x", 1), plus("d", -1)); res.Err != nil {
		t.Fatal(res.Err)
	}
	r.want("c", math.MaxInt64, 0)
	r.want("d", math.MinInt64, 0)
	r.want("x", 1, 0)
	if l := r.lettersOf("overflow"); len(l) != 2 || l[0].Disposition != consumers.Refused || string(l[0].Key) != "c" || string(l[1].Key) != "d" {
		t.Errorf("letters %+v", l)
	}
	if r.parked("c") || r.parked("d") || r.applier.Stats().Parked.Load() != 0 {
		t.Error("parked")
	}
	if res := r.call(wal.Token{}, addAndGet("c", 1)); !errors.Is(res.Err, counter.ErrOverflow) || res.Count.Value != math.MaxInt64 || res.AppliedDelta != 0 {
		t.Errorf("add and get: %+v", res)
	}
	r.add("c", -1)
	r.want("c", math.MaxInt64-1, 0)
}

func TestARefusalIsTheAnswerOfEveryCopy(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	bounded := addAndGet("c", 20)
	bounded.Bounds = counter.Bounds{HasCeiling: true, Ceiling: 25}
	over := addAndGet("big", 2)
	r.add("c", 10)
	r.add("big", math.MaxInt64-1)
	held := r.call(wal.Token{}, reserve("c", 1, time.Hour))
	calls := []counter.Call{bounded, over, reserve("c", 50, time.Minute), settle("c", held.Reservation, 2), settle("c", wal.TokenID{1}, 1), cancelOf("c", wal.TokenID{1})}
	toks := make([]wal.Token, len(calls))
	first := make([]counter.Result, len(calls))
	for i, c := range calls {
		toks[i] = r.token()
		if first[i] = r.call(toks[i], c); first[i].Err == nil && first[i].Violation == counter.NoViolation {
			t.Errorf("call %d is not refused: %+v", i, first[i])
		}
	}
	// Each of them would be taken now.
	r.add("c", -10)
	r.add("c", 1000)
	r.add("big", -100)
	check := func(when string) {
		t.Helper()
		for i, c := range calls {
			r.raw(0, r.record(toks[i], &c))
			sameAnswer(t, when, first[i], r.call(toks[i], c))
		}
		r.want("c", 1000, 1)
		r.want("big", math.MaxInt64-101, 0)
	}
	check("in memory")
	r.durable()
	check("from the store")
	r.crash(0)
	check("after a crash")
}

func TestAQuotaIsNotOversold(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("quota", 100)
	var got, refused atomic.Int64
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			tok := r.token()
			res := r.call(tok, reserve("quota", 1, time.Hour))
			var less *counter.InsufficientError
			switch {
			case res.Err == nil:
				got.Add(1)
			case errors.As(res.Err, &less) && less.Value == 100 && less.Held == 100 && less.Wanted == 1:
				refused.Add(1)
			default:
				t.Errorf("reserve: %v", res.Err)
			}
			sameAnswer(t, "again", res, r.call(tok, reserve("quota", 1, time.Hour)))
		})
	}
	wg.Wait()
	if got.Load() != 100 || refused.Load() != 900 {
		t.Errorf("%d have a reservation and %d were refused, of a quota of 100", got.Load(), refused.Load())
	}
	r.want("quota", 100, 100)
}

func TestSettlingLessReturnsTheRest(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("c", 100)
	h := r.call(wal.Token{}, reserve("c", 40, time.Minute))
	var much *counter.TooMuchError
	if res := r.call(wal.Token{}, settle("c", h.Reservation, 41)); !errors.As(res.Err, &much) || much.Reserved != 40 || much.Wanted != 41 || res.AppliedDelta != 0 {
		t.Errorf("settle too much: %+v", res)
	}
	r.want("c", 100, 40)
	if res := r.call(wal.Token{}, settle("other", h.Reservation, 1)); !errors.Is(res.Err, counter.ErrNoReservation) {
		t.Errorf("settle of another counter's: %+v", res)
	}
	if res := r.call(wal.Token{}, settle("c", h.Reservation, 15)); res.Err != nil || res.Count.Value != 85 || res.Count.Held != 0 || res.AppliedDelta != -15 {
		t.Errorf("settle: %+v", res)
	}
	r.want("c", 85, 0)
	if res := r.call(wal.Token{}, reserve("c", 85, time.Minute)); res.Err != nil {
		t.Errorf("the rest is not free: %+v", res)
	}
}

func TestASettleAfterExpiryIsRefusedByName(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("c", 100)
	h := r.call(wal.Token{}, reserve("c", 40, time.Second))
	r.clock.pass(time.Second)
	for _, when := range []string{"at once", "after a flush", "after a crash"} {
		var ended *counter.EndedError
		if res := r.call(wal.Token{}, settle("c", h.Reservation, 40)); !errors.As(res.Err, &ended) || ended.State != counter.Expired {
			t.Errorf("%s: %+v", when, res)
		}
		if res := r.call(wal.Token{}, cancelOf("c", h.Reservation)); res.Err != nil {
			t.Errorf("%s: cancel of what has ended: %+v", when, res)
		}
		r.want("c", 100, 0)
		if r.durable(); when != "at once" {
			r.crash(0)
		}
	}
}

func TestCancelIsIdempotent(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("c", 100)
	h := r.call(wal.Token{}, reserve("c", 40, time.Hour))
	for range 3 { // each with a token of its own
		if res := r.call(wal.Token{}, cancelOf("c", h.Reservation)); res.Err != nil || res.Count.Held != 0 || res.Count.Value != 100 {
			t.Errorf("cancel: %+v", res)
		}
		r.save()
	}
	r.want("c", 100, 0)
	var ended *counter.EndedError
	if res := r.call(wal.Token{}, settle("c", h.Reservation, 1)); !errors.As(res.Err, &ended) || ended.State != counter.Cancelled {
		t.Errorf("settle of what is cancelled: %+v", res)
	}
	h = r.call(wal.Token{}, reserve("c", 40, time.Hour))
	r.call(wal.Token{}, settle("c", h.Reservation, 40))
	if res := r.call(wal.Token{}, cancelOf("c", h.Reservation)); !errors.As(res.Err, &ended) || ended.State != counter.Settled {
		t.Errorf("cancel of what is settled: %+v", res)
	}
	r.want("c", 60, 0)
}

func TestWhatIsHeldSurvivesAClear(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("c", 100)
	h := r.call(wal.Token{}, reserve("c", 40, time.Hour))
	r.call(wal.Token{}, on(counter.OpClear, "c"))
	r.want("c", 0, 40)
	r.add("c", 50)
	var less *counter.InsufficientError
	if res := r.call(wal.Token{}, reserve("c", 11, time.Hour)); !errors.As(res.Err, &less) || less.Value != 50 || less.Held != 40 {
		t.Errorf("reserve: %+v", res)
	}
	if res := r.call(wal.Token{}, settle("c", h.Reservation, 40)); res.Err != nil {
		t.Errorf("settle: %+v", res)
	}
	r.want("c", 10, 0)
}
