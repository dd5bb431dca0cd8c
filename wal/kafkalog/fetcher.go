package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/headwater-db/headwater/wal"
)

const (
	// A reader that has more than pauseBytes waiting is not fetched for until it
	// is down to resumeBytes. What one fetch brings may come on top.
	pauseBytes  = 8 << 20
	resumeBytes = 2 << 20

	fetchPartitionBytes = 2 << 20
	fetchBytes          = 16 << 20

	// A batch is at most maxMessageBytes compressed; no writer of ours
	// compresses, so what unpacks to more is not ours.
	maxUnpackedBytes = 64 << 20
)

// fetcher is a fetching client shared by readers of different partitions of one
// topic. The first of a log lives as long as the log, so that opening a reader
// costs no connection; one more, while a partition has several readers, lives
// until its last reader is closed.
type fetcher struct {
	l      *Log
	cl     *kgo.Client
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned and the client is closed

	resident bool

	mu      sync.Mutex                // guards the rest
	readers map[wal.Partition]*reader // nil for a partition that was left in this pass
	passing context.CancelFunc        // ends the poll in progress
	open    int                       // readers that are not closed
	retired bool                      // the last reader is closed
}

// reader opens a reader at from, on a fetcher that has none of the partition.
func (l *Log) newReader(p wal.Partition, from wal.Offset) (*reader, error) {
	r := &reader{l: l, partition: p, next: from, ready: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.failure(); err != nil {
		return nil, err
	}
	for _, f := range l.fetchers {
		if f.add(r) {
			return r, nil
		}
	}
	opts := append(l.b.cfg.clientOpts(),
		// A partition that is added is looked up first; readers come and go.
		kgo.MetadataMinAge(10*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.info.Name: {}}),
		// A place that the log does not have is an error, never another place.
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.KeepControlRecords(), // they take offsets
		// A broker is asked one thing at a time: a partition that is added or
		// resumed waits for the answer about the others.
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(fetchBytes),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.MaxDecompressBatchBytes(maxUnpackedBytes),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("open fetching client: %w", err)
	}
	f := &fetcher{l: l, cl: cl, resident: len(l.fetchers) == 0, done: make(chan struct{}), readers: make(map[wal.Partition]*reader)}
	f.ctx, f.cancel = context.WithCancel(l.ctx)
	if !l.b.begin(f.run) {
		f.cancel()
		cl.Close()
		return nil, wal.ErrClosed
	}
	f.add(r)
	l.fetchers = append(l.fetchers, f)
	return r, nil
}

// add takes a reader unless the partition has one here.
func (f *fetcher) add(r *reader) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.readers[r.partition]; taken || f.retired {
		return false
	}
	f.readers[r.partition] = r
	f.open++
	r.f = f
	f.cl.AddConsumePartitions(map[string]map[int32]kgo.Offset{
		f.l.info.Name: {int32(r.partition): kgo.NewOffset().At(int64(r.next))},
	})
	return true
}

// remove lets a reader go, and the fetcher with the last.
func (f *fetcher) remove(r *reader) {
	f.mu.Lock()
	f.open--
	last := f.open == 0 && !f.resident
	if last {
		f.retired = true
	} else {
		// The poll in progress may still bring records of this partition, which
		// a new reader must not get: the place is taken until that poll is over.
		f.readers[r.partition] = nil
		parts := map[string][]int32{f.l.info.Name: {int32(r.partition)}}
		f.cl.RemoveConsumePartitions(parts)
		f.cl.ResumeFetchPartitions(parts)
		if f.passing != nil {
			f.passing()
		}
	}
	f.mu.Unlock()
	if !last {
		return
	}
	f.l.mu.Lock()
	for i, other := range f.l.fetchers {
		if other == f {
			f.l.fetchers = append(f.l.fetchers[:i], f.l.fetchers[i+1:]...)
			break
		}
	}
	f.l.mu.Unlock()
	f.cancel()
	<-f.done
}

// run polls until the fetcher or its log ends.
func (f *fetcher) run() {
	defer close(f.done)
	defer f.cl.Close()
	defer f.cancel()
	for f.ctx.Err() == nil {
		ctx, cancel := context.WithCancel(f.ctx)
		f.mu.Lock()
		f.passing = cancel
		for p, r := range f.readers {
			if r == nil {
				delete(f.readers, p)
			}
		}
		f.mu.Unlock()
		fetches := f.cl.PollFetches(ctx)
		cancel()
		for i := range fetches {
			for j := range fetches[i].Topics {
				f.route(&fetches[i].Topics[j])
			}
		}
	}
}

func (f *fetcher) route(t *kgo.FetchTopic) {
	if t.Topic != f.l.info.Name {
		return // the client's way to say that ctx ended
	}
	// Zero from brokers that do not tell.
	if id := wal.Incarnation(t.TopicID); !id.IsZero() && id != f.l.info.Incarnation {
		f.l.fail(fmt.Errorf("%w: opened %s, read from %s", wal.ErrIncarnation, f.l.info.Incarnation, id))
		return
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		f.mu.Lock()
		r := f.readers[wal.Partition(p.Partition)]
		f.mu.Unlock()
		if r == nil {
			continue
		}
		if len(p.Records) > 0 {
			r.put(p.Records)
		}
		if p.Err != nil {
			f.fetchError(r, p)
		}
	}
}

// fetchError tells a reader what the client can't get over by itself.
func (f *fetcher) fetchError(r *reader, p *kgo.FetchPartition) {
	var lost *kgo.ErrDataLoss
	switch {
	case errors.Is(p.Err, kerr.OffsetOutOfRange):
		// Which side it is, the reader asks when it gets there.
		r.stop(errOutOfRange)
	case errors.Is(p.Err, kerr.UnknownTopicOrPartition), errors.Is(p.Err, kerr.UnknownTopicID):
		f.l.b.soon() // the look decides whether the topic is gone
	case errors.As(p.Err, &lost):
		r.stop(r.corrupt(wal.Offset(lost.ConsumedTo), "the log was cut to "+wal.Offset(lost.ResetTo).String()+" after it had been read this far"))
	case errors.Is(p.Err, kgo.ErrClientClosed), errors.Is(p.Err, context.Canceled):
	case kerr.IsRetriable(p.Err) || kgo.IsRetryableBrokerErr(p.Err):
		f.l.b.soon() // the client tries again
	case errors.Is(p.Err, kerr.CorruptMessage):
		r.stop(r.corrupt(r.tail(), p.Err.Error()))
	default:
		r.stop(fmt.Errorf("fetch topic %s partition %d: %w", f.l.info.Name, r.partition, p.Err))
	}
}

var errOutOfRange = errors.New("offset is out of range")
