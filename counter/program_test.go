package counter_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/countertest"
	"github.com/headwater-db/headwater/wal"
)

// program is a random life of a namespace, and a plain model of what its counters
// are.
type program struct {
	*room
	rt    *rapid.T
	names []string
	model map[string]*modelCounter
	held  []modelLease
	sent  []sent // calls to be sent again
	folds bool   // old events are folded
}

type modelCounter struct {
	value, held int64
	ends        int64 // of a time to live, 0: none
	lives       bool
	adds        map[int64]int64 // deltas of this life by event time
	n           map[int64]int64 // how many
}

type modelLease struct {
	id      wal.TokenID
	counter string
	amount  int64
	ends    int64
	state   counter.ReservationState
}

type sent struct {
	tok  wal.Token
	adds []counter.Add // of AddCounts
	call counter.Call
	res  counter.Result
}

func (p *program) now() int64 { return p.clock.log.Load() }

// of returns a counter as of now.
func (p *program) of(name string) *modelCounter {
	c := p.model[name]
	if c == nil {
		c = &modelCounter{}
		p.model[name] = c
	}
	if c.ends != 0 && c.ends <= p.now() {
		*c = modelCounter{held: c.held}
	}
	return c
}

// pass lets time go by, and leases end.
func (p *program) pass(d time.Duration) {
	p.clock.pass(d)
	for i := range p.held {
		if l := &p.held[i]; l.state == counter.Held && l.ends <= p.now() {
			l.state = counter.Expired
			p.of(l.counter).held -= l.amount
		}
	}
}

func (p *program) live(c *modelCounter, ttl int64) {
	if !c.lives {
		*c = modelCounter{held: c.held, lives: true, adds: map[int64]int64{}, n: map[int64]int64{}}
		if ttl > 0 {
			c.ends = p.now() + ttl
		}
	}
}

func (p *program) counted(a *counter.Add) bool {
	c := p.of(string(a.Counter))
	sum := c.value + a.Delta
	if (a.Delta > 0 && sum < c.value) || (a.Delta < 0 && sum > c.value) {
		return false
	}
	p.live(c, a.TTL)
	c.value = sum
	t := a.EventTime
	if t == 0 {
		t = p.clock.wall.Load()
	}
	c.adds[t] += a.Delta
	c.n[t]++
	return true
}

func (p *program) name() string { return rapid.SampledFrom(p.names).Draw(p.rt, "name") }

func (p *program) newAdd() counter.Add {
	a := plus(p.name(), rapid.Int64Range(-5, 20).Draw(p.rt, "delta"))
	switch rapid.IntRange(0, 9).Draw(p.rt, "kind") {
	case 0:
		a.Delta = rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64}).Draw(p.rt, "huge")
		a.Counter = []byte("huge")
	case 1:
		a.TTL = rapid.Int64Range(1, 90e6).Draw(p.rt, "ttl")
	case 2, 3:
		a.EventTime = p.now() - rapid.Int64Range(0, 40*24*3600e6).Draw(p.rt, "age")
	case 4:
		a = own(a, p.token())
	}
	return a
}

func (p *program) addCounts(*rapid.T) {
	s := sent{tok: p.token()}
	for range rapid.IntRange(1, 6).Draw(p.rt, "adds") {
		s.adds = append(s.adds, p.newAdd())
	}
	for i := range s.adds {
		p.counted(&s.adds[i])
	}
	if s.res = p.addAll(s.tok, s.adds...); s.res.Err != nil || s.res.Duplicate {
		p.rt.Fatalf("add: %+v", s.res)
	}
	p.sent = append(p.sent, s)
}

func (p *program) write(c counter.Call) counter.Result {
	s := sent{tok: p.token(), call: c}
	s.res = p.room.call(s.tok, c)
	if s.res.Duplicate || s.res.Unknown {
		p.rt.Fatalf("%+v: %+v", c, s.res)
	}
	p.sent = append(p.sent, s)
	return s.res
}

func (p *program) addAndGet(*rapid.T) {
	c := counter.Call{Op: counter.OpAddAndGet, Add: p.newAdd()}
	c.Add.Token = wal.Token{}
	ok := p.counted(&c.Add)
	m := p.of(string(c.Add.Counter))
	if res := p.write(c); (res.Err == nil) != ok || res.Count.Value != m.value || res.Count.Held != m.held {
		p.rt.Fatalf("add and get: %+v, want %+v", res, m)
	}
}

func (p *program) clear(*rapid.T) {
	name := p.name()
	m := p.of(name)
	m.value = 0
	if res := p.write(on(counter.OpClear, name)); res.Err != nil {
		p.rt.Fatalf("clear: %+v", res)
	}
}

func (p *program) reserve(*rapid.T) {
	name, amount := p.name(), rapid.Int64Range(1, 15).Draw(p.rt, "amount")
	lease := time.Duration(rapid.IntRange(1, 60).Draw(p.rt, "lease")) * time.Second
	m := p.of(name)
	ok := m.value >= m.held+amount
	res := p.write(reserve(name, amount, lease))
	if (res.Err == nil) != ok {
		p.rt.Fatalf("reserve %d of %+v: %+v", amount, m, res)
	}
	if ok {
		p.live(m, 0)
		m.held += amount
		p.held = append(p.held, modelLease{res.Reservation, name, amount, p.now() + lease.Microseconds(), counter.Held})
	}
}

func (p *program) settle(*rapid.T) {
	if len(p.held) == 0 {
		return
	}
	l := &p.held[rapid.IntRange(0, len(p.held)-1).Draw(p.rt, "lease")]
	amount := rapid.Int64Range(0, l.amount).Draw(p.rt, "amount")
	m := p.of(l.counter)
	ok := l.state == counter.Held && m.value >= math.MinInt64+amount
	res := p.write(settle(l.counter, l.id, amount))
	if (res.Err == nil) != ok {
		p.rt.Fatalf("settle %d of %+v: %+v", amount, l, res)
	}
	if ok {
		p.live(m, 0)
		m.value -= amount
		m.held -= l.amount
		l.state = counter.Settled
		m.adds[p.clock.wall.Load()] -= amount
		m.n[p.clock.wall.Load()]++
	}
}

func (p *program) cancel(*rapid.T) {
	if len(p.held) == 0 {
		return
	}
	l := &p.held[rapid.IntRange(0, len(p.held)-1).Draw(p.rt, "lease")]
	if l.state == counter.Held {
		p.of(l.counter).held -= l.amount
		l.state = counter.Cancelled
	}
	if res := p.write(cancelOf(l.counter, l.id)); (res.Err == nil) != (l.state != counter.Settled) {
		p.rt.Fatalf("cancel of %+v: %+v", l, res)
	}
}

// resend sends a call again: nothing changes, and it is told the same.
func (p *program) resend(*rapid.T) {
	if len(p.sent) == 0 {
		return
	}
	s := p.sent[rapid.IntRange(0, len(p.sent)-1).Draw(p.rt, "sent")]
	if s.adds != nil {
		if res := p.addAll(s.tok, s.adds...); res.Err != nil || !res.Duplicate {
			p.rt.Fatalf("add again: %+v", res)
		}
		return
	}
	sameAnswer(p.rt, "again", s.res, p.room.call(s.tok, s.call))
	p.raw(p.stream.PartitionOf(s.call.Add.Counter), p.record(s.tok, &s.call))
}

// check compares what readers see with the model.
func (p *program) check(*rapid.T) {
	counts := p.get(p.names...)
	again, _, err := p.db.Get(p.ctx(), p.names, counter.Eventual, wal.Position{})
	if err != nil {
		p.rt.Fatal(err)
	}
	for i, name := range p.names {
		m := p.of(name)
		if c := counts[i]; c.Value != m.value || c.Held != m.held || c.Accuracy != counter.Accurate || again[i].Value != m.value || again[i].Held != m.held {
			p.rt.Fatalf("%s: %+v, %+v, want %+v", name, c, again[i], m)
		}
		v, err := p.db.Verify(p.ctx(), []byte(name), 0, wal.Position{})
		if err != nil || v.Drift != 0 || v.Recounted != m.value {
			p.rt.Fatalf("verify %s: %+v %v, want %+v", name, v, err, m)
		}
	}
	list, _, more, err := p.db.List(p.ctx(), &counter.ListQuery{Limit: 100})
	if err != nil || more {
		p.rt.Fatalf("list: %v %v", more, err)
	}
	found := map[string]counter.Count{}
	for i, l := range list {
		if found[string(l.Name)] = l.Count; i > 0 && string(list[i-1].Name) >= string(l.Name) {
			p.rt.Fatalf("list out of order: %q, %q", list[i-1].Name, l.Name)
		}
	}
	for _, name := range p.names {
		m := p.of(name)
		if c, ok := found[name]; ok != m.lives || (ok && (c.Value != m.value || c.Held != m.held)) {
			p.rt.Fatalf("list has %s %v: %+v, want %+v", name, ok, c, m)
		}
	}
	p.checkSeries(p.name())
}

func (p *program) checkSeries(name string) {
	loc, err := time.LoadLocation(rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "Asia/Kolkata"}).Draw(p.rt, "zone"))
	if err != nil {
		p.rt.Skip("no time zones on this machine:", err)
	}
	m := p.of(name)
	spans, smallest := []time.Duration{time.Minute, time.Hour, 24 * time.Hour}, time.Minute
	if p.cfg.events != nil { // then events make up other spans
		spans = append(spans, 7*time.Second, 90*time.Second)
	}
	g := rapid.SampledFrom(spans).Draw(p.rt, "granularity")
	if g%smallest != 0 {
		smallest = counter.FinestPoint
	}
	cut := smallest.Microseconds()
	to := p.now() + time.Minute.Microseconds()
	from := to - min(rapid.Int64Range(0, 45*24*3600e6).Draw(p.rt, "span"), 5000*g.Microseconds())
	points, _, err := p.db.Series(p.ctx(), &counter.SeriesQuery{Counter: []byte(name), From: from, To: to, Granularity: g, Location: loc})
	if p.folds && g%time.Minute != 0 && errors.Is(err, counter.ErrEventsFolded) {
		return
	}
	if err != nil {
		p.rt.Fatal(err)
	}
	want := map[int64][2]int64{}
	for t, d := range m.adds {
		for i := len(points) - 1; i >= 0; i-- {
			if t >= points[i].Start {
				if end := (to + cut - 1) / cut * cut; t < end {
					w := want[points[i].Start]
					want[points[i].Start] = [2]int64{w[0] + d, w[1] + m.n[t]}
				}
				break
			}
		}
	}
	for i, pt := range points {
		if w := want[pt.Start]; (name != "huge" && pt.Sum != w[0]) || pt.Adds != w[1] {
			p.rt.Fatalf("%s by %v, point %d from %v: %+v, want %v", name, g, i, time.UnixMicro(pt.Start).In(loc), pt, w)
		}
		local := time.UnixMicro(pt.Start).In(loc)
		if g == 24*time.Hour && i > 0 && (local.Hour() != 0 || local.Minute() != 0) {
			p.rt.Fatalf("a day begins at %v", local)
		}
	}
}

// TestProgramsOfCounters runs random programs with crashes, copies and sweeps over
// the embedded log and store.
func TestProgramsOfCounters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var events *countertest.Events
		if rapid.Bool().Draw(rt, "events are elsewhere") {
			events = countertest.NewEvents()
		}
		r := newRoom(t, roomConfig{
			events:        events,
			partitions:    rapid.IntRange(1, 3).Draw(rt, "partitions"),
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
		rt.Repeat(map[string]func(*rapid.T){
			"add":         p.addCounts,
			"more":        p.addCounts,
			"add and get": p.addAndGet,
			"clear":       p.clear,
			"reserve":     p.reserve,
			"settle":      p.settle,
			"cancel":      p.cancel,
			"resend":      p.resend,
			"pass":        func(*rapid.T) { p.pass(time.Duration(rapid.IntRange(1, 40).Draw(rt, "seconds")) * time.Second) },
			"tick":        func(*rapid.T) { p.tick() },
			"flush":       func(*rapid.T) { p.save() },
			"sync":        func(*rapid.T) { p.durable() },
			"sweep":       func(*rapid.T) { p.sweep(retention) },
			"crash":       func(*rapid.T) { p.crash(rapid.SampledFrom([]int{0, 50, 100}).Draw(rt, "kept")) },
			"check":       p.check,
		})
		p.check(rt)
	})
}
