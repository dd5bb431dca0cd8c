package kafkalog

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/wal"
)

// eventually waits until ok, which is what the test waits for; it fails when the
// test's time is over.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx := testContext(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never came: %s", what)
		}
	}
}

func TestGuaranteeIsThatOfTheTopicsSettings(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		brokers, replicas, minISR int
		want                      wal.Guarantee
		why                       string
	}{
		{brokers: 3, replicas: 3, minISR: 2, want: wal.Quorum},
		{brokers: 3, replicas: 3, minISR: 3, want: wal.Quorum},
		{brokers: 3, replicas: 2, minISR: 2, want: wal.Quorum},
		{brokers: 3, replicas: 3, minISR: 1, want: wal.Unreplicated, why: "min.insync.replicas 1"},
		{brokers: 3, replicas: 2, minISR: 1, want: wal.Unreplicated, why: "min.insync.replicas 1"},
		{brokers: 3, replicas: 1, minISR: 1, want: wal.Unreplicated, why: "replication factor 1"},
		{brokers: 1, replicas: 1, minISR: 1, want: wal.Unreplicated, why: "replication factor 1"},
	} {
		t.Run(strconv.Itoa(tc.brokers)+strconv.Itoa(tc.replicas)+strconv.Itoa(tc.minISR), func(t *testing.T) {
			t.Parallel()
			cfg := fakeConfig(newCluster(t, kfake.NumBrokers(tc.brokers)))
			cfg.ReplicationFactor, cfg.MinISR, cfg.AllowUnsafe = tc.replicas, tc.minISR, true
			b := openBroker(t, cfg)
			if got := b.Guarantee(); got != tc.want {
				t.Errorf("a new topic is %s, not %s", got, tc.want)
			}
			if got, why := createLog(t, b, "headwater.kv.a.1", 2).Guarantee(); got != tc.want || !strings.HasPrefix(why, tc.why) || (why == "") != (tc.why == "") {
				t.Errorf("the topic is %s (%s), not %s", got, why, tc.want)
			}
			if got := b.Guarantee(); got != tc.want {
				t.Errorf("the broker is %s, not %s", got, tc.want)
			}
			// A process that would make topics otherwise goes by what this one has.
			cfg.ReplicationFactor, cfg.MinISR = 1, 1
			l, err := openBroker(t, cfg).Open(testContext(t), "headwater.kv.a.1")
			if err != nil {
				t.Fatal(err)
			}
			if got, why := l.Guarantee(); got != tc.want {
				t.Errorf("opened by another process the topic is %s (%s), not %s", got, why, tc.want)
			}
		})
	}
}

// TestGuaranteeFollowsTheSettings: an operator changes them while the topic is
// open, on one topic and not on another.
func TestGuaranteeFollowsTheSettings(t *testing.T) {
	t.Parallel()
	b := openBroker(t, fakeConfig(newCluster(t)))
	changed, left := createLog(t, b, "headwater.kv.a.1", 1), createLog(t, b, "headwater.kv.b.1", 1)
	for _, s := range []struct {
		key, value string
		want       wal.Guarantee
	}{
		{"min.insync.replicas", "1", wal.Unreplicated}, {"min.insync.replicas", "2", wal.Quorum},
		{"unclean.leader.election.enable", "true", wal.Unreplicated}, {"unclean.leader.election.enable", "false", wal.Quorum},
	} {
		resp, err := b.adm.AlterTopicConfigs(testContext(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: s.key, Value: &s.value}}, changed.info.Name)
		if err != nil || resp[0].Err != nil {
			t.Fatal(err, resp)
		}
		eventually(t, s.key+" "+s.value, func() bool {
			got, _ := changed.Guarantee()
			return got == s.want
		})
		if got := b.Guarantee(); got != s.want {
			t.Errorf("the broker is %s, its weakest topic %s", got, s.want)
		}
		if got, why := left.Guarantee(); got != wal.Quorum {
			t.Errorf("the other topic is %s (%s)", got, why)
		}
	}
}

// TestRequiredReplicas has what kfake cannot be set to: fewer replicas than
// min.insync.replicas, and no such setting, as on Redpanda.
func TestRequiredReplicas(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		replication
		required int
		want     wal.Guarantee
	}{
		{replication{replicas: 1, minISR: 2}, 1, wal.Unreplicated},
		{replication{replicas: 1}, 1, wal.Unreplicated},
		{replication{replicas: 3}, 2, wal.Quorum},
		{replication{replicas: 5}, 3, wal.Quorum},
		{replication{}, 1, wal.Unreplicated}, // not known
	} {
		if got, _ := tc.guarantee(); got != tc.want || tc.replication.required() != tc.required {
			t.Errorf("%+v: %s, required %d", tc.replication, got, tc.replication.required())
		}
	}
}
