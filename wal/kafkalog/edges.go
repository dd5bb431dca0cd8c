package kafkalog

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// edges are a partition's bounds as its leader told them at some time.
type edges struct {
	start, end wal.Offset
	at         int64 // before they were asked for, microseconds since 1970
}

// LastBounds is what is known of the edges without asking: what the leader told
// last, and what this process has appended and trimmed since. The leaders of all
// open topics are asked every Config.CheckInterval; a partition whose leader does
// not answer keeps what was known.
func (l *Log) LastBounds(p wal.Partition) (b wal.Bounds, at int64) {
	if int64(p) >= int64(len(l.parts)) {
		return wal.Bounds{Bytes: -1}, 0
	}
	part := l.parts[p]
	e := part.edges.Load()
	b = wal.Bounds{Bytes: part.bytes.Load(), Start: max(e.start, wal.Offset(part.start.Load()))}
	b.End = max(b.Start, e.end, wal.Offset(part.high.Load()))
	return b, e.at
}

// LastEnd is the end that LastBounds tells.
func (l *Log) LastEnd(p wal.Partition) wal.LogEnd {
	part := l.parts[p]
	e := part.edges.Load()
	return wal.LogEnd{End: max(e.end, wal.Offset(part.high.Load())), At: e.at}
}

// noteEdges keeps what the leader told. An older answer does not take the place
// of a newer one: within a life of the topic both edges only rise.
func (p *part) noteEdges(start, end wal.Offset, at int64) {
	for {
		was := p.edges.Load()
		is := &edges{start: max(was.start, start), end: max(was.end, end), at: max(was.at, at)}
		if p.edges.CompareAndSwap(was, is) {
			return
		}
	}
}

// watchEdges keeps the edges of the open topics until Close.
func (b *Broker) watchEdges() {
	ticker := time.NewTicker(b.cfg.CheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.readEdges()
		case <-b.ctx.Done():
			return
		}
	}
}

// place is a partition of an open topic.
type place struct {
	l *Log
	p wal.Partition
}

// readEdges asks every leader for the edges of all that it leads: two requests
// each, all leaders at once. A leader that does not answer, and a partition that
// has none, hold nobody up.
func (b *Broker) readEdges() {
	led := make(map[int32][]place)
	for _, l := range b.openLogs() {
		for i, p := range l.parts {
			if leader := p.leader.Load(); leader >= 0 {
				led[leader] = append(led[leader], place{l, wal.Partition(i)})
			}
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.cfg.CheckTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for leader, places := range led {
		wg.Go(func() {
			if err := b.askLeader(ctx, leader, places); err != nil && b.ctx.Err() == nil {
				b.log.Debug("read the edges of what a broker leads", "broker", leader, "error", err)
			}
		})
	}
	wg.Wait()
}

func (b *Broker) askLeader(ctx context.Context, leader int32, places []place) error {
	at := b.Now().UnixMicro()
	// The starts first: none passes an end that is read later.
	starts, err := b.listLed(ctx, leader, places, listStart)
	if err != nil {
		return err
	}
	ends, err := b.listLed(ctx, leader, places, listEnd)
	if err != nil {
		return err
	}
	// Topics were asked for by name: the answer is of this life if the topic is
	// still the same after it.
	seen, err := b.looks.do(ctx)
	if err != nil {
		return err
	}
	for i, place := range places {
		if start, end := starts[i], ends[i]; start >= 0 && end >= start && seen[place.l.info.Name] == place.l.info.Incarnation {
			place.l.parts[place.p].noteEdges(start, end, at)
		}
	}
	return nil
}

// listLed asks a broker for one offset of each place: at is listStart or listEnd.
// The answer has NoOffset where the broker does not say.
func (b *Broker) listLed(ctx context.Context, leader int32, places []place, at int64) ([]wal.Offset, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	topics := make(map[string]int) // to its index in the request
	type key struct {
		topic     string
		partition int32
	}
	index := make(map[key]int, len(places))
	out := make([]wal.Offset, len(places))
	for i, place := range places {
		name := place.l.info.Name
		t, ok := topics[name]
		if !ok {
			t = len(req.Topics)
			topics[name] = t
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = name
			req.Topics = append(req.Topics, rt)
		}
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.CurrentLeaderEpoch, rp.Timestamp = int32(place.p), -1, at
		req.Topics[t].Partitions = append(req.Topics[t].Partitions, rp)
		index[key{name, rp.Partition}] = i
		out[i] = wal.NoOffset
	}
	answer, err := b.cl.Broker(int(leader)).Request(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := answer.(*kmsg.ListOffsetsResponse)
	if !ok {
		return nil, errors.New("offsets were asked for and not given")
	}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			i, asked := index[key{rt.Topic, rp.Partition}]
			switch {
			case !asked:
			case rp.ErrorCode == 0:
				out[i] = wal.Offset(rp.Offset)
			case errors.Is(kerr.ErrorForCode(rp.ErrorCode), kerr.NotLeaderForPartition):
				b.soon() // a look finds the new leader
			}
		}
	}
	return out, nil
}
