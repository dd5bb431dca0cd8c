package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// stuckLetter starts a server on o that has in hand a batch whose dead letter cannot
// be written until the fault is removed.
func stuckLetter(t *testing.T, o outage, cfg Config) (*Server, *kfake.FaultHandle) {
	t.Helper()
	cfg.KafkaBrokers, cfg.ReplicationFactor = o.brokers, 1
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectBody(t, call(t, s, "Namespace.ApplyNamespace", `{"config":"namespace: tight\nabstraction: counter\nlog: {partitions: 1}\ncounter: {floor: 0}\n"}`), 200, "")
	e, _ := s.names.Get("tight")
	is(t, "an add", call(t, s, "Counter.AddAndGetCount", `{"namespace":"tight","counter":"a","delta":5}`), "count.value", "5")
	stuck := o.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: e.DeadLetterTopic, Err: kerr.LeaderNotAvailable, Count: -1})
	is(t, "an add below the floor", call(t, s, "Counter.AddCount", `{"namespace":"tight","counter":"a","delta":-9}`), "result.duplicate", "NO")
	is(t, "an add behind it", call(t, s, "Counter.AddCount", `{"namespace":"tight","counter":"a","delta":2}`), "result.duplicate", "NO")
	until(t, "the letter is tried", func() bool { return stuck.Hits() > 0 })
	return s, stuck
}

// TestShutdownEndsWithABatchThatCannotEnd: the brokers take no letters, and the
// batch in hand has one. What was acknowledged has its effect after a restart, and
// what was refused its letter.
func TestShutdownEndsWithABatchThatCannotEnd(t *testing.T) {
	t.Parallel()
	o := newOutage(t)
	cfg := Config{DataDir: t.TempDir(), TopicPrefix: newPrefix(), ShutdownTimeout: 5 * time.Second}
	s, stuck := stuckLetter(t, o, cfg)
	err := s.Close()
	if err == nil || !strings.Contains(err.Error(), "namespace tight: partition 0: the batch in hand is left to the next start") {
		t.Errorf("close: %v", err)
	}
	stuck.Remove()
	s = onKafka(t, o.brokers, cfg.TopicPrefix, cfg.DataDir)
	defer closeServer(t, s)
	is(t, "what was acknowledged", call(t, s, "Counter.GetCount", `{"namespace":"tight","counter":"a","accuracy":"ACCURATE"}`), "count.value", "7")
	letters := call(t, s, "Log.ListDeadLetters", `{"namespace":"tight"}`)
	if n := strings.Count(letters.body, `"reason"`); letters.status != 200 || n != 1 {
		t.Errorf("%d letters after a restart: %s", n, letters)
	}
}

// TestShutdownSaysWhatIsLeft when something heeds no context.
func TestShutdownSaysWhatIsLeft(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{DataDir: t.TempDir(), ShutdownTimeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	awake := make(chan struct{})
	s.work.Go(func() error { <-awake; return nil })
	unfinished := (*UnfinishedError)(nil)
	if err := s.Close(); !errors.As(err, &unfinished) || len(unfinished.Left) == 0 {
		t.Errorf("close: %v", err)
	}
	close(awake)
	for errors.As(err, &unfinished) || err == nil {
		if err = s.Close(); err == nil {
			return
		}
	}
	t.Errorf("close in the end: %v", err)
}
