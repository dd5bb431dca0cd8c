package counter_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/consumers/decisions"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/wal"
)

// published is a server that rows are published to: of two writes of a row the one with the larger timestamp wins.
type published struct {
	rows         map[wal.Partition]map[string]stamped[*counter.Row]
	windows      map[wal.Partition]map[uint64]map[windowAt]counter.Bucket
	reservations map[wal.Partition]map[wal.TokenID]stamped[*counter.Reservation]
	// late are writes that are under way: they arrive later, or never.
	late []func()
	// window says how far below what is published a partition begins that is taken over.
	window func(upTo wal.Offset) wal.Offset
}

type stamped[T any] struct {
	at    wal.Offset
	value T
}

type windowAt struct {
	size  time.Duration
	start int64
	at    wal.Offset
}

func newPublished() *published {
	return &published{
		rows:         make(map[wal.Partition]map[string]stamped[*counter.Row]),
		windows:      make(map[wal.Partition]map[uint64]map[windowAt]counter.Bucket),
		reservations: make(map[wal.Partition]map[wal.TokenID]stamped[*counter.Reservation]),
	}
}

func put[K comparable, T any](all map[wal.Partition]map[K]stamped[T], p wal.Partition, k K, at wal.Offset, v T) {
	if all[p] == nil {
		all[p] = make(map[K]stamped[T])
	}
	if old, ok := all[p][k]; !ok || old.at <= at {
		all[p][k] = stamped[T]{at, v}
	}
}

// sharedStore is a store with its windows on the server.
type sharedStore struct {
	*pebblecounter.Shared
	server *published
}

func (s *sharedStore) Gone(wal.Partition) int64      { return 0 }
func (s *sharedStore) Place() (dataset, life string) { return "test", "life" }

func (s *sharedStore) Snapshot(ctx context.Context, p wal.Partition) (counter.Snapshot, error) {
	v, err := s.Shared.Snapshot(ctx, p)
	return &sharedSnapshot{v, s, p}, err
}

type sharedSnapshot struct {
	counter.Snapshot
	s *sharedStore
	p wal.Partition
}

func (v *sharedSnapshot) Windows(id uint64, size time.Duration, from, to int64, f func(start int64, b counter.Bucket) bool) error {
	if counter.LifeBegan(id) > v.s.WholeFrom(v.p) {
		return v.Snapshot.Windows(id, size, from, to, f)
	}
	parts := counter.WindowParts{UpTo: v.State().Applied}
	if err := v.s.WindowParts(context.Background(), v.p, id, size, from, to, parts.Take); err != nil {
		return err
	}
	for at, b := range v.s.server.windows[v.p][id] {
		if at.size == size && at.start >= from && at.start < to {
			parts.Take(&counter.WindowPart{ID: id, Size: size, Start: at.start, At: at.at, Bucket: b})
		}
	}
	parts.Each(f)
	return nil
}

// copied is what the server has of a partition.
type copied struct {
	s *published
	p wal.Partition
}

func (c copied) Counters(_ context.Context, f func(name []byte, r *counter.Row) error) error {
	for name, row := range c.s.rows[c.p] {
		r := *row.value
		r.Open = append([]counter.OpenBucket(nil), r.Open...)
		if err := f([]byte(name), &r); err != nil {
			return err
		}
	}
	return nil
}

func (c copied) Reservations(_ context.Context, f func(v *counter.Reservation) error) error {
	for _, v := range c.s.reservations[c.p] {
		if v.value.State == 0 {
			continue
		}
		if err := f(v.value); err != nil {
			return err
		}
	}
	return nil
}

// shareMarks opens the decisions topic.
func (r *room) shareMarks(ctx context.Context) (err error) {
	r.decisions, err = r.broker.Create(ctx, wal.TopicSpec{Name: "hw.test.decisions", Partitions: r.cfg.partitions})
	if err != nil {
		return err
	}
	r.book = decisions.Follow(r.decisions, slog.New(slog.DiscardHandler))
	r.epochs = make([]atomic.Int64, r.cfg.partitions)
	r.marks = decisions.NewMarks(r.decisions, r.book, r.shared, func(p wal.Partition) wal.Offset { return wal.Offset(r.epochs[p].Load()) })
	return nil
}

// take claims a partition and begins it as the marks say.
func (r *room) take(ctx context.Context, p wal.Partition) error {
	c, err := decisions.Append(ctx, r.decisions, p, decisions.Claim{Process: "test"})
	if err != nil {
		return err
	}
	s, err := r.book.Reach(ctx, p, c.Epoch)
	if err != nil {
		return err
	}
	r.epochs[p].Store(int64(c.Epoch))
	st, err := r.shared.State(ctx, p)
	if err != nil || !s.Marked {
		return err
	}
	start := s.Applied + 1
	if r.cfg.published.window != nil {
		start = min(start, r.cfg.published.window(start))
	}
	if s.Parked != wal.NoOffset {
		start = min(start, s.Parked)
	}
	if s.Foreign(&st) {
		return fmt.Errorf("the store is at %d, and %+v", st.Applied, s)
	}
	if st.Applied+1 < start {
		at := counter.Beginning{Start: start, Covered: s.Applied, WholeFrom: s.To}
		if err := r.shared.BeginAnew(ctx, p, at, copied{r.cfg.published, p}); err != nil {
			return err
		}
		st.Applied = start - 1
	}
	r.marks.Applied(p, max(r.shared.Published(p), s.Applied))
	return r.book.Keep(ctx, r.shared, p, st.Applied, s.Read)
}

// publish publishes a partition, or, with most not below 0, so many rows of it: the others arrive later.
func (r *room) publish(p wal.Partition, most int) {
	r.t.Helper()
	if part := r.applier.Part(p); part.SavedOffset() < part.RepeatsTo() {
		r.save()
	}
	ctx, server := r.ctx(), r.cfg.published
	u, err := r.shared.Unpublished(ctx, p)
	if err != nil {
		r.t.Fatal(err)
	}
	defer u.Close()
	to := u.State().Applied
	cut := false
	var marks []counter.Mark
	send := func(m counter.Mark, f func()) error {
		if most == 0 {
			cut = true
			server.late = append(server.late, f)
			return nil
		}
		most--
		f()
		marks = append(marks, counter.Mark{Key: append([]byte(nil), m.Key...), Value: append([]byte(nil), m.Value...)})
		return nil
	}
	err = errors.Join(
		u.Windows(ctx, func(w *counter.WindowPart, m counter.Mark) error {
			part := *w
			return send(m, func() {
				if server.windows[p] == nil {
					server.windows[p] = make(map[uint64]map[windowAt]counter.Bucket)
				}
				if server.windows[p][part.ID] == nil {
					server.windows[p][part.ID] = make(map[windowAt]counter.Bucket)
				}
				server.windows[p][part.ID][windowAt{part.Size, part.Start, part.At}] = part.Bucket
			})
		}),
		u.Counters(ctx, func(name []byte, row *counter.Row, m counter.Mark) error {
			kept, key := counter.Row{LastOffset: to}, string(name)
			if row != nil {
				kept = *row
			}
			return send(m, func() { put(server.rows, p, key, max(to, kept.LastOffset), &kept) })
		}),
		u.Reservations(ctx, func(v *counter.Reservation, m counter.Mark) error {
			kept := *v
			return send(m, func() { put(server.reservations, p, kept.ID, to, &kept) })
		}),
		u.Retired(ctx, func(id uint64, m counter.Mark) error {
			return send(m, func() { delete(server.windows[p], id) })
		}),
	)
	if err != nil {
		r.t.Fatal(err)
	}
	upTo := to
	if cut {
		upTo = wal.NoOffset
	}
	if err := r.shared.Publish(ctx, p, marks, upTo); err != nil {
		r.t.Fatal(err)
	}
	if !cut && to != wal.NoOffset {
		r.marks.Applied(p, to)
	}
}

// forgetGone has the rows of counters that are gone expire, where who takes the partition over knows that they cover theirs.
func (r *room) forgetGone(p wal.Partition) {
	for name, row := range r.cfg.published.rows[p] {
		if row.value.ID == 0 && row.value.LastOffset <= r.book.Standing(p).Applied {
			delete(r.cfg.published.rows[p], name)
		}
	}
}

// takeOver ends the process and has another one, without a store, go on.
func (r *room) takeOver() {
	r.t.Helper()
	r.stop()
	if err := errors.Join(r.store.Close(), r.broker.Close()); err != nil {
		r.t.Fatal(err)
	}
	r.storeFS = vfs.NewCrashableMem()
	r.open()
}

// TestProgramsOfSharedCounters is TestProgramsOfCounters with a store that other processes take over from what is
// published, in whole or in part, some of it late.
func TestProgramsOfSharedCounters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		server := newPublished()
		server.window = func(upTo wal.Offset) wal.Offset {
			return max(0, upTo-wal.Offset(rapid.IntRange(0, 30).Draw(rt, "window")))
		}
		r := newRoom(t, roomConfig{
			published:     server,
			partitions:    rapid.IntRange(1, 2).Draw(rt, "partitions"),
			settings:      counter.Settings{TokenWindow: 24 * time.Hour},
			hotBytes:      rapid.SampledFrom([]int64{1, 2000, 1 << 20}).Draw(rt, "hot"),
			flushCounters: rapid.SampledFrom([]int{1, 3, 1000}).Draw(rt, "flush"),
		})
		defer r.close()
		p := &program{room: r, rt: rt, model: map[string]*modelCounter{}, names: []string{"huge"}}
		for i := range 5 {
			p.names = append(p.names, fmt.Sprintf("c/%d", i))
		}
		retention := time.Duration(rapid.IntRange(0, 2).Draw(rt, "retention")) * time.Minute
		p.folds = retention > 0
		at := func() wal.Partition {
			return wal.Partition(rapid.IntRange(0, r.cfg.partitions-1).Draw(rt, "partition"))
		}
		// A token that only a record below the window had is known no more: nothing is sent again after that.
		rt.Repeat(map[string]func(*rapid.T){
			"add":         p.addCounts,
			"more":        p.addCounts,
			"add and get": p.addAndGet,
			"clear":       p.clear,
			"reserve":     p.reserve,
			"settle":      p.settle,
			"cancel":      p.cancel,
			"pass":        func(*rapid.T) { p.pass(time.Duration(rapid.IntRange(1, 40).Draw(rt, "seconds")) * time.Second) },
			"tick":        func(*rapid.T) { p.tick() },
			"flush":       func(*rapid.T) { p.save() },
			"sync":        func(*rapid.T) { p.durable() },
			"sweep":       func(*rapid.T) { p.sweep(retention) },
			"crash":       func(*rapid.T) { p.crash(rapid.SampledFrom([]int{0, 50, 100}).Draw(rt, "kept")) },
			"publish":     func(*rapid.T) { r.publish(at(), -1) },
			"publish in part": func(*rapid.T) {
				r.publish(at(), rapid.IntRange(0, 6).Draw(rt, "rows"))
			},
			"arrive": func(*rapid.T) {
				for _, f := range server.late {
					f()
				}
				server.late = nil
			},
			"take over":           func(*rapid.T) { r.takeOver() },
			"forget what is gone": func(*rapid.T) { r.forgetGone(at()) },
			"check":               p.check,
			"series":              func(*rapid.T) { p.checkSeries(p.name()) },
		})
		p.check(rt)
		for _, name := range p.names {
			p.checkSeries(name)
		}
	})
}

// TestACounterThatIsGoneIsNotBegunAgain: who takes a partition over repeats an add to a counter that has ended since and is
// gone from the store: by the row that says so, or, once it is told that all is published and that row has gone as well,
// without it.
func TestACounterThatIsGoneIsNotBegunAgain(t *testing.T) {
	t.Parallel()
	for name, told := range map[string]bool{"the row says so": false, "the row has gone": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newPublished()
			r := newRoom(t, roomConfig{published: server, settings: counter.Settings{TokenWindow: 24 * time.Hour}})
			mortal := plus("mortal", 5)
			mortal.TTL = time.Minute.Microseconds()
			if res := r.addAll(wal.Token{}, mortal); res.Err != nil {
				t.Fatal(res.Err)
			}
			r.save()
			r.publish(0, -1)
			r.tick() // which tells that it is
			b, err := r.log.Bounds(r.ctx(), 0)
			if err != nil {
				t.Fatal(err)
			}
			server.window = func(wal.Offset) wal.Offset { return b.End }
			r.add("mortal", 2) // of no time to live: begun by this one it would never end
			r.add("other", 1)
			r.clock.pass(2 * time.Minute)
			r.tick()
			r.sweep(0)
			r.publish(0, -1)
			if told {
				r.tick()
				r.forgetGone(0)
				if _, ok := server.rows[0]["mortal"]; ok {
					t.Fatal("the row is there")
				}
			} else if row := server.rows[0]["mortal"]; row.value == nil || row.value.ID != 0 {
				t.Fatalf("the row of a counter that is gone is %+v", row.value)
			}
			r.takeOver()
			r.want("mortal", 0, 0)
			r.want("other", 1, 0)
			list, _, _, err := r.db.List(r.ctx(), &counter.ListQuery{Limit: 10})
			if err != nil || len(list) != 1 {
				t.Errorf("the list is %v, %v", list, err)
			}
			r.add("mortal", 3)
			r.want("mortal", 3, 0)
			r.sweep(0)
			r.want("mortal", 3, 0)
		})
	}
}
