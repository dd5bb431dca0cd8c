package gateway

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// remoteLog does not know its end without asking, as one on brokers that nobody
// has asked yet.
type remoteLog struct{ wal.Log }

func (remoteLog) LastEnd(wal.Partition) wal.LogEnd { return wal.LogEnd{} }

// TestTheTimeOfAnAnswerIsOneThatCanBeVouchedFor: a read that took a barrier is as
// of its own time; another, where nobody knows the log's end, as of the last record
// that is applied.
func TestTheTimeOfAnAnswerIsOneThatCanBeVouchedFor(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.wrap = func(l wal.Log) wal.Log { return remoteLog{l} }
	r.open("plays", "abstraction: kv\n")
	r.open("counts", "abstraction: counter\n")
	r.put("plays", "id", "k", "v")
	if _, err := r.counter.AddCount(t.Context(), &headwaterv1.AddCountRequest{Namespace: "counts", Counter: "c", Delta: 1}); err != nil {
		t.Fatal(err)
	}
	last := map[string]int64{}
	for _, name := range []string{"plays", "counts"} {
		records, err := r.readLog(&headwaterv1.ReadLogRequest{
			Namespace: name, From: &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Earliest_{Earliest: &headwaterv1.LogStart_Earliest{}}},
		})
		if err != nil || len(records) != 1 {
			t.Fatal(records, err)
		}
		last[name] = records[0].GetTime().AsTime().UnixMicro()
	}
	items := func(c headwaterv1.Consistency) (*headwaterv1.AsOf, error) {
		res, err := r.kv.GetItems(t.Context(), &headwaterv1.GetItemsRequest{Namespace: "plays", Id: "id", Consistency: c})
		return res.GetAsOf(), err
	}
	count := func(a headwaterv1.Count_Accuracy) (*headwaterv1.AsOf, error) {
		res, err := r.counter.GetCounts(t.Context(), &headwaterv1.GetCountsRequest{Namespace: "counts", Counters: []string{"c"}, Accuracy: a})
		return res.GetAsOf(), err
	}
	for _, c := range []struct {
		what, namespace string
		barrier         bool
		read            func() (*headwaterv1.AsOf, error)
	}{
		{"items", "plays", true, func() (*headwaterv1.AsOf, error) { return items(headwaterv1.Consistency_LATEST) }},
		{"items", "plays", false, func() (*headwaterv1.AsOf, error) { return items(headwaterv1.Consistency_EVENTUAL) }},
		{"count", "counts", true, func() (*headwaterv1.AsOf, error) { return count(headwaterv1.Count_ACCURATE) }},
		{"count", "counts", false, func() (*headwaterv1.AsOf, error) { return count(headwaterv1.Count_EVENTUAL) }},
	} {
		before := r.broker.Now().UnixMicro()
		asOf, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		at := asOf.GetTime().AsTime().UnixMicro()
		if c.barrier && at < before || !c.barrier && at != last[c.namespace] {
			t.Errorf("%s, barrier %v: as of %d; the read began at %d, the last record is of %d", c.what, c.barrier, at, before, last[c.namespace])
		}
	}
}

// awayLog is one whose brokers cannot be reached.
type awayLog struct{ wal.Log }

func (awayLog) Barrier(context.Context, wal.Partition) (wal.Offset, error) {
	return wal.NoOffset, fmt.Errorf("append barrier: %w", wal.ErrUnavailable)
}

// TestAReadThatCannotHaveItsBarrierSaysHowFarItIs: also where the log says at once
// that it cannot be had.
func TestAReadThatCannotHaveItsBarrierSaysHowFarItIs(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	r.wrap = func(l wal.Log) wal.Log { return awayLog{l} }
	r.open("plays", "abstraction: kv\nlog: { partitions: 1 }\n")
	r.open("counts", "abstraction: counter\nlog: { partitions: 1 }\n")
	r.put("plays", "id", "k", "v")
	for method, request := range map[string]string{
		"KeyValueService.GetItems": `{"namespace": "plays", "id": "id", "consistency": "LATEST"}`,
		"CounterService.GetCount":  `{"namespace": "counts", "counter": "c", "accuracy": "ACCURATE"}`,
	} {
		_, err := r.call(method, request)
		e := apierrors.From(err)
		if err == nil || e.Reason != apierrors.NotCaughtUp || e.Code != codes.Unavailable || e.Metadata["wanted"] == "" || e.Metadata["applied"] == "" {
			t.Errorf("%s: %v, %v", method, err, e.Metadata)
		}
	}
}
