package proof

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

// kafka returns the address of a real broker without any topic of ours, or
// skips; a skip is a failure where HEADWATER_REQUIRE_ENGINES names kafka.
func kafka(t *testing.T) string {
	t.Helper()
	at := enginetest.Need(t, "HEADWATER_TEST_KAFKA", "kafka")
	clean(t, at)
	t.Cleanup(func() { clean(t, at) })
	return at
}

// clean removes our topics: the registry on a broker belongs to the data
// directory of the test that made it.
func clean(t *testing.T, at string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(at, ",")...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := callContext()
	defer cancel()
	admin := kadm.NewClient(cl)
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for name := range topics {
		if strings.HasPrefix(name, "headwater.") {
			ours = append(ours, name)
		}
	}
	if len(ours) == 0 {
		return
	}
	rs, err := admin.DeleteTopics(ctx, ours...)
	if err == nil {
		err = rs.Error()
	}
	if err != nil {
		t.Fatalf("delete topics: %v", err)
	}
}

// TestEngineKill is TestKill with the log on a real Kafka broker.
func TestEngineKill(t *testing.T) {
	at := kafka(t)
	rounds := 5
	if long() {
		rounds = 50
	}
	killRounds(t, rounds, "demo-kv", nil, false, "--kafka-brokers", at)
}
