package kafkalog

import (
	"errors"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// TestBufferedAppendIsRefusedBehindAnOldOne: what a crash can lose is bounded by
// its age, partition by partition, and comes free with the acknowledgement.
func TestBufferedAppendIsRefusedBehindAnOldOne(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := fakeConfig(c)
	cfg.BufferedLoss = 1 // a nanosecond
	b := openBroker(t, cfg)
	l := createLog(t, b, "headwater.kv.a.1", 2)
	seen, thaw := freezeProduce(c)
	defer thaw()
	told := make(chan wal.Result, 8)
	buffer := func(p wal.Partition) error {
		return l.Append(testContext(t), wal.Buffered, []wal.NewEntry{{Partition: p, Data: record(1), Settled: func(r wal.Result) { told <- r }}})[0].Err
	}
	if err := buffer(0); err != nil {
		t.Fatal(err)
	}
	<-seen
	if err := buffer(0); !errors.Is(err, wal.ErrNotAppended) || !errors.Is(err, wal.ErrOverloaded) {
		t.Errorf("behind an old one: %v", err)
	}
	if err := buffer(1); err != nil {
		t.Errorf("of another partition: %v", err)
	}
	thaw()
	for range 2 {
		if r := <-told; r.Err != nil || r.Offset != 0 {
			t.Errorf("offset %d, %v", r.Offset, r.Err)
		}
	}
	if err := buffer(0); err != nil {
		t.Errorf("nothing old waits: %v", err)
	}
	if r := <-told; r.Err != nil || r.Offset != 1 {
		t.Errorf("offset %d, %v", r.Offset, r.Err)
	}
}

// TestBufferedOutcomeIsToldAtClose: what is still in flight when the broker
// closes is unknown, and whoever asked learns it.
func TestBufferedOutcomeIsToldAtClose(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := fakeConfig(c)
	cfg.CloseTimeout = time.Millisecond
	b, err := Open(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := createLog(t, b, "headwater.kv.a.1", 1)
	seen, thaw := freezeProduce(c)
	defer thaw()
	told := make(chan wal.Result, 2)
	if err := l.Append(testContext(t), wal.Buffered, []wal.NewEntry{{Data: record(1), Settled: func(r wal.Result) { told <- r }}})[0].Err; err != nil {
		t.Fatal(err)
	}
	<-seen
	if err := b.Close(); err == nil {
		t.Error("close did not say that a record is in flight")
	}
	if r := <-told; !errors.Is(r.Err, wal.ErrUnknown) {
		t.Errorf("told %v", r.Err)
	}
}

func TestAgesAreThoseInFlight(t *testing.T) {
	t.Parallel()
	var a ages
	start := time.Now()
	const n = 5000
	for i := range n {
		a.begin(start.Add(time.Duration(i-n) * time.Hour))
	}
	for i := range n {
		if got, least := a.age(), time.Duration(n-i)*time.Hour; got < least || got > least+time.Hour {
			t.Fatalf("after %d outcomes the oldest is %s old, want about %s", i, got, least)
		}
		a.end()
	}
	if got := a.age(); got != 0 {
		t.Errorf("nothing is in flight, and is %s old", got)
	}
}

func TestBufferedLossIsAboveTheLinger(t *testing.T) {
	t.Parallel()
	if _, err := (Config{Brokers: []string{"x"}, Linger: time.Second, BufferedLoss: time.Second}).withDefaults(); err == nil {
		t.Error("a linger that makes every buffered append too old was taken")
	}
}
