package kafkalog

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/headwater-db/headwater/wal"
)

// recreate deletes a topic and makes it again, behind the log's back.
func recreate(t *testing.T, c *kfake.Cluster, name string, partitions int32) {
	t.Helper()
	configs := make(map[string]string)
	for _, s := range settings {
		if s.value != "" && !s.optional {
			configs[s.key] = s.value
		}
	}
	if err := c.DeleteTopic(name); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTopic(name, partitions, configs); err != nil {
		t.Fatal(err)
	}
}

func TestARecreatedTopicIsNeverTakenForTheOld(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		opts    []kgo.Opt
		empty   bool // nothing was appended in the old life
		noWatch bool // the append has to find out by itself
	}{
		{name: "produce by id"},
		{name: "produce by id, empty partition", empty: true},
		{name: "produce by id, no check", noWatch: true},
		{name: "produce by name", opts: []kgo.Opt{kgo.MaxVersions(kversion.V3_7_0())}},
		{name: "produce by name, empty partition", opts: []kgo.Opt{kgo.MaxVersions(kversion.V3_7_0())}, empty: true},
		{name: "produce by name, no check", opts: []kgo.Opt{kgo.MaxVersions(kversion.V3_7_0())}, noWatch: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			const name = "headwater.kv.a.1"
			c := newCluster(t)
			cfg := fakeConfig(c)
			cfg.Opts = tc.opts
			if tc.noWatch {
				cfg.CheckInterval = limit
			}
			l := createLog(t, openBroker(t, cfg), name, 1)
			if !tc.empty {
				appendOne(t, l, 0, record(0))
			}
			r, err := l.Read(testContext(t), 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			recreate(t, c, name, 1)

			res := l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(1)}})[0]
			if !errors.Is(res.Err, wal.ErrIncarnation) || res.Offset != wal.NoOffset {
				t.Fatalf("append: %+v", res)
			}
			res = l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(2)}})[0]
			if !errors.Is(res.Err, wal.ErrIncarnation) || !errors.Is(res.Err, wal.ErrNotAppended) {
				t.Fatalf("append after it is known: %+v", res)
			}
			if _, err := r.Next(testContext(t)); !errors.Is(err, wal.ErrIncarnation) {
				t.Fatalf("next: %v", err)
			}
			for what, call := range map[string]func(ctx context.Context) error{
				"barrier": func(ctx context.Context) error { _, err := l.Barrier(ctx, 0); return err },
				"bounds":  func(ctx context.Context) error { _, err := l.Bounds(ctx, 0); return err },
				"read":    func(ctx context.Context) error { _, err := l.Read(ctx, 0, 0); return err },
				"trim":    func(ctx context.Context) error { return l.Trim(ctx, 0, 0) },
				"at":      func(ctx context.Context) error { _, err := l.OffsetAt(ctx, 0, 0); return err },
			} {
				if err := call(testContext(t)); !errors.Is(err, wal.ErrIncarnation) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func TestBoundsOfAnotherLifeAreNotTold(t *testing.T) {
	t.Parallel()
	const name = "headwater.kv.a.1"
	c := newCluster(t)
	cfg := fakeConfig(c)
	cfg.CheckInterval = limit // Bounds has to find out by itself
	l := createLog(t, openBroker(t, cfg), name, 1)
	appendOne(t, l, 0, record(0))
	recreate(t, c, name, 1)
	if b, err := l.Bounds(testContext(t), 0); !errors.Is(err, wal.ErrIncarnation) {
		t.Fatalf("got %+v, %v", b, err)
	}
}

func TestAReopenedTopicOfANewLifeIsUsedAsANewLog(t *testing.T) {
	t.Parallel()
	const name = "headwater.kv.a.1"
	c := newCluster(t)
	b := openBroker(t, fakeConfig(c))
	old := createLog(t, b, name, 1)
	for i := range 3 {
		appendOne(t, old, 0, record(i))
	}
	if err := b.Delete(testContext(t), name); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(testContext(t), name); err != nil {
		t.Fatalf("absent is an error: %v", err)
	}
	if _, err := b.Open(testContext(t), name); !errors.Is(err, wal.ErrTopicNotFound) {
		t.Fatalf("open of a deleted topic: %v", err)
	}
	l := createLog(t, b, name, 2)
	if l.Info().Incarnation == old.Info().Incarnation {
		t.Fatal("two lives have one incarnation")
	}
	if off := appendOne(t, l, 0, record(9)); off != 0 {
		t.Fatalf("the new life begins at %d", off)
	}
	if res := old.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(1)}})[0]; !errors.Is(res.Err, wal.ErrIncarnation) {
		t.Fatalf("append to the old life: %v", res.Err)
	}
	same, err := b.Open(testContext(t), name)
	if err != nil || same != wal.Log(l) {
		t.Fatalf("open again: %v, %v", same, err)
	}
}

func TestAChangedPartitionCountIsRefused(t *testing.T) {
	t.Parallel()
	const name = "headwater.kv.a.1"
	c := newCluster(t)
	b := openBroker(t, fakeConfig(c))
	l := createLog(t, b, name, 2)
	appendOne(t, l, 0, record(0))
	r, err := l.Read(testContext(t), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := b.adm.UpdatePartitions(testContext(t), 3, name); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(testContext(t)); !errors.Is(err, wal.ErrPartitionCount) {
		t.Fatalf("next: %v", err)
	}
	res := l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(1)}})[0]
	if !errors.Is(res.Err, wal.ErrPartitionCount) || !errors.Is(res.Err, wal.ErrNotAppended) {
		t.Fatalf("append: %v", res.Err)
	}
	if _, err := b.Create(testContext(t), wal.TopicSpec{Name: name, Partitions: 2}); !errors.Is(err, wal.ErrPartitionCount) {
		t.Fatalf("create: %v", err)
	}
}

func TestUnsafeSettingsAreRefusedByName(t *testing.T) {
	t.Parallel()
	good := map[string]string{"min.insync.replicas": "2"}
	for _, s := range settings {
		if s.value != "" && s.key != "unclean.leader.election.enable" {
			good[s.key] = s.value
		}
	}
	for _, tc := range []struct {
		key, value string
		unsafe     bool // accepted with AllowUnsafe
	}{
		{"cleanup.policy", "compact", false},
		{"retention.ms", "604800000", false},
		{"retention.bytes", "1000000", false},
		{"message.timestamp.type", "CreateTime", false},
		{"max.message.bytes", "1048588", false},
		{"min.insync.replicas", "1", true},
	} {
		t.Run(tc.key, func(t *testing.T) {
			t.Parallel()
			const name = "headwater.kv.a.1"
			c := newCluster(t)
			configs := make(map[string]string)
			for k, v := range good {
				configs[k] = v
			}
			configs[tc.key] = tc.value
			if err := c.CreateTopic(name, 1, configs); err != nil {
				t.Fatal(err)
			}
			b := openBroker(t, fakeConfig(c))
			for what, err := range map[string]error{
				"open":   second(b.Open(testContext(t), name)),
				"create": second(b.Create(testContext(t), wal.TopicSpec{Name: name, Partitions: 1})),
			} {
				if !errors.Is(err, wal.ErrTopicSettings) || !strings.Contains(err.Error(), tc.key) || !strings.Contains(err.Error(), tc.value) {
					t.Errorf("%s: %v", what, err)
				}
			}
			cfg := fakeConfig(c)
			cfg.AllowUnsafe = true
			_, err := openBroker(t, cfg).Open(testContext(t), name)
			if accepted := err == nil; accepted != tc.unsafe {
				t.Errorf("with AllowUnsafe: %v", err)
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestFewReplicasNeedAllowUnsafe(t *testing.T) {
	t.Parallel()
	c := newCluster(t, kfake.NumBrokers(1))
	cfg := fakeConfig(c)
	cfg.ReplicationFactor, cfg.MinISR = 1, 1
	if b, err := Open(testContext(t), cfg); !errors.Is(err, wal.ErrTopicSettings) {
		b.Close()
		t.Fatalf("got %v", err)
	}
	cfg = fakeConfig(c)
	cfg.AllowUnsafe = true
	b := openBroker(t, cfg)
	appendOne(t, createLog(t, b, "headwater.kv.a.1", 1), 0, record(0))
}

func TestTopicsListsThoseWithThePrefix(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	b := openBroker(t, fakeConfig(c))
	l := createLog(t, b, "headwater.kv.a.1", 3)
	for _, name := range []string{"headwater2.kv.a.1", "other"} {
		if err := c.CreateTopic(name, 1, nil); err != nil {
			t.Fatal(err)
		}
	}
	infos, err := b.Topics(testContext(t))
	if err != nil || len(infos) != 1 || infos[0] != l.Info() {
		t.Fatalf("got %+v, %v", infos, err)
	}
	for _, bad := range []string{"", "a/b", "ümlaut", strings.Repeat("x", 250)} {
		if _, err := b.Create(testContext(t), wal.TopicSpec{Name: bad, Partitions: 1}); err == nil {
			t.Errorf("name %q was accepted", bad)
		}
		if _, err := b.Open(testContext(t), bad); !errors.Is(err, wal.ErrTopicNotFound) {
			t.Errorf("open %q: %v", bad, err)
		}
	}
}
