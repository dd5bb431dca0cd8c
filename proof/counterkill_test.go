package proof

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

const (
	exactSpace = "exact-counter" // accurate
	looseSpace = "loose-counter" // best_effort
	demoSpace  = "demo-counter"  // eventual
	boundSpace = "bound-counter" // accurate, with bounds that stand for every add

	exactDoc = "namespace: " + exactSpace + "\nabstraction: counter\nlog: {partitions: 4}\ncounter: {accuracy: accurate, event_retention: 1s}\n"
	boundDoc = "namespace: " + boundSpace + "\nabstraction: counter\nlog: {partitions: 2}\ncounter: {accuracy: accurate, floor: -60, ceiling: 500, on_violation: saturate}\n"
)

// standing are the bounds of namespaces that have some.
var standing = map[string]*headwaterv1.Bounds{
	boundSpace: {Floor: proto.Int64(-60), Ceiling: proto.Int64(500), OnViolation: headwaterv1.Bounds_SATURATE},
}

// partitionsOf is how many partitions a namespace has.
func partitionsOf(c *conn, ns string) (int, error) {
	ctx, cancel := callContext()
	defer cancel()
	r, err := headwaterv1.NewAdminServiceClient(c.cc).Status(ctx, &headwaterv1.StatusRequest{Namespace: ns})
	if err != nil {
		return 0, fmt.Errorf("status: %w", err)
	}
	if len(r.Namespaces) != 1 {
		return 0, fmt.Errorf("the status of %s is of %d namespaces", ns, len(r.Namespaces))
	}
	return len(r.Namespaces[0].Partitions), nil
}

// counterSpaces makes the namespaces that the demo does not bring. The events of
// the accurate one are folded into bases as soon as they may be. events, if not empty, is the type of
// a store of role EVENTS of two of them, as a document has it.
func counterSpaces(t *testing.T, c *conn, events string) {
	t.Helper()
	storage := ""
	if events != "" {
		storage = "storage:\n  - {role: PRIMARY, type: pebble}\n" + eventsLine(events)
	}
	for _, doc := range []string{
		exactDoc + storage, boundDoc + storage,
		"namespace: " + looseSpace + "\nabstraction: counter\nlog: {partitions: 4}\ncounter: {accuracy: best_effort}\n",
	} {
		ctx, cancel := callContext()
		_, err := headwaterv1.NewNamespaceServiceClient(c.cc).ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: doc})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCountersOverKills kills the real binary by SIGKILL at random moments under
// calls of every kind, in namespaces of all three accuracies, and now and then
// stops it in order, restarts it on the same directory, and checks everything that
// anyone was told.
func TestCountersOverKills(t *testing.T) {
	rounds := 12 // ten of them by kill -9 at a random moment or at rest
	if long() {
		rounds = 200
	}
	counterKills(t, rounds, nil)
}

// TestCounterEventsOverKills is TestCountersOverKills with recounts from stores of role EVENTS.
func TestCounterEventsOverKills(t *testing.T) {
	rounds := 6
	switch {
	case long():
		rounds = 100
	case testing.Short():
		rounds = 3
	}
	counterKills(t, rounds, &operator{events: "pebble"})
}

// TestEngineCounterEventsOverKills is TestCounterEventsOverKills with the events on a real ClickHouse.
func TestEngineCounterEventsOverKills(t *testing.T) {
	config := clickhouseConfig(t)
	rounds := 5
	if long() {
		rounds = 50
	}
	counterKills(t, rounds, &operator{events: clickhouseType}, "--config", config)
}

// TestEngineCountersOverKills is TestCountersOverKills with the log on a real
// Kafka broker.
func TestEngineCountersOverKills(t *testing.T) {
	at := kafka(t)
	rounds := 5
	if long() {
		rounds = 50
	}
	counterKills(t, rounds, nil, "--kafka-brokers", at)
}

// counterKills: op, if not nil, changes the stores of its namespaces beside the calls.
func counterKills(t *testing.T, rounds int, op *operator, args ...string) {
	seed, r := seedOf(t)
	began := time.Now()
	b := &ledger{}
	dir := t.TempDir()
	p := start(t, dir, args...)
	c := connect(t, p.grpc)
	counterSpaces(t, c, op.eventsType())
	c.close()
	op.begin(t, p)
	var open, again, lost, queued int
	for round := range rounds {
		c := connect(t, p.grpc)
		l := &tallies{ledger: b, round: round, counters: 12, spaces: []string{demoSpace, exactSpace, boundSpace}}
		loose := newLooseLoad(seed, round, 3)
		stop := make(chan struct{})
		victim := p
		how := "kill"
		switch round % 5 {
		case 3:
			how = "stop"
		case 4:
			how = "rest"
		}
		longest := 300 // what was said in a round is checked in all that follow
		if testing.Short() {
			longest = 100
		}
		time.AfterFunc(time.Duration(20+r.IntN(longest))*time.Millisecond, func() {
			if how == "kill" {
				victim.signal(t, syscall.SIGKILL)
			}
			close(stop)
		})
		done, operated := loose.run(c, stop), op.run(c, seed, round, stop)
		l.run(c, seed, 6, stop)
		<-done
		<-operated
		switch how { // what is queued is not lost by an orderly stop, nor by a kill that comes late
		case "stop":
			loose.allFlushed()
			p.signal(t, syscall.SIGTERM)
		case "rest":
			<-time.After(2 * loose.window())
			loose.allFlushed()
			p.signal(t, syscall.SIGKILL)
		}
		<-p.gone
		c.close()
		if err := b.err(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}

		op.plant(t, dir)
		p = start(t, dir, args...)
		c = connect(t, p.grpc)
		n, err := loose.check(c, began)
		if err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		lost += n
		queued += loose.queued()
		open += len(b.open())
		if err := b.settle(c); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		sample := b.sample(r, 60)
		again += len(sample)
		if err := b.again(c, sample); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		if err := b.verifyAll(c, l.spaces, began); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		if err := op.check(c); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		c.close()
	}
	t.Logf("%d kills, %d calls, %d of unknown outcome, %d sent again after a restart; answers: %d unknown, %d acknowledged, %d refused %v; %d dead letters in %s; of %d adds that were queued %d counters lost some",
		rounds, len(b.calls), open, again, b.counts[unknown], b.counts[acked], b.counts[refused], b.refusal, b.letters, boundSpace, queued, lost)
	mustHave(t, b.counts[acked] >= rounds && b.counts[refused] > 0 && b.letters > 0 && open > 0 && queued > 0,
		"refused call, dead letter, unknown outcome or queued add")
}

// foreignCounter is the name of a counter that no ledger keeps.
func foreignCounter(format string, args ...any) string {
	return foreignPrefix + fmt.Sprintf(format, args...)
}

// newRand is one of many sources of a seed.
func newRand(seed uint64, i, j int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(i)<<16|uint64(j)))
}
