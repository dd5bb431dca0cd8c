package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// Log is one topic, in one life. Once it has found its topic deleted, made
// again, or with other partitions, every call says so.
type Log struct {
	b     *Broker
	info  wal.TopicInfo
	parts []*part

	// doubts are looks in a row that did not find the topic as it was opened,
	// since doubted. Only looks use them, and one runs at a time.
	doubts  int
	doubted time.Time

	worth  worth
	failed atomic.Pointer[error]
	ctx    context.Context // ends when failed is set
	stop   context.CancelFunc

	mu       sync.Mutex // guards fetchers
	fetchers []*fetcher
}

var _ wal.Log = (*Log)(nil)

// part is what a Log keeps of one partition.
type part struct {
	// high is one above the highest offset known to be taken. The next
	// acknowledgement is at or above it, or the topic is not what it was.
	high atomic.Int64
	// others is one above the highest offset that was taken and not for this process; of what
	// lies above high nothing is known.
	others atomic.Int64
	// bound is set once an acknowledgement is known to be of this life: from
	// then on high tells another life at once.
	bound atomic.Bool
	// start is what this process has trimmed to: what was fetched before it is
	// not read after it.
	start       atomic.Int64
	outstanding atomic.Int64 // records handed over and not settled
	starved     atomic.Int64 // when the in-sync replicas became too few, nanoseconds; 0 = they are enough
	bytes       atomic.Int64 // of one replica; -1 = not known
	leader      atomic.Int32 // as of the last look; -1 = there is none
	edges       atomic.Pointer[edges]
	barrier     shared[wal.Offset]
	buffered    ages
}

// newLog returns the log of a topic that has the given settings.
func newLog(b *Broker, name string, topic *kmsg.MetadataResponseTopic, settings map[string]string) *Log {
	l := &Log{
		b:     b,
		info:  wal.TopicInfo{Name: name, Partitions: len(topic.Partitions), Incarnation: topic.TopicID},
		parts: make([]*part, len(topic.Partitions)),
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	l.worth.now.Store(&replication{})
	l.noteSettings(settings)
	for i := range l.parts {
		p := &part{}
		p.bytes.Store(-1)
		p.leader.Store(-1)
		p.edges.Store(&edges{})
		p.barrier.run = func(done func(wal.Offset, error)) { l.appendBarrier(wal.Partition(i), done) }
		l.parts[i] = p
	}
	l.noteReplicas(topic, time.Now())
	return l
}

// Info describes the topic as it was opened.
func (l *Log) Info() wal.TopicInfo { return l.info }

// failure returns why the log can't be used any more, or nil.
func (l *Log) failure() error {
	if err := l.failed.Load(); err != nil {
		return fmt.Errorf("topic %s: %w", l.info.Name, *err)
	}
	return nil
}

// fail ends the log; the first reason stays.
func (l *Log) fail(err error) {
	if err == nil || !l.failed.CompareAndSwap(nil, &err) {
		return
	}
	l.stop()
	if !errors.Is(err, wal.ErrClosed) {
		l.b.log.Error("kafka topic can't be used any more", "topic", l.info.Name, "error", err)
	}
}

// mismatch compares the topic as the cluster has it with what was opened.
func (l *Log) mismatch(t *kmsg.MetadataResponseTopic) error {
	if errors.Is(kerr.ErrorForCode(t.ErrorCode), kerr.UnknownTopicOrPartition) {
		return fmt.Errorf("%w: %w: it was deleted", wal.ErrIncarnation, wal.ErrTopicNotFound)
	}
	if id := wal.Incarnation(t.TopicID); id != l.info.Incarnation {
		return fmt.Errorf("%w: opened %s, found %s", wal.ErrIncarnation, l.info.Incarnation, id)
	}
	// Partitions are never taken away: fewer is an old answer.
	if n := len(t.Partitions); n > len(l.parts) {
		return fmt.Errorf("%w: opened with %d partitions, found %d", wal.ErrPartitionCount, len(l.parts), n)
	}
	return nil
}

// noteReplicas notes how many replicas there are, who leads, and which partitions
// can't be written, and reports whether that is all of them.
func (l *Log) noteReplicas(t *kmsg.MetadataResponseTopic, now time.Time) (all bool) {
	replicas := 0 // of the partition with the fewest; an answer may leave them out
	for i := range t.Partitions {
		if n := len(t.Partitions[i].Replicas); n > 0 && (replicas == 0 || n < replicas) {
			replicas = n
		}
	}
	if replicas > 0 {
		l.worth.change(func(r *replication) { r.replicas = replicas })
	}
	required := l.worth.now.Load().required()
	all = true
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if p.Partition < 0 || int(p.Partition) >= len(l.parts) {
			continue
		}
		leader := p.Leader
		if p.ErrorCode == kerr.LeaderNotAvailable.Code {
			leader = -1
		}
		l.parts[p.Partition].leader.Store(leader)
		starved := &l.parts[p.Partition].starved
		if leader >= 0 && len(p.ISR) >= min(required, len(p.Replicas)) {
			starved.Store(0)
			all = false
			continue
		}
		starved.CompareAndSwap(0, now.UnixNano())
	}
	return all
}

// confirm returns nil if the topic was what was opened at some time after the
// call: what the cluster answered before it was then about this life.
func (l *Log) confirm(ctx context.Context) error {
	err := l.b.retry(ctx, func() error {
		seen, err := l.b.looks.do(ctx)
		if failed := l.failure(); failed != nil {
			return failed
		}
		if err == nil && seen[l.info.Name] != l.info.Incarnation {
			err = errNotYet
		}
		return err
	})
	if err != nil {
		return requestError(ctx, err)
	}
	return nil
}

func (l *Log) part(p wal.Partition) (*part, error) {
	if err := l.failure(); err != nil {
		return nil, err
	}
	if int64(p) >= int64(len(l.parts)) {
		return nil, fmt.Errorf("topic %s has %d partitions: %w: %d", l.info.Name, len(l.parts), wal.ErrNoPartition, p)
	}
	return l.parts[p], nil
}

// loadEdges reads the edges of every partition; the end is for the check of
// acknowledgements.
func (l *Log) loadEdges(ctx context.Context) error {
	for i, p := range l.parts {
		at := l.b.Now().UnixMicro()
		start, err := l.list(ctx, wal.Partition(i), listStart)
		if err != nil {
			return fmt.Errorf("read start of partition %d: %w", i, err)
		}
		end, err := l.list(ctx, wal.Partition(i), listEnd)
		if err != nil {
			return fmt.Errorf("read end of partition %d: %w", i, err)
		}
		p.high.Store(int64(end))
		p.bound.Store(end > 0)
		p.noteEdges(start, end, at)
	}
	return nil
}

const (
	listStart = -2
	listEnd   = -1
)

// list asks the partition's leader for the offset at listStart, listEnd, or a
// time in milliseconds; NoOffset when no record is that late.
func (l *Log) list(ctx context.Context, p wal.Partition, at int64) (wal.Offset, error) {
	var off wal.Offset
	unknown := 0
	err := l.b.retry(ctx, func() error {
		req := kmsg.NewPtrListOffsetsRequest()
		req.ReplicaID = -1
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = l.info.Name
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition = int32(p)
		rp.CurrentLeaderEpoch = -1
		rp.Timestamp = at
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		resp, err := req.RequestWith(ctx, l.b.cl)
		if err != nil {
			return err
		}
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return errors.New("offsets of one partition were asked for and not given")
		}
		got := &resp.Topics[0].Partitions[0]
		off = wal.Offset(got.Offset)
		err = kerr.ErrorForCode(got.ErrorCode)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			l.b.soon() // a look finds out whether it is gone
			if failed := l.failure(); failed != nil {
				return failed
			}
			if unknown++; unknown < unknownTries {
				return errNotYet
			}
		}
		return err
	})
	if err != nil {
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			return 0, fmt.Errorf("%w: %w", wal.ErrUnavailable, err)
		}
		return 0, requestError(ctx, err)
	}
	if off < 0 && at < 0 {
		return 0, fmt.Errorf("leader gave offset %d", off)
	}
	return off, nil
}

// Bounds asks the leader for the edges. Bytes is up to 10 s old, and of one
// replica.
func (l *Log) Bounds(ctx context.Context, p wal.Partition) (wal.Bounds, error) {
	part, err := l.part(p)
	if err != nil {
		return wal.Bounds{}, err
	}
	b, at := wal.Bounds{Bytes: part.bytes.Load()}, l.b.Now().UnixMicro()
	// The start first: it never passes an end that is read later.
	if b.Start, err = l.list(ctx, p, listStart); err == nil {
		b.End, err = l.list(ctx, p, listEnd)
	}
	if err == nil {
		err = l.confirm(ctx)
	}
	if err != nil {
		return wal.Bounds{}, l.explain("read bounds", p, err)
	}
	part.noteEdges(b.Start, b.End, at)
	return b, nil
}

// OffsetAt returns the first offset whose LogTime is at or after t, or the end.
// Kafka keeps milliseconds, so t is rounded up to one.
func (l *Log) OffsetAt(ctx context.Context, p wal.Partition, t int64) (wal.Offset, error) {
	if _, err := l.part(p); err != nil {
		return 0, err
	}
	// Negative times mean something else to Kafka.
	ms := max(0, (t+999)/1000)
	end, err := l.list(ctx, p, listEnd)
	var off wal.Offset
	if err == nil {
		off, err = l.list(ctx, p, ms)
	}
	if err == nil {
		err = l.confirm(ctx)
	}
	if err != nil {
		return 0, l.explain("find offset by time", p, err)
	}
	if off < 0 {
		return end, nil
	}
	return off, nil
}

// Trim deletes what is below before, on the partition's leader; the other
// replicas follow. Kafka names the topic, not its life: a topic that is made
// again between the check and the request would be trimmed.
func (l *Log) Trim(ctx context.Context, p wal.Partition, before wal.Offset) error {
	b, err := l.Bounds(ctx, p)
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	if before <= b.Start {
		return nil
	}
	if before > b.End {
		return l.explain("trim", p, fmt.Errorf("%w: to %d, the log ends at %d", wal.ErrBeyondEnd, before, b.End))
	}
	err = l.b.retry(ctx, func() error {
		offsets := make(kadm.Offsets)
		offsets.AddOffset(l.info.Name, int32(p), int64(before), -1)
		resp, err := l.b.adm.DeleteRecords(ctx, offsets)
		if err != nil {
			return err
		}
		got, ok := resp.Lookup(l.info.Name, int32(p))
		if !ok {
			return errors.New("deletion was asked for and not answered")
		}
		return got.Err
	})
	if errors.Is(err, kerr.OffsetOutOfRange) {
		err = fmt.Errorf("%w: %w", wal.ErrBeyondEnd, err)
	}
	if err != nil {
		return l.explain("trim", p, requestError(ctx, err))
	}
	start := &l.parts[p].start
	for cur := start.Load(); cur < int64(before) && !start.CompareAndSwap(cur, int64(before)); cur = start.Load() {
	}
	return nil
}

// explain names the place, and gives the log's own failure precedence.
func (l *Log) explain(what string, p wal.Partition, err error) error {
	if failed := l.failure(); failed != nil {
		return failed
	}
	return fmt.Errorf("%s: topic %s partition %d: %w", what, l.info.Name, p, err)
}
