package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
	"github.com/headwater-db/headwater/wal"
)

func TestGatewayAndWorker(t *testing.T) {
	t.Parallel()
	gatewayAndWorker(t, newSplit(t, kafkaFake(t)))
}

func TestEngineGatewayAndWorker(t *testing.T) {
	c := newSplit(t, kafkaEngine(t))
	defer dropTopics(t, c.gateway) // the worker is another one by then
	gatewayAndWorker(t, c)
}

// gatewayAndWorker: while the worker is away, writes are taken and reads say so; a worker on the same
// directory applies what came meanwhile, and knows what was there before.
func gatewayAndWorker(t *testing.T, c *split) {
	t.Helper()
	s := c.gateway
	owned(t, s)
	put := func(key, value string) reply {
		return call(t, s, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"demo-kv","id":"r","items":[{"key":"aw==","value":%q}],"token":{"key":%q}}`, value, key))
	}
	is(t, "put", put("one", "MQ=="), "result.duplicate", "NO")
	is(t, "a copy", put("one", "MQ=="), "result.duplicate", "YES")
	refused(t, "another request", put("one", "Mg=="), 409, "HW-1201", "NOT_APPLIED")
	is(t, "add", call(t, s, "Counter.AddCount", `{"namespace":"demo-counter","counter":"c","delta":3,"token":{"key":"one"}}`), "result.duplicate", "NO")
	const adds = `{"namespace":"demo-counter","adds":[{"counter":"d","delta":1},{"counter":"e","delta":1},{"counter":"f","delta":1}],"token":{"key":"several"}}`
	event := fmt.Sprintf(`{"namespace":"demo-timeseries","events":[{"timeSeriesId":"s","eventTime":%q,"items":[{"key":"k","value":{"int":1}}]}],"token":{"key":"one"}}`, time.Now().UTC().Format(time.RFC3339))
	is(t, "adds", call(t, s, "Counter.AddCounts", adds), "result.duplicate", "NO")
	is(t, "an event", call(t, s, "TimeSeries.WriteEventRecordsSync", event), "result.duplicate", "NO")
	is(t, "a deletion", call(t, s, "TimeSeries.DeleteTimeSeries", `{"namespace":"demo-timeseries","timeSeriesId":"gone","token":{"key":"one"}}`), "result.duplicate", "NO")
	is(t, "a message", call(t, s, "Log.WriteToLog", `{"namespace":"demo-log","key":"k","payload":"AAAA","token":{"key":"one"}}`), "result.duplicate", "NO")
	for _, ns := range []string{"demo-kv", "demo-counter", "demo-timeseries", "demo-log"} { // until the gateway knows that they are applied
		x := spaceOf(t, s, ns)
		for p := range wal.Partition(x.log.Info().Partitions) {
			if err := x.ns.Stream.Barrier(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := call(t, s, "Admin.Status", `{"namespace":"demo-kv"}`)
	if !strings.Contains(r.body, `"owner":"`+c.worker.InternalAddr()+`"`) {
		t.Errorf("status does not tell the owner: %s", r)
	}

	closeServer(t, c.worker)
	is(t, "put without a worker", put("two", "Mg=="), "result.duplicate", "UNKNOWN")
	is(t, "add without a worker", call(t, s, "Counter.AddCount", `{"namespace":"demo-counter","counter":"c","delta":4,"token":{"key":"two"}}`))
	// A copy of what came before, and a copy of that copy: neither has the place of the first.
	for _, what := range []string{"a copy", "a copy of the copy"} {
		is(t, what+" of a put, without a worker", put("one", "MQ=="), "result.duplicate", "UNKNOWN")
		for method, body := range map[string]string{
			"Counter.AddCount":                 `{"namespace":"demo-counter","counter":"c","delta":3,"token":{"key":"one"}}`,
			"Counter.AddCounts":                adds,
			"TimeSeries.WriteEventRecordsSync": event,
			"TimeSeries.DeleteTimeSeries":      `{"namespace":"demo-timeseries","timeSeriesId":"gone","token":{"key":"one"}}`,
			"Log.WriteToLog":                   `{"namespace":"demo-log","key":"k","payload":"AAAA","token":{"key":"one"}}`,
		} {
			is(t, what+" of "+method+", without a worker", call(t, s, method, body), "result.duplicate", "UNKNOWN")
		}
	}
	for what, r := range map[string]reply{
		"a read":           call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r"}`),
		"a read of now":    call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r","consistency":"LATEST"}`),
		"any read":         call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r","consistency":"EVENTUAL"}`),
		"a count":          call(t, s, "Counter.GetCount", `{"namespace":"demo-counter","counter":"c","accuracy":"ACCURATE"}`),
		"a list of stores": call(t, s, "Admin.ListStores", `{"namespace":"demo-kv"}`),
	} {
		if r.status != http.StatusServiceUnavailable || r.field(t, "reason") != "HW-1517" {
			t.Errorf("%s without a worker: %s", what, r)
		}
	}
	if r := get(t, "http://"+s.AdminAddr()+"/readyz"); r.status != http.StatusOK {
		t.Errorf("the gateway is %s", r)
	}

	c.worker = c.open(t, Worker, c.dir)
	until(t, "reads work again", func() bool { return call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r"}`).status == 200 })
	if got := call(t, s, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r"}`); !strings.Contains(got.body, `"value":"Mg=="`) {
		t.Errorf("the item is %s", got)
	}
	is(t, "a copy of before", put("one", "MQ=="), "result.duplicate", "YES")
	is(t, "a copy of what came meanwhile", put("two", "Mg=="), "result.duplicate", "YES")
	is(t, "a count", call(t, s, "Counter.GetCount", `{"namespace":"demo-counter","counter":"c","accuracy":"ACCURATE"}`), "count.value", "7")
}

// TestTwoGateways: what one has acknowledged holds at the other.
func TestTwoGateways(t *testing.T) {
	t.Parallel()
	c := newSplit(t, kafkaFake(t))
	one, two := c.gateway, c.open(t, Gateway, "")
	defer closeServer(t, two)
	is(t, "make", applyDoc(t, one, "namespace: shared\nabstraction: kv\n"))
	// It is known at once at the other.
	put := func(s *Server, value, token string) reply {
		return call(t, s, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"shared","id":"r","items":[{"key":"aw==","value":%q}],"token":{"key":%q}}`, value, token))
	}
	first := put(two, "MQ==", "t")
	is(t, "put", first)
	for _, s := range []*Server{one, two} {
		again := put(s, "MQ==", "t")
		if d := again.field(t, "result.duplicate"); again.status != 200 || d != "YES" && d != "UNKNOWN" {
			t.Errorf("a copy: %s", again)
		}
	}
	// Another request under the token has no effect, whatever it is told.
	if r := put(one, "Mg==", "t"); r.status != 409 && (r.status != 200 || r.field(t, "result.duplicate") != "UNKNOWN") {
		t.Errorf("another request: %s", r)
	}
	after := first.field(t, "result.position").(string)
	for _, s := range []*Server{one, two} {
		got := call(t, s, "KeyValue.GetItems", `{"namespace":"shared","id":"r","consistency":"LATEST","after":["`+after+`"]}`)
		if !strings.Contains(got.body, `"value":"MQ=="`) {
			t.Errorf("the item is %s", got)
		}
	}
	// A page that one begins the other goes on with.
	for i := range 30 {
		is(t, "fill", call(t, one, "KeyValue.PutItems", fmt.Sprintf(`{"namespace":"shared","id":"long","items":[{"key":%q,"value":%q}]}`, fmt.Sprintf("%04d", i), strings.Repeat("AAAA", 64))))
	}
	seen, token := 0, ""
	for page := 0; page == 0 || token != ""; page++ {
		s := []*Server{one, two}[page%2]
		r := call(t, s, "KeyValue.GetItems", fmt.Sprintf(`{"namespace":"shared","id":"long","consistency":"LATEST","selection":{"pageSizeBytes":2048},"pageToken":%q}`, token))
		if r.status != 200 {
			t.Fatalf("page %d: %s", page, r)
		}
		seen += strings.Count(r.body, `"key":`)
		token, _ = r.field(t, "nextPageToken").(string)
	}
	if seen != 30 {
		t.Errorf("%d items on the pages", seen)
	}
}

// TestInternalListenerTakesItsClusterAlone: who does not know the secret learns nothing.
func TestInternalListenerTakesItsClusterAlone(t *testing.T) {
	t.Parallel()
	c := newSplit(t, kafkaFake(t))
	for _, secret := range []remote.Secret{"", "guess"} {
		peers := remote.NewPeers(secret, nil)
		defer peers.Close()
		conn, err := peers.Conn(c.worker.InternalAddr())
		if err != nil {
			t.Fatal(err)
		}
		owner := clusterv1.NewOwnerServiceClient(conn)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := owner.Ask(ctx, &clusterv1.AskRequest{Namespace: "demo-kv"}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("Ask: %v", err)
		}
		stream, err := owner.Follow(ctx)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("Follow: %v", err)
		}
	}
}

// TestAWorkerAppliesWhatItIsToldTo: two workers share the namespaces, by abstraction and by name.
func TestAWorkerAppliesWhatItIsToldTo(t *testing.T) {
	t.Parallel()
	c := &split{brokers: kafkaFake(t), prefix: newPrefix()}
	g := c.open(t, Gateway, "")
	defer closeServer(t, g)
	c.abstractions = []string{"kv"}
	keys := c.open(t, Worker, t.TempDir())
	defer closeServer(t, keys)
	c.abstractions, c.names = nil, []string{"demo-c*", "demo-l?g"}
	rest := c.open(t, Worker, t.TempDir())
	defer closeServer(t, rest)
	owner := func(name string) string {
		x := spaceOf(t, g, name)
		held, ok := x.claims.Holder(0)
		if !ok {
			return ""
		}
		return held.Address
	}
	until(t, "each has its namespaces", func() bool {
		return owner("demo-kv") == keys.InternalAddr() && owner("demo-counter") == rest.InternalAddr() && owner("demo-log") == rest.InternalAddr()
	})
	if at := owner("demo-timeseries"); at != "" {
		t.Errorf("%s holds what nobody was told to apply", at)
	}
	is(t, "add", call(t, g, "Counter.AddAndGetCount", `{"namespace":"demo-counter","counter":"c","delta":3}`), "count.value", "3")
	expectBody(t, send(t, g, "PUT", greeting, "good morning"), 204, "")
	expectBody(t, send(t, g, "GET", greeting, ""), 200, "good morning")
	r := call(t, g, "Admin.Status", `{}`)
	for _, s := range []*Server{keys, rest} {
		if !strings.Contains(r.body, `"owner":"`+s.InternalAddr()+`"`) {
			t.Errorf("status lacks %s", s.InternalAddr())
		}
	}
}

// TestGatewaysAreCounted: the limits of a namespace are shared between those that run.
func TestGatewaysAreCounted(t *testing.T) {
	t.Parallel()
	c := newSplit(t, kafkaFake(t))
	counted := func(n int64, of ...*Server) {
		t.Helper()
		for _, s := range of {
			until(t, fmt.Sprintf("%d gateways are counted", n), func() bool { return s.gateways.Load() == n })
		}
	}
	counted(1, c.gateway)
	two, three := c.open(t, Gateway, ""), c.open(t, Gateway, "")
	counted(3, c.gateway, two, three)
	if err := three.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	counted(2, c.gateway, two)
	if err := two.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	counted(1, c.gateway)
}

// TestACopyIsKnownAtAnotherGateway: what is applied every gateway knows by its token.
func TestACopyIsKnownAtAnotherGateway(t *testing.T) {
	t.Parallel()
	c := newSplit(t, kafkaFake(t))
	two := c.open(t, Gateway, "")
	defer closeServer(t, two)
	owned(t, c.gateway)
	owned(t, two)
	const put = `{"namespace":"demo-kv","id":"r","items":[{"key":"aw==","value":"MQ=="}],"token":{"key":"t"}}`
	first := call(t, c.gateway, "KeyValue.PutItems", put)
	is(t, "a read that waits for it", call(t, two, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r","consistency":"LATEST"}`))
	is(t, "a copy", call(t, two, "KeyValue.PutItems", put), "result.duplicate", "YES", "result.position", fmt.Sprint(first.field(t, "result.position")))
	refused(t, "another request", call(t, two, "KeyValue.PutItems", `{"namespace":"demo-kv","id":"r","items":[{"key":"aw==","value":"Mg=="}],"token":{"key":"t"}}`), 409, "HW-1201", "NOT_APPLIED")
}
