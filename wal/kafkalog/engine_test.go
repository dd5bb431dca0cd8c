package kafkalog

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/deploy/engines/enginetest"
	"github.com/headwater-db/headwater/wal"
)

// The real brokers that tests run against, comma separated. deploy/engines
// starts them and writes the variables.
const (
	oneBroker    = "HEADWATER_TEST_KAFKA"
	threeBrokers = "HEADWATER_TEST_KAFKA3"
)

// engine returns the addresses of a real cluster, or skips; a skip is a failure
// where HEADWATER_REQUIRE_ENGINES names the engine.
func engine(t testing.TB, variable, name string) []string {
	t.Helper()
	return strings.Split(enginetest.Need(t, variable, name), ",")
}

// engineName draws a topic name, and has the topic deleted when the test ends.
func engineTopic(t testing.TB, b *Broker, partitions int) *Log {
	t.Helper()
	id := wal.NewIncarnation()
	name := "headwater.test." + id.String() + ".1"
	l := createLog(t, b, name, partitions)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := b.Delete(ctx, name); err != nil {
			t.Errorf("delete topic: %v", err)
		}
	})
	return l
}

// TestEngineKafka3KillOneBroker kills each broker in turn, by SIGKILL, while
// several appenders write, and lets it come back before the next. No record that
// was acknowledged may be missing, moved or doubled, the order of each appender
// must hold, and no append may fail: one dead broker of three is ridden out.
func TestEngineKafka3KillOneBroker(t *testing.T) {
	seeds := engine(t, threeBrokers, "kafka3")
	kill, restart := os.Getenv(threeBrokers+"_KILL"), os.Getenv(threeBrokers+"_RESTART")
	if kill == "" || restart == "" {
		t.Skipf("no command to kill a broker: %s_KILL and _RESTART are not set", threeBrokers)
	}
	b := openBroker(t, Config{Brokers: seeds})
	const partitions, appenders, perAppender = 3, 6, 100_000
	l := engineTopic(t, b, partitions)

	run := func(command string, node int) {
		t.Helper()
		out, err := exec.Command("sh", "-c", command+" "+strconv.Itoa(node)).CombinedOutput()
		if err != nil {
			t.Errorf("%s %d: %v\n%s", command, node, err, out)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	type ack struct {
		offset wal.Offset
		data   string
	}
	acks := make([][]ack, appenders)
	var wg sync.WaitGroup
	for a := range appenders {
		wg.Go(func() {
			for i := 0; i < perAppender && ctx.Err() == nil; i++ {
				data := "appender " + strconv.Itoa(a) + " record " + strconv.Itoa(i)
				// Longer than any failover: an outcome is always known.
				one, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
				res := l.Append(one, wal.Sync, []wal.NewEntry{{Partition: wal.Partition(a % partitions), Data: []byte(data)}})[0]
				cancel()
				if res.Err != nil {
					t.Errorf("appender %d: %v", a, res.Err)
					return
				}
				acks[a] = append(acks[a], ack{res.Offset, data})
			}
		})
	}
	for node := range 3 {
		run(kill, node)
		// Every partition takes a record while the broker is dead.
		for p := range partitions {
			one, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			if res := l.Append(one, wal.Sync, []wal.NewEntry{{Partition: wal.Partition(p), Data: []byte("probe")}})[0]; res.Err != nil {
				t.Errorf("with broker %d dead: %v", node, res.Err)
			}
			cancel()
		}
		run(restart, node)
	}
	stop()
	wg.Wait()
	if t.Failed() {
		return
	}

	total := 0
	for p := range partitions {
		bounds, err := l.Bounds(testContext(t), wal.Partition(p))
		if err != nil {
			t.Fatal(err)
		}
		log := readN(t, l, wal.Partition(p), 0, int(bounds.End))
		seen := make(map[string]wal.Offset, len(log))
		for _, e := range log {
			if string(e.Data) == "probe" {
				continue
			}
			if at, twice := seen[string(e.Data)]; twice {
				t.Fatalf("partition %d: %q is at %d and %d", p, e.Data, at, e.Offset)
			}
			seen[string(e.Data)] = e.Offset
		}
		for a := p; a < appenders; a += partitions {
			last := wal.NoOffset
			for _, k := range acks[a] {
				if at, ok := seen[k.data]; !ok || at != k.offset {
					t.Fatalf("partition %d: %q was acknowledged at %d and is at %d (there: %v)", p, k.data, k.offset, at, ok)
				}
				if k.offset <= last {
					t.Fatalf("partition %d: %q is at %d, after %d", p, k.data, k.offset, last)
				}
				last = k.offset
			}
			total += len(acks[a])
		}
	}
	t.Logf("%d acknowledged records, 3 kills, none lost", total)
}

func benchBrokers() []string {
	if at := os.Getenv(oneBroker); at != "" {
		return strings.Split(at, ",")
	}
	return nil
}
