package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/deploy/engines/enginetest"
	"github.com/headwater-db/headwater/timeseries/clickhousets"
)

// onClickHouse is a process with a real ClickHouse as its cluster main.
func onClickHouse(t *testing.T, dir string) *Server {
	t.Helper()
	return withCluster(t, dir, Cluster{Type: clickhouseType, URL: enginetest.Need(t, "HEADWATER_TEST_CLICKHOUSE", "clickhouse")})
}

// withCluster is a process with a cluster main.
func withCluster(t *testing.T, dir string, main Cluster) *Server {
	t.Helper()
	clusters := map[string]Cluster{"main": main}
	if splitAll {
		s := splits.open(t, dir, clusters)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Open(ctx, Config{DataDir: dir, Demo: true, Clusters: clusters})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReady(ctx); err != nil {
		t.Error(errors.Join(err, s.Close()))
		t.FailNow()
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

const wholeTime = `"interval":{"start":"2001-01-01T00:00:00Z","end":"2001-02-01T00:00:00Z"}`

// TestEngineClickHouseEvents goes through every call, and through a restart.
func TestEngineClickHouseEvents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := onClickHouse(t, dir)
	is(t, "make", applyDoc(t, s, "namespace: routes\nabstraction: timeseries\nlog: {partitions: 3}\nstorage: [{role: PRIMARY, type: clickhouse, cluster: main}]\n"))
	day := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 30 {
		is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"routes","events":[`+event(fmt.Sprint("s", i%5), day.Add(time.Duration(i)*3*time.Hour), fmt.Sprint(i), i)+`]}`), "accepted", "1")
	}
	for range 2 {
		if n := len(allEvents(t, s, "routes", "s3")); n != 6 {
			t.Errorf("s3 has %d events, not 6", n)
		}
		r := ts(t, s, "SearchEventRecords", `{"namespace":"routes",`+wholeTime+`,"query":{"range":{"key":"k","lower":{"int":"25"}}}}`)
		if n := len(r.field(t, "records").([]any)); n != 5 {
			t.Errorf("a search finds %d events, not 5: %s", n, r)
		}
		expectBody(t, ts(t, s, "AggregateEventRecords", `{"namespace":"routes",`+wholeTime+`,"aggregations":[{"name":"x","op":"SUM","key":"k"}]}`), http.StatusOK, `"values":{"x":435}`)
		if list := ts(t, s, "ListTimeSeries", `{"namespace":"routes"}`).field(t, "series").([]any); len(list) != 5 {
			t.Errorf("%d series, not 5", len(list))
		}
		expectSlices(t, s, "routes", "OPEN 8", "OPEN 8", "OPEN 8", "OPEN 6")
		closeServer(t, s)
		s = onClickHouse(t, dir)
	}
	is(t, "delete", ts(t, s, "DeleteTimeSeries", `{"namespace":"routes","timeSeriesId":"s3"}`), "result.duplicate", "NO")
	if n := len(allEvents(t, s, "routes", "s3")); n != 0 {
		t.Errorf("s3 has %d events after its deletion", n)
	}
	expectBody(t, applyDoc(t, s, "namespace: nowhere\nabstraction: timeseries\nstorage: [{role: PRIMARY, type: clickhouse, cluster: other}]\n"), http.StatusBadRequest, "no cluster \\\"other\\\"; it has main")
	expectBody(t, applyDoc(t, s, "namespace: nowhere\nabstraction: timeseries\nstorage: [{role: PRIMARY, type: clickhouse}]\n"), http.StatusBadRequest, "cluster: is missing")
}

// TestEngineClickHouseShadowTakesOver moves a namespace from Pebble to ClickHouse and back.
func TestEngineClickHouseShadowTakesOver(t *testing.T) {
	t.Parallel()
	migrates(t, onClickHouse, "track", "type: clickhouse, cluster: main", "dataset: 'it''s one'", func(s *Server) {
		is(t, "all is applied", ts(t, s, "ListTimeSeries", `{"namespace":"track","consistency":"LATEST"}`))
	})
}

// TestEngineClickHouseSlicesCloseAndAreDropped is TestSlicesCloseAndAreDropped on ClickHouse.
func TestEngineClickHouseSlicesCloseAndAreDropped(t *testing.T) {
	t.Parallel()
	s := onClickHouse(t, t.TempDir())
	slicesCloseAndAreDropped(t, s, "clickhouse, cluster: main")
}

// cuttable is a way to a server that can be cut.
type cuttable struct {
	l    net.Listener
	to   string
	mu   sync.Mutex
	cut  bool
	open map[net.Conn]bool
}

// cuttableClickHouse is a way to the real ClickHouse, and the URL that goes by it.
func cuttableClickHouse(t *testing.T) (*cuttable, string) {
	t.Helper()
	at, err := url.Parse(enginetest.Need(t, "HEADWATER_TEST_CLICKHOUSE", "clickhouse"))
	if err != nil {
		t.Fatal(err)
	}
	way := newCuttable(t, at.Host)
	at.Host = way.l.Addr().String()
	return way, at.String()
}

func newCuttable(t *testing.T, to string) *cuttable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cuttable{l: l, to: to, open: make(map[net.Conn]bool)}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil || !c.keep(in, out) {
				_ = in.Close() // it is cut
				if out != nil {
					_ = out.Close()
				}
				continue
			}
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				work.Go(func() {
					_, _ = io.Copy(way[0], way[1]) // it ends when either side does
					_, _ = way[0].Close(), way[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		c.set(true)
		_ = l.Close() // ends the loop
		work.Wait()
	})
	return c
}

func (c *cuttable) keep(conns ...net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range conns {
		c.open[x] = true
	}
	return !c.cut
}

// set cuts the way, or mends it.
func (c *cuttable) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
	if cut {
		for x := range c.open {
			_ = x.Close() // it may be closed
		}
		clear(c.open)
	}
}

// TestEngineClickHouseAway: writes go on while ClickHouse does not answer, also over a restart,
// reads say what is missing, other namespaces are served, and what was written is there once when
// it is back.
func TestEngineClickHouseAway(t *testing.T) {
	t.Parallel()
	way, at := cuttableClickHouse(t)
	dir := t.TempDir()
	s := withCluster(t, dir, Cluster{Type: clickhouseType, URL: at})
	is(t, "make", applyDoc(t, s, "namespace: routes\nabstraction: timeseries\nlog: {partitions: 2}\nstorage: [{role: PRIMARY, type: clickhouse, cluster: main}]\n"))
	day := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	written := 0
	write := func(s *Server) {
		t.Helper()
		for range 2 { // and a copy of it
			is(t, "write", ts(t, s, "WriteEventRecordsSync", fmt.Sprintf(`{"namespace":"routes","events":[%s],"token":{"key":"k%d"}}`,
				event("s", day.Add(time.Duration(written)*time.Minute), fmt.Sprint(written), written), written)), "accepted", "1")
		}
		written++
	}
	for range 5 {
		write(s)
	}
	if n := len(allEvents(t, s, "routes", "s")); n != 5 {
		t.Fatalf("%d events, not 5", n)
	}
	way.set(true)
	for range 20 {
		write(s)
	}
	const read = `{"namespace":"routes","timeSeriesId":"s",` + wholeTime + `,"consistency":"EVENTUAL"}`
	refused(t, "read", ts(t, s, "ReadEventRecords", read), http.StatusServiceUnavailable, "HW-1516", "")
	refused(t, "read of one's writes", ts(t, s, "ReadEventRecords", strings.Replace(read, "EVENTUAL", "READ_YOUR_WRITES", 1)), http.StatusServiceUnavailable, "HW-1504", "")
	if r := send(t, s, "PUT", "/v1/kv/demo-kv/a/b", "1"); r.status != http.StatusNoContent {
		t.Errorf("another namespace: %s", r)
	}
	expectBody(t, send(t, s, "GET", "/v1/kv/demo-kv/a/b", ""), http.StatusOK, "1")
	closeServer(t, s)
	s = withCluster(t, dir, Cluster{Type: clickhouseType, URL: at})
	// A write of before the restart is in the log, and nobody knows its token yet.
	is(t, "a copy", ts(t, s, "WriteEventRecordsSync", fmt.Sprintf(`{"namespace":"routes","events":[%s],"token":{"key":"k10"}}`, event("s", day.Add(10*time.Minute), "10", 10))),
		"accepted", "1", "result.duplicate", "UNKNOWN")
	for range 20 {
		write(s)
	}
	way.set(false)
	until(t, "what was written is read", func() bool {
		return ts(t, s, "ReadEventRecords", strings.Replace(read, "EVENTUAL", "LATEST", 1)).status == http.StatusOK
	})
	if n := len(allEvents(t, s, "routes", "s")); n != written {
		t.Errorf("%d events, not %d", n, written)
	}
}

// TestEngineClickHouseTakesFewBlocks: under a trickle of writes that nobody reads, a block is
// written about once a second; a read gets its write at once.
func TestEngineClickHouseTakesFewBlocks(t *testing.T) {
	t.Parallel()
	s := onClickHouse(t, t.TempDir())
	is(t, "make", applyDoc(t, s, "namespace: routes\nabstraction: timeseries\nlog: {partitions: 1}\nstorage: [{role: PRIMARY, type: clickhouse, cluster: main}]\n"))
	day := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(i int) {
		is(t, "write", ts(t, s, "WriteEventRecordsSync", `{"namespace":"routes","events":[`+event("s", day, fmt.Sprint(i), i)+`]}`), "accepted", "1")
	}
	for i := range 100 {
		write(i)
		if n := len(allEvents(t, s, "routes", "s")); n != i+1 {
			t.Fatalf("%d events are read of %d", n, i+1)
		}
	}
	for i := range 200 {
		write(100 + i)
	}
	if n := len(allEvents(t, s, "routes", "s")); n != 300 {
		t.Fatalf("%d events are read of 300", n)
	}
	st := spaceOf(t, s, "routes").primary().backend.(*timeSeriesBackend).events.(*clickhousets.Store)
	blocks := st.Blocks()
	if blocks < 100 || blocks > 150 {
		t.Errorf("%d blocks were written of 300 calls, of which 100 were read at once", blocks)
	}
}

// TestEngineClickHouseKilled kills the engine in the middle of blocks: what was acknowledged is
// there once, and no write failed. It has the engine for itself.
func TestEngineClickHouseKilled(t *testing.T) {
	kill := enginetest.Need(t, "HEADWATER_TEST_CLICKHOUSE_RESTART", "clickhouse")
	s := onClickHouse(t, t.TempDir())
	is(t, "make", applyDoc(t, s, "namespace: routes\nabstraction: timeseries\nlog: {partitions: 2}\ntimeseries: {slice: 24h}\nstorage: [{role: PRIMARY, type: clickhouse, cluster: main}]\n"))
	day := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	stop := make(chan struct{})
	written := make([]int, 4)
	var work sync.WaitGroup
	for w := range written {
		work.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					written[w] = i
					return
				default:
				}
				var events []string
				for j := range 20 {
					events = append(events, event(fmt.Sprint("s", w), day.Add(time.Duration(j)*5*time.Hour), fmt.Sprint(i, "-", j), i))
				}
				r := ts(t, s, "WriteEventRecordsSync", fmt.Sprintf(`{"namespace":"routes","events":[%s],"token":{"key":"%d-%d"}}`, strings.Join(events, ","), w, i))
				if r.status != http.StatusOK {
					t.Errorf("write: %s", r)
					return
				}
			}
		})
	}
	for range 3 {
		until(t, "some blocks are written", func() bool {
			return call(t, s, "TimeSeries.ListTimeSeries", `{"namespace":"routes","consistency":"EVENTUAL"}`).status == http.StatusOK
		})
		if out, err := exec.Command("sh", "-c", kill).CombinedOutput(); err != nil { // kill -9, and up again on what it left
			t.Fatalf("%v: %s", err, out)
		}
	}
	close(stop)
	work.Wait()
	for w, calls := range written {
		series := fmt.Sprint("s", w)
		until(t, series+" is read", func() bool {
			return ts(t, s, "ReadEventRecords", `{"namespace":"routes","timeSeriesId":"`+series+`",`+wholeTime+`,"consistency":"LATEST","pageSize":1}`).status == http.StatusOK
		})
		n, token := 0, ""
		for {
			r := ts(t, s, "ReadEventRecords", `{"namespace":"routes","timeSeriesId":"`+series+`",`+wholeTime+`,"pageSize":10000,"pageToken":"`+token+`"}`)
			n += len(r.field(t, "records").([]any))
			if token = r.field(t, "nextPageToken").(string); token == "" {
				break
			}
		}
		if n != 20*calls || calls == 0 {
			t.Errorf("%s has %d events of %d calls of 20", series, n, calls)
		}
	}
}
