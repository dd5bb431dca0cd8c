package counter_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

func TestANewLifeHasNoOldSeries(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{settings: counter.Settings{TokenWindow: time.Hour, TTL: 10 * time.Minute}})
	for range 5 {
		r.add("c", 2)
		r.clock.pass(5 * time.Minute) // less than the time to live: it stays
	}
	r.want("c", 10, 0)
	first := r.row("c")
	r.clock.pass(5 * time.Minute)
	r.want("c", 0, 0) // no record has said so
	if l, _, _, err := r.db.List(r.ctx(), &counter.ListQuery{Limit: 10}); err != nil || len(l) != 0 {
		t.Errorf("list: %+v %v", l, err)
	}
	from, to := int64(roomEpoch), int64(roomEpoch+24*3600e6)
	total := func() (sum, adds int64) {
		for _, p := range r.series("c", time.Hour, from, to, nil) {
			sum, adds = sum+p.Sum, adds+p.Adds
		}
		return sum, adds
	}
	if sum, adds := total(); sum != 0 || adds != 0 {
		t.Errorf("the series of what is gone has %d in %d adds", sum, adds)
	}
	r.add("c", 1)
	r.want("c", 1, 0)
	if sum, adds := total(); sum != 1 || adds != 1 {
		t.Errorf("the series of the new life has %d in %d adds", sum, adds)
	}
	if second := r.row("c"); second.ID == first.ID {
		t.Error("the new life has the old id")
	}
	r.clock.pass(9 * time.Minute)
	r.sweep(time.Minute)
	r.want("c", 1, 0)
	if n := r.windows(first.ID); n != 0 {
		t.Errorf("%d windows of the old life are left", n)
	}
	r.clock.pass(2 * time.Hour)
	r.tick()
	r.sweep(time.Minute)
	snap, err := r.store.Snapshot(r.ctx(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	if row, ok, err := snap.Counter([]byte("c")); ok || err != nil {
		t.Errorf("the row is left: %+v %v", row, err)
	}
	if b, err := snap.Base(first.ID); err != nil || b != (counter.Base{}) {
		t.Errorf("the base is left: %+v %v", b, err)
	}
	err = snap.EventsFrom(0, func(o wal.Offset, _ []byte) bool {
		t.Errorf("the events of %d are left", o)
		return true
	})
	if err != nil {
		t.Error(err)
	}
}

// row reads what the store has of a counter of partition 0.
func (r *room) row(name string) counter.Row {
	r.t.Helper()
	r.save()
	snap, err := r.store.Snapshot(r.ctx(), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	row, _, err := snap.Counter([]byte(name))
	if err = errors.Join(err, snap.Close()); err != nil {
		r.t.Fatal(err)
	}
	return row
}

// windows counts the windows of an id that are written.
func (r *room) windows(id uint64) (n int) {
	r.t.Helper()
	snap, err := r.store.Snapshot(r.ctx(), 0)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, size := range r.cfg.windows {
		err = errors.Join(err, snap.Windows(id, size, 0, 1<<62, func(int64, counter.Bucket) bool {
			n++
			return true
		}))
	}
	if err = errors.Join(err, snap.Close()); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// A counter with a time to live that is made behind the cursor of a sweep's round
// is found by the next.
func TestASweepDoesNotForgetWhatBecameMortalBehindIt(t *testing.T) {
	t.Parallel()
	for _, early := range []bool{false, true} { // before the round, and not in the store yet
		sweepBehind(t, early)
	}
}

func sweepBehind(t *testing.T, early bool) {
	r := newRoom(t, roomConfig{})
	mortal := func(name string, ttl time.Duration) {
		a := plus(name, 1)
		a.TTL = ttl.Microseconds()
		if res := r.addAll(wal.Token{}, a); res.Err != nil {
			t.Fatal(res.Err)
		}
		r.tick()
	}
	for i := range 20 {
		r.add(fmt.Sprintf("m%02d", i), 1)
	}
	mortal("z", time.Second) // so that rounds look for any
	r.save()
	r.clock.pass(time.Minute)
	r.tick()
	r.sweep(0)
	if early {
		mortal("a", time.Minute)
	}
	more := true
	step := func() {
		r.do(func(ctx context.Context) (err error) {
			more, err = r.applier.Sweep(ctx, 0, time.Hour, &counter.Fold{UpTo: math.MaxInt64}, 5)
			return err
		})
	}
	for i := 0; more; i++ {
		if step(); i == 2 {
			if !early {
				mortal("a", time.Minute)
			}
			r.save()
		}
	}
	r.save()
	for range 2 { // rounds in which only a is mortal
		for more = true; more; {
			step()
		}
		r.save()
	}
	r.clock.pass(time.Hour)
	if !r.due() {
		t.Error("nothing is due, and a has expired")
	}
	r.tick()
	r.sweep(0)
	if row := r.row("a"); row.ID != 0 {
		t.Errorf("a is gone, and its row is left: %+v", row)
	}
}

func (r *room) due() (due bool) {
	r.do(func(context.Context) error {
		due = r.applier.Due(0, r.clock.log.Load(), time.Hour)
		return nil
	})
	return due
}

func TestAFixedWindowIsNotMovedByLaterAdds(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{settings: counter.Settings{TokenWindow: time.Hour, TTL: 5 * time.Minute}})
	a := plus("limit", 1)
	a.TTL = time.Minute.Microseconds()
	for i := range 6 {
		if res := r.addAll(wal.Token{}, a); res.Err != nil {
			t.Fatal(res.Err)
		}
		r.want("limit", int64(i+1), 0)
		r.clock.pass(10 * time.Second)
	}
	r.want("limit", 0, 0) // a minute after the first
	r.addAll(wal.Token{}, a)
	r.want("limit", 1, 0)
}

func TestACallOverPartitionsIsCompletedByItsCopy(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{wal.ErrNotAppended, wal.ErrUnknown} {
		r := newRoom(t, roomConfig{partitions: 4})
		var adds []counter.Add
		touched := map[wal.Partition]bool{}
		for i := range 40 {
			a := plus(fmt.Sprintf("c%02d", i), int64(i+1))
			touched[r.stream.PartitionOf(a.Counter)] = true
			if i%3 == 0 {
				a = own(a, r.token())
			}
			adds = append(adds, a)
		}
		if len(touched) != 4 {
			t.Fatalf("%d partitions are touched", len(touched))
		}
		r.log.mu.Lock()
		failed := false
		r.log.refuse = func(e *wal.NewEntry) error {
			if e.Partition != 2 || failed {
				return nil
			}
			failed = true
			return fmt.Errorf("%w: %w", cause, errDown)
		}
		r.log.mu.Unlock()
		tok := r.token()
		if res := r.addAll(tok, adds...); !errors.Is(res.Err, cause) || !res.Unknown {
			t.Fatalf("the first copy: %+v", res)
		}
		res := r.addAll(tok, adds...)
		if res.Err != nil || res.Duplicate {
			t.Fatalf("the second copy: %+v", res)
		}
		if res := r.addAll(tok, adds...); res.Err != nil || !res.Duplicate {
			t.Errorf("the third copy: %+v", res)
		}
		after, err := r.stream.MergeAfter([]string{res.Position})
		if err != nil || len(after.Offsets) != 4 {
			t.Errorf("the position %s covers %v: %v", res.Position, after.Offsets, err)
		}
		for i := range 40 {
			r.want(fmt.Sprintf("c%02d", i), int64(i+1), 0)
		}
	}
}

func TestBestEffortAnswersWhenQueued(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{accuracy: counter.BestEffort})
	tok := r.token()
	for range 2 {
		if res := r.addAll(tok, plus("c", 5)); res.Err != nil || !res.Buffered || res.Position != "" || res.Duplicate {
			t.Errorf("%+v", res)
		}
	}
	if _, _, err := r.db.Get(r.ctx(), []string{"c"}, counter.Accurate, wal.Position{}); !errors.Is(err, counter.ErrNotAccurate) {
		t.Errorf("an accurate read: %v", err)
	}
	// What is waited for is decided and durable all the same, behind what was queued.
	res := r.call(wal.Token{}, addAndGet("c", 1))
	if res.Err != nil || res.Buffered || res.Count.Value != 6 {
		t.Errorf("add and get: %+v", res)
	}
	if c := r.get("c")[0]; c.Value != 6 || c.Accuracy != counter.BestEffort {
		t.Errorf("%+v", c)
	}
}

func TestAnAccurateReadThatComesTooLateSaysHowFarItGot(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	r.add("c", 1)
	r.want("c", 1, 0)
	release := make(chan struct{})
	blocked := make(chan struct{})
	go r.runner.Do(context.Background(), 0, func(context.Context) error { //nolint:errcheck // it returns nil
		close(blocked)
		<-release
		return nil
	})
	<-blocked
	res := r.addAll(wal.Token{}, plus("c", 1))
	if res.Err != nil {
		t.Fatal(res.Err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var behind *wal.BehindError
	if _, _, err := r.db.Get(ctx, []string{"c"}, counter.Accurate, wal.Position{}); !errors.As(err, &behind) || behind.Applied >= behind.Wanted {
		t.Errorf("accurate: %v", err)
	}
	after, err := r.stream.MergeAfter([]string{res.Position})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.db.Get(ctx, []string{"c"}, counter.Eventual, after); !errors.As(err, &behind) {
		t.Errorf("after the add: %v", err)
	}
	counts, asOf, err := r.db.Get(r.ctx(), []string{"c"}, counter.Eventual, wal.Position{})
	if err != nil || counts[0].Value != 1 || counts[0].Pending == 0 || asOf.Position == res.Position {
		t.Errorf("eventual: %+v %+v %v", counts, asOf, err)
	}
	close(release)
	r.want("c", 2, 0)
}

func TestReadsAndWritesGoOnWhileAFlushIsUnderWay(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{})
	tok := r.token()
	first := r.call(tok, addAndGet("c", 1))
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hold := func() error {
		once.Do(func() { close(entered) })
		<-release
		return nil
	}
	r.store.commit.Store(&hold)
	r.do(func(ctx context.Context) error { return r.applier.Flush(ctx, 0) })
	<-entered
	if c := r.get("c")[0]; c.Value != 1 || c.Pending != 0 {
		t.Errorf("%+v", c)
	}
	sameAnswer(t, "during the flush", first, r.call(tok, addAndGet("c", 1)))
	r.raw(0, r.record(tok, &counter.Call{Op: counter.OpAddAndGet, Add: plus("c", 1)}))
	if res := r.call(wal.Token{}, addAndGet("c", 5)); res.Err != nil || res.Count.Value != 6 {
		t.Errorf("%+v", res)
	}
	r.do(func(ctx context.Context) error { return r.applier.Flush(ctx, 0) }) // does not wait
	close(release)
	r.want("c", 6, 0)
	r.durable()
	r.crash(0)
	r.want("c", 6, 0)
}

// Two counters of a partition that every record moves alike read alike, whatever
// is flushed and evicted meanwhile, and their as_of says which record they are
// from.
func TestAViewIsOfOneMoment(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{hotBytes: 1, accuracy: counter.Eventual})
	rounds := 400
	if testing.Short() {
		rounds = 100
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := range rounds {
			if res := r.addAll(wal.Token{}, plus("a", 1), plus("b", 1)); res.Err != nil {
				t.Error(res.Err)
			}
			if i%5 == 0 {
				r.do(func(ctx context.Context) error { return r.applier.Flush(ctx, 0) })
			}
			if i%40 == 0 {
				r.call(wal.Token{}, reserve("b", 1, time.Millisecond))
				r.clock.pass(time.Second)
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			last := int64(0)
			for {
				select {
				case <-done:
					return
				default:
				}
				c, asOf, err := r.db.Get(context.Background(), []string{"a", "b", "none"}, 0, wal.Position{})
				if err != nil {
					t.Error(err)
					return
				}
				if c[0].Value != c[1].Value || c[2].Value != 0 || c[0].AsOf != asOf || c[0].AsOf != c[1].AsOf {
					t.Errorf("%+v as of %+v", c, asOf)
				}
				if c[0].Value < last {
					t.Errorf("%d after %d", c[0].Value, last)
				}
				last = c[0].Value
			}
		})
	}
	wg.Wait()
	r.tick()
	r.want("a", int64(rounds), 0)
}

// Readers sum up what is held by leases while the applier takes ended ones out.
func TestReadersDoNotRaceWithEndedLeases(t *testing.T) {
	t.Parallel()
	r := newRoom(t, roomConfig{accuracy: counter.Eventual})
	r.add("c", 1000)
	r.tick()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		rounds := 200
		if testing.Short() {
			rounds = 60
		}
		for range rounds {
			h := r.call(wal.Token{}, reserve("c", 1, time.Second))
			r.call(wal.Token{}, reserve("c", 1, time.Second))
			r.call(wal.Token{}, cancelOf("c", h.Reservation))
			r.clock.pass(200 * time.Millisecond)
			r.due()
		}
	})
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if c := r.get("c")[0]; c.Value != 1000 || c.Held < 0 || c.Held > 12 {
				t.Errorf("%+v", c)
			}
		}
	})
	wg.Wait()
	r.clock.pass(time.Minute)
	r.tick()
	r.want("c", 1000, 0)
}

func TestDaysFollowTheZone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		zone       string
		first, end string // days
		hours      []int64
	}{
		{"UTC", "2024-03-30", "2024-04-02", []int64{24, 24, 24}},
		{"Europe/Berlin", "2024-03-30", "2024-04-02", []int64{24, 23, 24}},
		{"Europe/Berlin", "2024-10-26", "2024-10-29", []int64{24, 25, 24}},
		{"Asia/Kolkata", "2024-03-30", "2024-04-02", []int64{24, 24, 24}},
		{"Africa/Cairo", "2024-04-25", "2024-04-28", []int64{24, 23, 24}},      // there is no midnight on the 26th
		{"Africa/Cairo", "2024-10-30", "2024-11-02", []int64{24, 25, 24}},      // there are two on the 1st, or the 31st is longer
		{"America/Havana", "2024-11-02", "2024-11-05", []int64{24, 25, 24}},    // two midnights on the 3rd
		{"America/Sao_Paulo", "2018-11-03", "2018-11-06", []int64{24, 23, 24}}, // no midnight on the 4th
	} {
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Skip("no time zones on this machine:", err)
		}
		r := newRoom(t, roomConfig{})
		day := func(s string) time.Time {
			d, err := time.ParseInLocation("2006-01-02 15:04", s+" 12:00", loc)
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		// One add in the middle of each hour from noon before to noon after; the date on
		// the wall says to which day it belongs.
		want := map[string]int64{}
		var adds []counter.Add
		for at := day(c.first).AddDate(0, 0, -1); at.Before(day(c.end)); at = at.Add(time.Hour) {
			a := plus("c", 1)
			a.EventTime = at.Add(30 * time.Minute).UnixMicro()
			adds = append(adds, a)
			want[at.Add(30*time.Minute).In(loc).Format(time.DateOnly)]++
		}
		if res := r.addAll(wal.Token{}, adds...); res.Err != nil {
			t.Fatal(res.Err)
		}
		r.tick()
		// From the noon before: the first point is the rest of that day.
		points := r.series("c", 24*time.Hour, day(c.first).AddDate(0, 0, -1).UnixMicro(), day(c.end).UnixMicro(), loc)
		d := day(c.first).AddDate(0, 0, -1)
		for i, p := range points {
			key := d.AddDate(0, 0, i).Format(time.DateOnly)
			if p.Sum != want[key] || p.Adds != want[key] {
				t.Errorf("%s: point %d, from %v, has %d; %s has %d", c.zone, i, time.UnixMicro(p.Start).In(loc), p.Sum, key, want[key])
			}
			if i >= 1 && i <= len(c.hours) && want[key] != c.hours[i-1] {
				t.Errorf("%s: %s has %d hours, want %d: the test is wrong", c.zone, key, want[key], c.hours[i-1])
			}
		}
		if len(points) != len(c.hours)+2 {
			t.Errorf("%s: %d points", c.zone, len(points))
		}
	}
}
