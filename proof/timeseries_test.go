package proof

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/deploy/engines/enginetest"
)

const trackSpace = "track"

// calls of events of one writer, in the order in which they were sent.
type tracker struct {
	name  string
	r     *rand.Rand
	calls []*headwaterv1.WriteEventRecordsSyncRequest
	acked int // of calls, from the first; at most one more was sent
}

// next is the call that is not acknowledged yet. Every third event of a call was in an
// earlier one and says something else now: it changes nothing.
func (k *tracker) next() *headwaterv1.WriteEventRecordsSyncRequest {
	if k.acked == len(k.calls) {
		n := len(k.calls)
		req := &headwaterv1.WriteEventRecordsSyncRequest{Namespace: trackSpace, Token: tokenNamed("%s %d", k.name, n)}
		for i := range 1 + k.r.IntN(30) {
			e := k.event(n, i, int64(n))
			if i%3 == 2 && n > 0 {
				old := k.calls[k.r.IntN(n)].GetEvents()[0]
				e = &headwaterv1.EventRecord{TimeSeriesId: old.GetTimeSeriesId(), EventTime: old.GetEventTime(), EventId: old.GetEventId(), Items: itemsOf(-1)}
			}
			req.Events = append(req.Events, e)
		}
		k.calls = append(k.calls, req)
	}
	return k.calls[k.acked]
}

func (k *tracker) event(n, i int, value int64) *headwaterv1.EventRecord {
	return &headwaterv1.EventRecord{
		TimeSeriesId: fmt.Sprintf("%s/%d", k.name, i%4), EventId: fmt.Sprintf("%d-%d", n, i), Items: itemsOf(value),
		EventTime: timestamppb.New(time.Date(2001, 1, 1, 0, 0, k.r.IntN(1_000_000), 0, time.UTC)),
	}
}

func itemsOf(value int64) []*headwaterv1.EventItem {
	return []*headwaterv1.EventItem{{Key: "n", Value: &headwaterv1.EventValue{Value: &headwaterv1.EventValue_Int{Int: value}}}}
}

// run writes until stop.
func (k *tracker) run(api headwaterv1.TimeSeriesServiceClient, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := k.write(api); err != nil && !lost(err) {
			return err
		}
	}
}

func lost(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return true
	}
	return false
}

// write sends the next call, and now and then one that was acknowledged.
func (k *tracker) write(api headwaterv1.TimeSeriesServiceClient) error {
	ctx, cancel := callContext()
	defer cancel()
	if k.acked > 0 && k.r.IntN(4) == 0 {
		res, err := api.WriteEventRecordsSync(ctx, k.calls[k.r.IntN(k.acked)])
		if err == nil && res.GetResult().GetDuplicate() != headwaterv1.WriteResult_YES {
			return fmt.Errorf("a copy of a call of %s is a new one", k.name)
		}
		return err
	}
	req := k.next()
	res, err := api.WriteEventRecordsSync(ctx, req)
	if err != nil {
		return err
	}
	if int(res.GetAccepted()) != len(req.GetEvents()) {
		return fmt.Errorf("of %d events %d were accepted: %v", len(req.GetEvents()), res.GetAccepted(), res)
	}
	k.acked++
	return nil
}

// verify reads every series of the writer: it has the events that were acknowledged, each
// once and as it was first written, and perhaps those of the next call.
func (k *tracker) verify(api headwaterv1.TimeSeriesServiceClient) error {
	want := make(map[string]map[string]int64)
	for _, req := range k.calls[:k.acked] {
		for _, e := range req.GetEvents() {
			id := fmt.Sprint(e.GetEventTime().AsTime().UnixMicro(), " ", e.GetEventId())
			events := want[e.GetTimeSeriesId()]
			if events == nil {
				events = make(map[string]int64)
				want[e.GetTimeSeriesId()] = events
			}
			if _, there := events[id]; !there {
				events[id] = e.GetItems()[0].GetValue().GetInt()
			}
		}
	}
	next := make(map[string]bool)
	for _, req := range k.calls[k.acked:] {
		for _, e := range req.GetEvents() {
			next[e.GetEventId()] = true
		}
	}
	for series, events := range want {
		got, err := readSeries(api, series, 1+k.r.IntN(500))
		if err != nil {
			return err
		}
		for id, value := range events {
			if v, there := got[id]; !there || v != value {
				return fmt.Errorf("series %s: event %s is %d (there: %v), and was written with %d", series, id, v, there, value)
			}
			delete(got, id)
		}
		for id := range got {
			var at int64
			var name string
			if _, err := fmt.Sscan(id, &at, &name); err != nil || !next[name] {
				return fmt.Errorf("series %s: event %s was never written", series, id)
			}
		}
	}
	return nil
}

func readSeries(api headwaterv1.TimeSeriesServiceClient, series string, page int) (map[string]int64, error) {
	size := int32(page)
	req := &headwaterv1.ReadEventRecordsRequest{
		Namespace: trackSpace, TimeSeriesId: series, PageSize: &size, Consistency: headwaterv1.Consistency_LATEST,
		Interval: &headwaterv1.TimeInterval{Start: timestamppb.New(time.Unix(0, 0)), End: timestamppb.New(time.Unix(2e9, 0))},
	}
	got := make(map[string]int64)
	var times []int64
	for {
		ctx, cancel := callContext()
		res, err := api.ReadEventRecords(ctx, req)
		cancel()
		if err != nil {
			return nil, err
		}
		for _, e := range res.GetRecords() {
			at := e.GetEventTime().AsTime().UnixMicro()
			id := fmt.Sprint(at, " ", e.GetEventId())
			if _, twice := got[id]; twice || len(e.GetItems()) != 1 {
				return nil, fmt.Errorf("series %s: event %s is read twice, or has %d items", series, id, len(e.GetItems()))
			}
			got[id], times = e.GetItems()[0].GetValue().GetInt(), append(times, -at)
		}
		if req.PageToken = res.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	if !slices.IsSorted(times) {
		return nil, fmt.Errorf("series %s is not read newest first", series)
	}
	return got, nil
}

// TestEventsOverKills kills the binary while events are written, copied and contradicted
// and the stores of their namespace are changed: what was acknowledged is there once, as it
// was first written.
func TestEventsOverKills(t *testing.T) { eventsOverKills(t, storeRounds(), []string{"pebble"}) }

// clickhouseType is a store in the cluster of clickhouseConfig, as a document has it.
const clickhouseType = "clickhouse, cluster: main"

// clickhouseConfig is a configuration file with a cluster on a real ClickHouse.
func clickhouseConfig(t *testing.T) string {
	t.Helper()
	url := enginetest.Need(t, "HEADWATER_TEST_CLICKHOUSE_NATIVE", "clickhouse")
	config := filepath.Join(t.TempDir(), "headwater.yaml")
	if err := os.WriteFile(config, []byte("clusters:\n  main: { type: clickhouse, url: '"+url+"' }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// TestEngineEventsOverKills is TestEventsOverKills with stores on a real ClickHouse among those
// that are promoted.
func TestEngineEventsOverKills(t *testing.T) {
	config := clickhouseConfig(t)
	rounds := 6
	if long() {
		rounds = 100
	}
	eventsOverKills(t, rounds, []string{clickhouseType, "pebble"}, "--config", config)
}

func eventsOverKills(t *testing.T, rounds int, kinds []string, args ...string) {
	seed, r := seedOf(t)
	op := newOperator(map[string]string{trackSpace: "namespace: " + trackSpace + "\nabstraction: timeseries\nlog: {partitions: 3}\ntimeseries: {slice: 72h}\n"})
	op.kinds = kinds
	dir := t.TempDir()
	p := start(t, dir, args...)
	op.begin(t, p)
	var writers []*tracker
	for i := range 4 {
		writers = append(writers, &tracker{name: fmt.Sprint("w", i), r: newRand(seed, 0, 50+i)})
	}
	for round := range rounds {
		c := connect(t, p.grpc)
		api := headwaterv1.NewTimeSeriesServiceClient(c.cc)
		stop := make(chan struct{})
		operated := op.run(c, seed, round, stop)
		var work sync.WaitGroup
		for _, k := range writers {
			work.Go(func() {
				if err := k.run(api, stop); err != nil {
					t.Error(err)
				}
			})
		}
		victim := p
		time.AfterFunc(time.Duration(20+r.IntN(300))*time.Millisecond, func() {
			victim.signal(t, syscall.SIGKILL)
			close(stop)
		})
		work.Wait()
		<-p.gone
		<-operated
		c.close()
		p = start(t, dir, args...)
		c = connect(t, p.grpc)
		api = headwaterv1.NewTimeSeriesServiceClient(c.cc)
		for _, k := range writers {
			if err := k.verify(api); err != nil {
				t.Fatalf("round %d: %v\n%s", round, err, p.said())
			}
		}
		if err := op.check(c); err != nil {
			t.Fatalf("round %d: %v\n%s", round, err, p.said())
		}
		c.close()
	}
	calls := 0
	for _, k := range writers {
		calls += k.acked
	}
	t.Logf("%d kills, %d calls of events acknowledged", rounds, calls)
	mustHave(t, calls >= rounds, "acknowledged call of events for each kill")
	t.Logf("steps: %v", op.done)
}
