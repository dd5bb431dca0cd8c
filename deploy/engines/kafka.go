package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

//go:embed kafka.pom.xml
var kafkaPom string

//go:embed kafka.log4j2.xml
var kafkaLog4j2 []byte

var kafkaJars = maven{name: "kafka", pom: kafkaPom}

// kafkaClusterID is any 16 bytes in URL-safe base64; the data is thrown away with the cluster.
const kafkaClusterID = "aGVhZHdhdGVyLWVuZ2luZQ"

// kafka is a cluster of brokers that are controllers too. Broker i listens on port+i, its
// controller on port+brokers+i; i is also its node id. For tests that cut the network, it listens on
// port+2*brokers+i too, and tells clients of that listener to come to port+3*brokers+i, where it is the test that listens.
type kafka struct {
	name    string
	port    int
	brokers int
	heapMiB int
}

func (k kafka) engine() engine {
	return engine{
		name: k.name, port: k.port, portCount: 4 * k.brokers,
		fetch:    kafkaJars.fetch,
		prepare:  k.prepare,
		ready:    k.ready,
		rejoined: k.rejoined,
		env:      k.env,
	}
}

func (k kafka) addresses(port int) []string {
	var as []string
	for i := range k.brokers {
		as = append(as, fmt.Sprintf("127.0.0.1:%d", port+i))
	}
	return as
}

// proxied are the addresses that clients of the second listener are told, each with where it leads to.
func (k kafka) proxied(port int) []string {
	var as []string
	for i := range k.brokers {
		as = append(as, fmt.Sprintf("127.0.0.1:%d=127.0.0.1:%d", port+3*k.brokers+i, port+2*k.brokers+i))
	}
	return as
}

func (k kafka) prepare(ctx context.Context, cache, dir string) ([]process, error) {
	bin, err := java()
	if err != nil {
		return nil, err
	}
	log4j2 := filepath.Join(dir, "log4j2.xml")
	if err := writeFile(log4j2, kafkaLog4j2); err != nil {
		return nil, err
	}
	classes := filepath.Join(kafkaJars.lib(cache), "*")
	var ps []process
	for i := range k.brokers {
		config := filepath.Join(dir, fmt.Sprintf("broker-%d.properties", i))
		if err := writeFile(config, k.properties(dir, i)); err != nil {
			return nil, err
		}
		// The tool lives for a second: the quick compiler and the small collector start it fastest.
		format := exec.CommandContext(ctx, bin, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dlog4j2.configurationFile="+log4j2,
			"-cp", classes, "kafka.tools.StorageTool", "format", "-t", kafkaClusterID, "-c", config)
		if out, err := format.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("format data of %s broker %d: %w; Kafka needs Java 17 or newer; it said:\n%s", k.name, i, err, out)
		}
		ps = append(ps, process{
			Name: fmt.Sprintf("%s broker %d", k.name, i),
			Args: []string{
				bin, fmt.Sprintf("-Xms%dm", k.heapMiB), fmt.Sprintf("-Xmx%dm", k.heapMiB), "-XX:+ExitOnOutOfMemoryError",
				"-Djava.awt.headless=true", "-Dlog4j2.configurationFile=" + log4j2, "-cp", classes, "kafka.Kafka", config,
			},
			Log:  filepath.Join(dir, fmt.Sprintf("broker-%d.log", i)),
			Mark: config,
		})
	}
	return ps, nil
}

// properties is the configuration of broker i. Topic settings are not here: Headwater creates its topics
// with their own and checks them.
func (k kafka) properties(dir string, i int) []byte {
	var voters []string
	for v := range k.brokers {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", v, k.port+k.brokers+v))
	}
	minISR := max(1, k.brokers-1)
	return fmt.Appendf(nil, `process.roles=broker,controller
node.id=%d
controller.quorum.voters=%s
listeners=PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d,PROXIED://127.0.0.1:%d
advertised.listeners=PLAINTEXT://127.0.0.1:%d,PROXIED://127.0.0.1:%d
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=%s

default.replication.factor=%d
min.insync.replicas=%d
unclean.leader.election.enable=false
auto.create.topics.enable=false
delete.topic.enable=true
group.initial.rebalance.delay.ms=0

# Records of up to 8 MiB, with room for what a batch and a request add.
message.max.bytes=10485760
replica.fetch.max.bytes=10485760

# The internal topics: as replicated as the rest, few partitions because each costs files and start-up time.
offsets.topic.num.partitions=4
offsets.topic.replication.factor=%d
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=%d
transaction.state.log.min.isr=%d
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=%d
share.coordinator.state.topic.min.isr=%d

# A killed broker is replaced after 4 s and not after 9, for the tests that wait for it.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=4000

# The default of 128 MiB would be a third of the heap.
log.cleaner.dedupe.buffer.size=8388608
`, i, strings.Join(voters, ","), k.port+i, k.port+k.brokers+i, k.port+2*k.brokers+i, k.port+i, k.port+3*k.brokers+i, filepath.Join(dir, fmt.Sprintf("data-%d", i)),
		k.brokers, minISR, k.brokers, k.brokers, minISR, k.brokers, minISR)
}

// ready asks each broker by itself whether it sees all of them, then sends a record through a fully replicated topic.
func (k kafka) ready(ctx context.Context, port int) error {
	for i, addr := range k.addresses(port) {
		meta, err := metadata(ctx, addr)
		if err != nil {
			return fmt.Errorf("ask broker %d: %w", i, err)
		}
		if len(meta.Brokers) != k.brokers {
			return fmt.Errorf("ask broker %d: it sees %d of %d brokers", i, len(meta.Brokers), k.brokers)
		}
	}
	return k.roundTrip(ctx, k.addresses(port))
}

func (k kafka) roundTrip(ctx context.Context, addrs []string) (err error) {
	const topic = "engines-ready-probe"
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if _, err := adm.DeleteTopic(ctx, topic); err != nil && !strings.Contains(err.Error(), "UNKNOWN_TOPIC") {
		return fmt.Errorf("delete topic of an earlier probe: %w", err)
	}
	if _, err := adm.CreateTopic(ctx, 1, int16(k.brokers), nil, topic); err != nil {
		return fmt.Errorf("create topic: %w", err)
	}
	defer func() {
		if _, derr := adm.DeleteTopic(ctx, topic); derr != nil {
			err = errors.Join(err, fmt.Errorf("delete topic: %w", derr))
		}
	}()
	sent, err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("ready")}).First()
	if err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {sent.Partition: kgo.NewOffset().At(sent.Offset)}})
	fetches := cl.PollRecords(ctx, 1)
	if err := fetches.Err(); err != nil {
		return fmt.Errorf("consume: %w", err)
	}
	if rs := fetches.Records(); len(rs) != 1 || string(rs[0].Value) != "ready" {
		return fmt.Errorf("consume: got %d records that are not what was sent", len(rs))
	}
	return nil
}

// rejoined asks broker n itself: the others may list it as alive until its old session ends,
// and it answers only once the controller lets it serve again.
func (k kafka) rejoined(ctx context.Context, port, n int) error {
	meta, err := metadata(ctx, k.addresses(port)[n])
	if err != nil {
		return fmt.Errorf("ask broker %d: %w", n, err)
	}
	id := int32(n)
	if !slices.ContainsFunc(meta.Brokers, func(b kmsg.MetadataResponseBroker) bool { return b.NodeID == id }) {
		return fmt.Errorf("broker %d does not list itself", n)
	}
	for _, t := range meta.Topics {
		for _, p := range t.Partitions {
			if slices.Contains(p.Replicas, id) && !slices.Contains(p.ISR, id) {
				return fmt.Errorf("broker %d is not yet in sync for %s/%d", n, *t.Topic, p.Partition)
			}
		}
	}
	return nil
}

// metadata is what the broker at addr itself knows of brokers and of all topics.
func metadata(ctx context.Context, addr string) (*kmsg.MetadataResponse, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	defer cl.Close()
	req := kmsg.NewPtrMetadataRequest() // Topics nil: all of them.
	resp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	meta, ok := resp.(*kmsg.MetadataResponse)
	if !ok {
		return nil, fmt.Errorf("read metadata: unexpected answer %T", resp)
	}
	return meta, nil
}

func (k kafka) env(tool string, st state) []variable {
	prefix := "HEADWATER_TEST_" + strings.ToUpper(k.name)
	vars := []variable{{prefix, strings.Join(k.addresses(st.Port), ",")}, {prefix + "_PROXIED", strings.Join(k.proxied(st.Port), ",")}}
	if k.brokers == 1 {
		return vars
	}
	var pids []string
	for _, p := range st.Processes {
		pids = append(pids, fmt.Sprint(p.PID))
	}
	return append(vars,
		variable{prefix + "_PIDS", strings.Join(pids, ",")},
		variable{prefix + "_KILL", tool + " kill " + k.name},
		variable{prefix + "_RESTART", tool + " restart " + k.name})
}
