package proof

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// tortureEvents happen to a cluster of three real brokers, a real Cassandra, two gateways and three workers, beside
// clusterEvents.
var tortureEvents = append([]event{
	{"a worker more for a while", func(c *cluster, _ *rand.Rand) {
		c.dirs, c.workers = append(c.dirs, c.t.TempDir()), append(c.workers, nil)
		last := len(c.workers) - 1
		c.startWorker(last)
		<-time.After(c.session / 2)
		c.stop(c.workers[last])
		c.dirs, c.workers = c.dirs[:last], c.workers[:last]
	}},
	{"a gateway whose clock is wrong", func(c *cluster, _ *rand.Rand) {
		p := c.launchGateway("127.0.0.1:0", "--test-clock-ahead", "30s")
		select {
		case <-p.ready:
			c.t.Error("a gateway is ready whose clock is 30 s ahead")
		case <-p.gone:
			c.t.Errorf("a gateway whose clock is 30 s ahead has ended: %v\n%s", p.err, p.said())
		case <-time.After(c.session / 2):
		}
		c.stop(p)
	}},
	{"kill a broker", func(c *cluster, r *rand.Rand) {
		n := fmt.Sprint(r.IntN(3))
		c.engine("HEADWATER_TEST_KAFKA3_KILL", n)
		<-time.After(c.session)
		c.engine("HEADWATER_TEST_KAFKA3_RESTART", n)
	}},
	{"stop Cassandra", func(c *cluster, _ *rand.Rand) {
		c.engine("HEADWATER_TEST_CASSANDRA_STOP", "")
		<-time.After(c.session)
		c.engine("HEADWATER_TEST_CASSANDRA_RESTART", "")
	}},
	onLink("cut a worker off the brokers", func(c *cluster) *link { return c.kafka }, cut),
	onLink("let the way to the brokers hang", func(c *cluster) *link { return c.kafka }, hangs),
	onLink("make the way to the brokers slow", func(c *cluster) *link { return c.kafka }, slow),
	onLink("cut a worker off Cassandra", func(c *cluster) *link { return c.cassandra }, cut),
	onLink("let the way to Cassandra hang", func(c *cluster) *link { return c.cassandra }, hangs),
	onLink("make the way to Cassandra slow", func(c *cluster) *link { return c.cassandra }, slow),
}, clusterEvents...)

// onLink does something to a link of worker 0 for longer than its session is.
func onLink(name string, of func(*cluster) *link, n network) event {
	return event{name, func(c *cluster, r *rand.Rand) {
		of(c).set(n)
		<-time.After(c.session + time.Duration(r.IntN(4000))*time.Millisecond)
		of(c).set(flows)
		<-time.After(time.Second)
	}}
}

// engine runs a command of deploy/engines that an environment variable holds.
func (c *cluster) engine(variable, argument string) {
	c.t.Helper()
	if out, err := exec.Command("sh", "-c", os.Getenv(variable)+" "+argument).CombinedOutput(); err != nil {
		c.t.Errorf("%s %s: %v\n%s", variable, argument, err, out)
	}
}

// planned is an event of a schedule.
type planned struct {
	event
	after time.Duration // the end of the one before
	seed  uint64
}

// schedule makes up what happens: each event once, in any order, and so again. The seed says all of it.
func schedule(r *rand.Rand, rounds int) (plan []planned) {
	for range rounds {
		for _, i := range r.Perm(len(tortureEvents)) {
			plan = append(plan, planned{tortureEvents[i], time.Duration(r.IntN(3000)) * time.Millisecond, r.Uint64()})
		}
	}
	return plan
}

const (
	orderedKV     = "ordered-kv"
	orderedCounts = "ordered-counts"
)

// TestEngineTorture does everything at once that may happen to a cluster, while callers write with tokens through two
// gateways, some of them through both at the same time, and read. Afterwards every effect that was acknowledged is there
// once, in the cache and in Cassandra, and what was read has an order.
func TestEngineTorture(t *testing.T) {
	if len(raceFlags) > 0 {
		t.Skip("with the race detector two cores do little else; make test-engines runs it without")
	}
	at := enginetest.Need(t, "HEADWATER_TEST_KAFKA3", "kafka3")
	enginetest.Need(t, "HEADWATER_TEST_CASSANDRA", "cassandra")
	seed, r := seedOf(t)
	rounds := 1
	if long() {
		rounds = 5
	}
	plan := schedule(r, rounds)
	cl := newCluster(t, clusterShape{
		brokers: at, replicas: 3, gateways: 2, workers: 3, session: 6 * time.Second, clocks: true, proxied: enginetest.Need(t, "HEADWATER_TEST_KAFKA3_PROXIED", "kafka3"),
		docs: []string{
			"namespace: " + orderedKV + "\nabstraction: kv\nlog: {partitions: 2}\nstorage: [{role: PRIMARY, type: " + cassandraType + "}, {role: CACHE, type: pebble}]\n",
			"namespace: " + orderedCounts + "\nabstraction: counter\nlog: {partitions: 2}\nstorage: [{role: PRIMARY, type: " + cassandraType + "}]\n",
		},
	})
	cs := cl.connect()
	began := time.Now()
	all := &everything{
		book: &book{outages: true}, ledger: &ledger{outages: true},
		items: newRegisters(&service{t: t, ns: orderedKV, addr: cl.grpc[0], stays: true}),
	}
	all.counts = newCounterOps(t, func(int64) {}, orderedCounts)
	stop := make(chan struct{})
	asked := all.run(cl, cs, seed, stop)
	for _, e := range plan {
		<-time.After(e.after)
		from := all.size()
		begin := time.Now()
		e.do(cl, rand.New(rand.NewPCG(e.seed, 0)))
		t.Logf("%6.1f s: %s (%.1f s): %d calls", time.Since(began).Seconds(), e.name, time.Since(begin).Seconds(), all.size()-from)
	}
	close(stop)
	<-asked
	spaces := []string{exactSpace, boundSpace}
	cl.settled(func() error {
		for _, ns := range []string{spreadKV, orderedKV} {
			if err := applied(cs[0], ns); err != nil {
				return err
			}
		}
		return countersApplied(cs[1], append([]string{orderedCounts}, spaces...))
	})
	if err := all.verify(cs, r, spaces, began); err != nil {
		t.Fatalf("%v\n%s", err, cl.said())
	}
	all.items.check()
	all.counts.check()
	cl.withoutCache(cs[0], spreadKV)
	if err := all.book.verify(cs[1], spreadKV, spreadLog); err != nil {
		t.Fatalf("without the cache: %v\n%s", err, cl.said())
	}
	cl.checkMemory()
	b, l := all.book, all.ledger
	t.Logf("writes: %d; answers: %d unknown, %d acknowledged (%d perhaps as copies), %d refused, %d not applied", len(b.writes), b.counts[unknown], b.counts[acked], b.maybe, b.counts[refused], b.counts[notApplied])
	t.Logf("calls of counters: %d; answers: %d unknown, %d acknowledged (%d perhaps as copies), %d refused, %d not applied", len(l.calls), l.counts[unknown], l.counts[acked], l.maybe, l.counts[refused], l.counts[notApplied])
}

// everything is what callers ask of a cluster at the same time.
type everything struct {
	book   *book
	ledger *ledger
	items  *registers
	counts *counterOps
	ops    atomic.Int64 // on items and counts
}

// size is how many calls were begun.
func (e *everything) size() int {
	_, writes := e.book.size()
	_, calls := e.ledger.size()
	return writes + calls + int(e.ops.Load())
}

// run keeps callers busy until stop is closed, some 400 calls a second. The channel is closed when they have ended.
func (e *everything) run(cl *cluster, cs []*conn, seed uint64, stop <-chan struct{}) <-chan struct{} {
	const pause = 20 * time.Millisecond
	var wg sync.WaitGroup
	wg.Go(func() {
		l := &load{book: e.book, ids: 12, keys: 16, kvName: spreadKV, logName: spreadLog, other: cs[1], pause: pause}
		l.run(cs[0], seed, 4, stop)
	})
	wg.Go(func() {
		l := &tallies{ledger: e.ledger, counters: 12, spaces: []string{exactSpace, boundSpace}, other: cs[1], pause: pause}
		l.run(cs[0], seed, 4, stop)
	})
	for i := range 4 {
		gateway := &service{t: cl.t, ns: orderedKV, addr: cl.grpc[i%len(cl.grpc)], stays: true}
		r := rand.New(rand.NewPCG(seed, uint64(1000+i)))
		step := (&hand{g: e.counts, k: &caller{sv: gateway}, r: r, client: i}).step
		if i < 2 {
			known, k := make([]string, len(e.items.keys)), &caller{sv: gateway}
			step = func() { e.items.step(k, r, i, known) }
		}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(8 * pause):
					step()
					e.ops.Add(1)
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wg.Wait()
	}()
	return ended
}

// verify sends again what has no outcome, and some of what has, and reads all back through either gateway.
func (e *everything) verify(cs []*conn, r *rand.Rand, spaces []string, began time.Time) error {
	if err := e.book.err(); err != nil {
		return err
	}
	if err := e.ledger.err(); err != nil {
		return err
	}
	if err := e.book.settle(cs[1]); err != nil {
		return err
	}
	if err := e.ledger.settle(cs[1]); err != nil {
		return err
	}
	if err := e.book.again(cs[0], e.book.sample(r, 100)); err != nil {
		return err
	}
	if err := e.ledger.again(cs[0], e.ledger.sample(r, 100)); err != nil {
		return err
	}
	for _, c := range cs {
		if err := e.book.verify(c, spreadKV, spreadLog); err != nil {
			return err
		}
		if err := e.ledger.verifyAll(c, spaces, began); err != nil {
			return err
		}
	}
	return nil
}

// withoutCache takes the cache of a namespace away, so that its PRIMARY answers.
func (c *cluster) withoutCache(to *conn, ns string) {
	c.t.Helper()
	ctx, cancel := callContext()
	defer cancel()
	names := headwaterv1.NewNamespaceServiceClient(to.cc)
	doc := "namespace: " + ns + "\nabstraction: kv\nlog: {partitions: 4}\nstorage: [{role: PRIMARY, type: " + cassandraType + "}]\n"
	if _, err := names.ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: doc}); err != nil {
		c.t.Fatal(err)
	}
	c.settled(func() error { return applied(to, ns) })
}

// mostMemory is what a process may have had in use: with the race detector several times of what it is without.
const mostMemory = 1 << 30

// checkMemory looks at what each process has had in use at the most, where the system tells.
func (c *cluster) checkMemory() {
	c.t.Helper()
	for _, p := range append(append([]*process(nil), c.gateways...), c.workers...) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			c.t.Logf("memory: %v", err)
			continue
		}
		_, rest, _ := strings.Cut(string(status), "VmHWM:")
		var kib int64
		if _, err := fmt.Sscan(rest, &kib); err != nil {
			c.t.Errorf("memory of process %d: %v", p.cmd.Process.Pid, err)
		}
		if kib<<10 > mostMemory {
			c.t.Errorf("%v took %d MiB", p.cmd.Args[:2], kib>>10)
		}
	}
}
