package kafkalog

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// freezeProduce makes the brokers take produce requests and not answer until
// thaw. seen is closed when the first arrived.
func freezeProduce(c *kfake.Cluster) (seen chan struct{}, thaw func()) {
	seen, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		once.Do(func() { close(seen) })
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	return seen, sync.OnceFunc(func() { close(release) })
}

func TestAnAppendInFlightAtItsDeadlineIsUnknownAndMayLandLater(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := createLog(t, openBroker(t, fakeConfig(c)), "headwater.kv.a.1", 1)
	// The client has to send it once more, when the caller's bytes are gone.
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition})
	seen, thaw := freezeProduce(c)
	defer thaw()
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-seen
		cancel()
	}()
	data := record(1)
	res := l.Append(ctx, wal.Sync, []wal.NewEntry{{Data: data}})[0]
	if !errors.Is(res.Err, wal.ErrUnknown) || errors.Is(res.Err, wal.ErrNotAppended) || !errors.Is(res.Err, context.Canceled) {
		t.Fatalf("got %v", res.Err)
	}
	clear(data) // the caller's again
	thaw()
	if e := readN(t, l, 0, 0, 1)[0]; string(e.Data) != string(record(1)) {
		t.Fatalf("read %q", e.Data)
	}
}

func TestAnAppendWithADoneContextIsNotAppended(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	res := l.Append(ctx, wal.Sync, []wal.NewEntry{{Data: record(1)}})[0]
	if !errors.Is(res.Err, wal.ErrNotAppended) || res.Offset != wal.NoOffset {
		t.Fatalf("got %+v", res)
	}
	if b, err := l.Bounds(testContext(t), 0); err != nil || b.End != 0 {
		t.Fatalf("bounds %+v, %v", b, err)
	}
}

func TestBrokerAnswersThatHideAnAppendAreRiddenOutWithoutADuplicate(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{
		kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, // both after the append
		kerr.NotEnoughReplicas, kerr.NotLeaderForPartition,
	} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			l := createLog(t, openBroker(t, fakeConfig(c)), "headwater.kv.a.1", 1)
			fault := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: code, Count: 2})
			for i := range 3 {
				if off := appendOne(t, l, 0, record(i)); off != wal.Offset(i) {
					t.Fatalf("record %d is at %d", i, off)
				}
			}
			if fault.Hits() != 2 {
				t.Fatalf("the fault was hit %d times", fault.Hits())
			}
			for i, e := range readN(t, l, 0, 0, 3) {
				if string(e.Data) != string(record(i)) {
					t.Fatalf("place %d: %q", i, e.Data)
				}
			}
			if b, err := l.Bounds(testContext(t), 0); err != nil || b.End != 3 {
				t.Fatalf("bounds %+v, %v", b, err)
			}
		})
	}
}

func TestARefusalProvesThatALoneRecordWasNotAppended(t *testing.T) {
	t.Parallel()
	for _, code := range []*kerr.Error{kerr.TopicAuthorizationFailed, kerr.MessageTooLarge, kerr.InvalidRecord} {
		t.Run(code.Message, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			l := createLog(t, openBroker(t, fakeConfig(c)), "headwater.kv.a.1", 1)
			appendOne(t, l, 0, record(0))
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: code})
			res := l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(1)}})[0]
			if !errors.Is(res.Err, wal.ErrNotAppended) || !errors.Is(res.Err, code) {
				t.Fatalf("got %v", res.Err)
			}
			if off := appendOne(t, l, 0, record(2)); off != 1 {
				t.Fatalf("the next record is at %d", off)
			}
		})
	}
}

// The client gives a batch's refusal to every record behind it, sent or not.
func TestARefusalSaysNothingOfTheRecordsBehindIt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := createLog(t, openBroker(t, fakeConfig(c)), "headwater.kv.a.1", 1)
	appendOne(t, l, 0, record(0))
	seen, thaw := freezeProduce(c)
	defer thaw()
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidRecord})
	second := make(chan wal.Result, 1)
	go func() {
		defer thaw()
		<-seen
		go func() {
			second <- l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(2)}})[0]
		}()
		for l.parts[0].outstanding.Load() < 2 {
			if t.Context().Err() != nil {
				return
			}
		}
	}()
	first := l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(1)}})[0]
	if first.Err == nil {
		t.Fatalf("got %+v", first)
	}
	if res := <-second; res.Err != nil && !errors.Is(res.Err, wal.ErrUnknown) {
		t.Fatalf("got %v", res.Err)
	}
}

func TestWhatIsBrokenInTheCallIsRefusedEntryByEntry(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 2)
	res := l.Append(testContext(t), wal.Sync, []wal.NewEntry{
		{Partition: 2, Data: record(0)},
		{Partition: 1, Data: record(1)},
		{Partition: 0, Data: make([]byte, wal.MaxRecordBytes+1)},
		{Partition: 0, Data: make([]byte, wal.MaxRecordBytes)},
	})
	if !errors.Is(res[0].Err, wal.ErrNoPartition) || !errors.Is(res[0].Err, wal.ErrNotAppended) {
		t.Errorf("partition out of range: %v", res[0].Err)
	}
	if !errors.Is(res[2].Err, wal.ErrTooLarge) || !errors.Is(res[2].Err, wal.ErrNotAppended) {
		t.Errorf("too large: %v", res[2].Err)
	}
	if res[1].Err != nil || res[3].Err != nil {
		t.Errorf("good entries: %v, %v", res[1].Err, res[3].Err)
	}
	if e := readN(t, l, 0, 0, 1)[0]; len(e.Data) != wal.MaxRecordBytes {
		t.Errorf("read %d bytes", len(e.Data))
	}
}

func TestAFullQueueRefusesWithoutWaiting(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	cfg := fakeConfig(c)
	cfg.QueueBytes = minQueueBytes
	l := createLog(t, openBroker(t, cfg), "headwater.kv.a.1", 1)
	_, thaw := freezeProduce(c)
	defer thaw()
	taken := 0
	var res wal.Result
	for range 64 {
		if res = l.Append(testContext(t), wal.Buffered, []wal.NewEntry{{Data: make([]byte, 1<<20)}})[0]; res.Err != nil {
			break
		}
		if res.Offset != wal.NoOffset {
			t.Fatalf("a buffered append told offset %d", res.Offset)
		}
		taken++
	}
	if !errors.Is(res.Err, wal.ErrNotAppended) || !errors.Is(res.Err, wal.ErrOverloaded) || taken != 15 {
		t.Fatalf("%d taken, then %v", taken, res.Err)
	}
	thaw()
	readN(t, l, 0, 0, taken)
	appendOne(t, l, 0, record(1)) // there is room again
	if n := l.b.queued.Load(); n != 0 {
		t.Fatalf("%d bytes are still counted as queued", n)
	}
}

func TestAfterCloseNothingIsTaken(t *testing.T) {
	t.Parallel()
	b := openBroker(t, fakeConfig(newCluster(t)))
	l := createLog(t, b, "headwater.kv.a.1", 1)
	appendOne(t, l, 0, record(0))
	r, err := l.Read(testContext(t), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan error, 1)
	go func() {
		_, err := r.Next(testContext(t))
		next <- err
	}()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-next; !errors.Is(err, wal.ErrClosed) {
		t.Errorf("a waiting reader got %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	res := l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(1)}})[0]
	if !errors.Is(res.Err, wal.ErrNotAppended) || !errors.Is(res.Err, wal.ErrClosed) {
		t.Errorf("append: %v", res.Err)
	}
	if _, err := l.Barrier(testContext(t), 0); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("barrier: %v", err)
	}
	if _, err := b.Open(testContext(t), "headwater.kv.a.1"); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("open: %v", err)
	}
	if err := b.Health(); !errors.Is(err, wal.ErrClosed) {
		t.Errorf("health: %v", err)
	}
}

// A broker that takes records by the topic's name, and knows no sequence, takes
// them into another life without a word.
func TestAnAcknowledgementBelowAnEarlierOneIsAnotherLife(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 1)
	for i := range 3 {
		appendOne(t, l, 0, record(i))
	}
	it := &item{part: l.parts[0], call: &call{}}
	it.rec.Offset = 2
	if off, err := l.outcome(it, nil); !errors.Is(err, wal.ErrUnknown) || !errors.Is(err, wal.ErrIncarnation) || off != wal.NoOffset {
		t.Fatalf("got %d, %v", off, err)
	}
	if res := l.Append(testContext(t), wal.Sync, []wal.NewEntry{{Data: record(3)}})[0]; !errors.Is(res.Err, wal.ErrNotAppended) || !errors.Is(res.Err, wal.ErrIncarnation) {
		t.Fatalf("append after it: %v", res.Err)
	}
}
