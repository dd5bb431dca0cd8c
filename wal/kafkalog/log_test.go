package kafkalog

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

func TestAcknowledgedRecordsAreReadInOrder(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 4)
	const n = 500
	entries := make([]wal.NewEntry, n)
	for i := range entries {
		entries[i] = wal.NewEntry{Partition: wal.Partition(i % 4), Data: record(i)}
	}
	for i, r := range l.Append(testContext(t), wal.Sync, entries) {
		if r.Err != nil || r.Offset != wal.Offset(i/4) {
			t.Fatalf("entry %d: offset %d, %v", i, r.Offset, r.Err)
		}
	}
	for p := range 4 {
		for i, e := range readN(t, l, wal.Partition(p), 0, n/4) {
			if e.Offset != wal.Offset(i) || !bytes.Equal(e.Data, record(i*4+p)) || e.LogTime == 0 || e.Partition != wal.Partition(p) {
				t.Fatalf("partition %d, place %d: %+v", p, i, e)
			}
		}
	}
}

func TestPlacesOutsideTheLogAreErrors(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 1)
	for i := range 10 {
		appendOne(t, l, 0, record(i))
	}
	if _, err := l.Read(testContext(t), 0, 11); !errors.Is(err, wal.ErrBeyondEnd) {
		t.Errorf("read above the end: %v", err)
	}
	if err := l.Trim(testContext(t), 0, 11); !errors.Is(err, wal.ErrBeyondEnd) {
		t.Errorf("trim above the end: %v", err)
	}
	for _, before := range []wal.Offset{4, 2, 0} { // the lower ones do nothing
		if err := l.Trim(testContext(t), 0, before); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := l.Bounds(testContext(t), 0); err != nil || b.Start != 4 || b.End != 10 {
		t.Fatalf("bounds %+v, %v", b, err)
	}
	var trimmed *wal.TrimmedError
	if _, err := l.Read(testContext(t), 0, 3); !errors.As(err, &trimmed) || trimmed.Start != 4 || trimmed.Wanted != 3 {
		t.Errorf("read below the start: %v", err)
	}
	if got := readN(t, l, 0, 4, 6); string(got[0].Data) != string(record(4)) {
		t.Errorf("read %q", got[0].Data)
	}
	if err := l.Trim(testContext(t), 0, 10); err != nil {
		t.Fatal(err)
	}
	if b, err := l.Bounds(testContext(t), 0); err != nil || b.Start != 10 || b.End != 10 {
		t.Fatalf("bounds of an empty log %+v, %v", b, err)
	}
	if off := appendOne(t, l, 0, record(10)); off != 10 {
		t.Errorf("appended at %d", off)
	}
	if _, err := l.Bounds(testContext(t), 1); !errors.Is(err, wal.ErrNoPartition) {
		t.Errorf("no such partition: %v", err)
	}
}

func TestAReaderThatTrimOvertookSaysSo(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := createLog(t, openBroker(t, fakeConfig(c)), "headwater.kv.a.1", 1)
	for i := range 10 {
		appendOne(t, l, 0, record(i))
	}
	seen, release := make(chan struct{}), make(chan struct{})
	c.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.DropControl()
		close(seen)
		c.SleepControl(func() { <-release })
		return nil, nil, false
	})
	r, err := l.Read(testContext(t), 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	<-seen
	if err := l.Trim(testContext(t), 0, 5); err != nil {
		t.Fatal(err)
	}
	close(release)
	for range 2 { // and stays where it was
		var trimmed *wal.TrimmedError
		if _, err := r.Next(testContext(t)); !errors.As(err, &trimmed) || trimmed.Start != 5 || trimmed.Wanted != 2 {
			t.Fatalf("got %v", err)
		}
	}
}

func TestALogThatFellBackIsCorrupt(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	l := createLog(t, openBroker(t, fakeConfig(c)), "headwater.kv.a.1", 1)
	appendOne(t, l, 0, record(0))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: -1})
	r, err := l.Read(testContext(t), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Next(testContext(t)); !errors.Is(err, wal.ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
}

func TestAGapIsCorruptAndWhatIsBeforeItIsRead(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 1)
	r := &reader{l: l, next: 5, ready: make(chan struct{}, 1)}
	r.put([]*kgo.Record{{Offset: 4}, {Offset: 5, Value: record(5)}, {Offset: 6, Attrs: kgo.RecordAttrs{}}, {Offset: 8}})
	entries, err := r.Next(testContext(t))
	if err != nil || len(entries) != 2 || entries[0].Offset != 5 || entries[1].Offset != 6 {
		t.Fatalf("got %+v, %v", entries, err)
	}
	var corrupt *wal.CorruptError
	if _, err := r.Next(testContext(t)); !errors.As(err, &corrupt) || corrupt.Offset != 7 {
		t.Fatalf("got %v", err)
	}
}

func TestReadersOfOnePartitionAreIndependent(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 2)
	for i := range 20 {
		appendOne(t, l, wal.Partition(i%2), record(i))
	}
	// Opened and closed in every order, on shared connections, each gets all of
	// its own from where it began.
	var open []wal.Reader
	for i := range 12 {
		r, err := l.Read(testContext(t), wal.Partition(i%2), wal.Offset(i%5))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
		for next := wal.Offset(i % 5); next < 10; {
			entries, err := r.Next(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Offset != next || string(e.Data) != string(record(int(next)*2+i%2)) {
					t.Fatalf("reader %d: offset %d, %q; want %d", i, e.Offset, e.Data, next)
				}
				next++
			}
		}
		if i%3 == 2 {
			if err := open[0].Close(); err != nil {
				t.Fatal(err)
			}
			open = open[1:]
		}
	}
	for _, r := range open {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(testContext(t)); !errors.Is(err, wal.ErrClosed) {
			t.Fatalf("next after close: %v", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fetchers) != 1 || l.fetchers[0].open != 0 {
		t.Fatalf("%d clients are left without a reader, not one", len(l.fetchers))
	}
}

func TestAWaitThatIsGivenUpLosesNothing(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 1)
	r, err := l.Read(testContext(t), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	appendOne(t, l, 0, record(0))
	if entries, err := r.Next(testContext(t)); err != nil || len(entries) != 1 || entries[0].Offset != 0 {
		t.Fatalf("got %+v, %v", entries, err)
	}
}

func TestOffsetsAreFoundByLogTime(t *testing.T) {
	t.Parallel()
	l := createLog(t, openBroker(t, fakeConfig(newCluster(t))), "headwater.kv.a.1", 1)
	for i := range 5 {
		appendOne(t, l, 0, record(i))
	}
	entries := readN(t, l, 0, 0, 5)
	for _, tc := range []struct {
		at   int64
		want wal.Offset
	}{
		{-1, 0},
		{0, 0},
		{entries[0].LogTime, 0},
		{entries[4].LogTime + 1, 5},
		{entries[4].LogTime + 3_600_000_000, 5},
	} {
		if off, err := l.OffsetAt(testContext(t), 0, tc.at); err != nil || off != tc.want {
			t.Errorf("at %d: offset %d, %v; want %d", tc.at, off, err, tc.want)
		}
	}
}
