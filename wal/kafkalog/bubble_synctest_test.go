package kafkalog

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
)

// In these tests time is virtual: a sleep ends when every goroutine waits.

// bubble is a cluster on a virtual network that can be stopped and started.
type bubble struct {
	t       *testing.T
	net     kfake.VirtualNetwork
	dir     string
	cluster *kfake.Cluster
}

func newBubble(t *testing.T) *bubble {
	u := &bubble{t: t, dir: t.TempDir()}
	u.start()
	t.Cleanup(func() { u.stop() })
	return u
}

func (u *bubble) start() {
	u.t.Helper()
	var err error
	u.cluster, err = kfake.NewCluster(kfake.NumBrokers(3), kfake.Ports(9092, 9093, 9094),
		kfake.ListenFn(u.net.Listen), kfake.DataDir(u.dir))
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *bubble) stop() { u.cluster.Close() }

func (u *bubble) open(t *testing.T, partitions int) *Log {
	return createLog(t, openBroker(t, Config{
		Brokers: u.cluster.ListenAddrs(),
		Opts:    []kgo.Opt{kgo.Dialer(u.net.DialContext)},
	}), "headwater.kv.a.1", partitions)
}

func TestWaitersShareBarriersThatBeganAfterThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newBubble(t)
		l := u.open(t, 1)
		appendOne(t, l, 0, record(0))
		seen, thaw := freezeProduce(u.cluster)
		barrier := func(to chan wal.Offset) {
			off, err := l.Barrier(t.Context(), 0)
			if err != nil {
				t.Error(err)
			}
			to <- off
		}
		first, rest := make(chan wal.Offset, 1), make(chan wal.Offset, 50)
		go barrier(first)
		<-seen
		for range cap(rest) {
			go barrier(rest)
		}
		// One who stops waiting takes nothing from the others.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Barrier(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		thaw()
		if off := <-first; off != 1 {
			t.Errorf("the first barrier is at %d", off)
		}
		for range cap(rest) {
			if off := <-rest; off != 2 {
				t.Errorf("a barrier is at %d", off)
			}
		}
		b, err := l.Bounds(t.Context(), 0)
		if err != nil || b.End != 3 {
			t.Errorf("51 waiters made %d records, %v", b.End-1, err)
		}
		var rec wal.Record
		if err := wal.DecodeRecord(readN(t, l, 0, 2, 1)[0].Data, &rec); err != nil || rec.Kind != wal.KindBarrier {
			t.Errorf("barrier record: kind %v, %v", rec.Kind, err)
		}
		if off := appendOne(t, l, 0, record(1)); off != 3 {
			t.Errorf("appended at %d", off)
		}
		if off, err := l.Barrier(t.Context(), 0); err != nil || off != 4 {
			t.Errorf("a later barrier is at %d, %v", off, err)
		}
	})
}

func TestAReaderThatIsNotReadHoldsABoundedAmount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newBubble(t).open(t, 2)
		const n = 48
		for i := range n {
			appendOne(t, l, 0, append(record(i), make([]byte, 1<<20)...))
			appendOne(t, l, 1, record(i))
		}
		slow, err := l.Read(t.Context(), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer slow.Close()
		r := slow.(*reader)
		read := 0
		for read < n {
			// The fetcher brings what it will. Time must pass for it: a partition that
			// is added after the client's first look at the topic waits for the next.
			time.Sleep(time.Second)
			synctest.Wait()
			r.mu.Lock()
			bytes, paused := r.bytes, r.paused
			r.mu.Unlock()
			if bytes > pauseBytes+fetchPartitionBytes+maxMessageBytes {
				t.Fatalf("%d bytes wait", bytes)
			}
			if read == 0 {
				if !paused {
					t.Fatalf("with %d of %d MiB waiting the partition is still fetched", bytes>>20, n)
				}
				// The partition beside it flows.
				readN(t, l, 1, 0, n)
			}
			entries, err := slow.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Offset != wal.Offset(read) {
					t.Fatalf("offset %d at place %d", e.Offset, read)
				}
				read++
			}
		}
		if r.bytes != 0 || len(r.queue) != 0 {
			t.Fatalf("%d bytes in %d records are left", r.bytes, len(r.queue))
		}
	})
}

func TestAnOutageIsSeenRiddenOutAndOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newBubble(t)
		l := u.open(t, 1)
		b := l.b
		appendOne(t, l, 0, record(0))
		if err := b.Health(); err != nil {
			t.Fatal(err)
		}
		r, err := l.Read(t.Context(), 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		u.stop()

		ridden := make(chan wal.Result, 1)
		go func() { ridden <- l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Data: record(1)}})[0] }()
		next := make(chan []wal.Entry, 1)
		go func() {
			entries, err := r.Next(t.Context())
			if err != nil {
				t.Error(err)
			}
			next <- entries
		}()
		time.Sleep(b.cfg.CheckInterval + b.cfg.CheckTimeout)
		if err := b.Health(); !errors.Is(err, wal.ErrUnavailable) {
			t.Fatalf("health in an outage: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if res := l.Append(ctx, wal.Sync, []wal.NewEntry{{Data: record(2)}})[0]; !errors.Is(res.Err, wal.ErrUnknown) {
			t.Fatalf("append at its deadline: %v", res.Err)
		}
		cancel()
		time.Sleep(b.cfg.ShedAfter)
		res := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Data: record(3)}})[0]
		if !errors.Is(res.Err, wal.ErrNotAppended) || !errors.Is(res.Err, wal.ErrUnavailable) {
			t.Fatalf("append in a long outage: %v", res.Err)
		}
		if _, err := l.Barrier(t.Context(), 0); !errors.Is(err, wal.ErrUnavailable) {
			t.Fatalf("barrier in a long outage: %v", err)
		}

		u.start()
		if res := <-ridden; res.Err != nil || res.Offset != 1 {
			t.Fatalf("the append that waited: %+v", res)
		}
		if entries := <-next; len(entries) == 0 || entries[0].Offset != 1 || string(entries[0].Data) != string(record(1)) {
			t.Fatalf("the reader that waited: %+v", entries)
		}
		time.Sleep(2 * b.cfg.CheckInterval)
		if err := b.Health(); err != nil {
			t.Fatalf("health after it: %v", err)
		}
		// The one whose caller was told unknown landed; the refused one did not.
		if off := appendOne(t, l, 0, record(4)); off != 3 {
			t.Fatalf("appended at %d", off)
		}
	})
}

func TestOpenGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var net kfake.VirtualNetwork
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := Open(ctx, Config{Brokers: []string{"localhost:9092"}, Opts: []kgo.Opt{kgo.Dialer(net.DialContext)}})
		if !errors.Is(err, wal.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	})
}
