package proof

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// relays are the namespaces of TestRelayOverKills: a log whose messages are writes of the others.
var relays = []string{
	"namespace: to-kv\nabstraction: kv\nlog: {partitions: 2}\n",
	"namespace: to-counter\nabstraction: counter\nlog: {partitions: 3}\n",
	"namespace: to-log\nabstraction: log\nlog: {partitions: 2}\n",
	"namespace: relay\nabstraction: log\nlog: {partitions: 2}\ndelivery: {retry: {initial: 5ms, max: 50ms}, targets: [" +
		"{name: kv, namespace: to-kv, default: false}, {name: counter, namespace: to-counter, default: false}, {name: log, namespace: to-log, default: false}]}\n",
}

// relayer writes messages of one key, one after the other: adds of its counters, puts of its item, and what two
// namespaces get.
type relayer struct {
	key  string
	r    *rand.Rand
	sent int
	open *headwaterv1.WriteToLogRequest

	adds, last int      // what counts, and the last value that was put
	told       []string // messages for the log
}

func (w *relayer) step(api headwaterv1.LogServiceClient) error {
	ctx, cancel := callContext()
	defer cancel()
	if w.open == nil {
		w.sent++
		m := &headwaterv1.WriteToLogRequest{Namespace: "relay", Key: w.key, Token: tokenNamed("%s %d", w.key, w.sent)}
		switch w.r.IntN(3) {
		case 0:
			m.Targets, m.Payload = []string{"counter"}, fmt.Appendf(nil, `{"adds":[{"counter":"%s-a","delta":1},{"counter":"%s-b","delta":1}]}`, w.key, w.key)
			if w.r.IntN(2) == 0 {
				m.Lifecycle = &headwaterv1.MessageLifecycle{Delay: durationpb.New(time.Duration(w.r.IntN(400)) * time.Millisecond)}
			}
		case 1:
			put := fmt.Appendf(nil, `{"id":"%s","items":[{"key":"dg==","value":"%s"}]}`, w.key, base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(w.sent))))
			m.Targets, m.Payload = []string{"kv", "log"}, put
		default:
			m.Targets, m.Payload = []string{"log"}, fmt.Appendf(nil, "%s %d", w.key, w.sent)
		}
		w.open = m
	}
	res, err := api.WriteToLog(ctx, w.open)
	if err != nil || res.GetDurable() != headwaterv1.WriteToLogResponse_SUCCEEDED {
		return err
	}
	m := w.open
	w.open = nil
	if m.GetTargets()[0] == "counter" {
		w.adds++
	} else {
		w.told = append(w.told, string(m.GetPayload()))
	}
	if m.GetTargets()[0] == "kv" {
		w.last = w.sent
	}
	return nil
}

func (w *relayer) name() string { return w.key }

// TestRelayOverKills kills the binary while messages are written and brought to other namespaces. Each that was
// acknowledged has its effect once, in the order of its key.
func TestRelayOverKills(t *testing.T) {
	_, r := seedOf(t)
	rounds := 6
	if long() {
		rounds = 100
	}
	dir := t.TempDir()
	p := start(t, dir)
	c := connect(t, p.grpc)
	for _, doc := range relays {
		ctx, cancel := callContext()
		_, err := headwaterv1.NewNamespaceServiceClient(c.cc).ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: doc})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	var relayers []*relayer
	for i := range 6 {
		relayers = append(relayers, &relayer{key: fmt.Sprintf("key%d", i), r: rand.New(rand.NewPCG(r.Uint64(), 2))})
	}
	p, c = overKills(t, r, dir, p, c, rounds, relayers)
	checkRelayed(t, c, relayers, p)
}

// checkRelayed waits until what was acknowledged has arrived, and a moment more, and looks at all of it.
func checkRelayed(t *testing.T, c *conn, relayers []*relayer, p *process) {
	t.Helper()
	adds, told := 0, 0
	for _, w := range relayers {
		for w.open != nil { // its outcome is known then
			if err := w.step(c.log); err != nil {
				t.Fatal(err)
			}
		}
		adds, told = adds+w.adds, told+len(w.told)
	}
	limit, again := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for looks := 0; looks < 10; { // of what comes twice the second may be on its way
		select {
		case <-again.C:
		case <-limit:
			t.Fatalf("not all messages arrive\n%s", p.said())
		}
		if counted(t, c, relayers) >= 2*adds && len(copies(t, c)) >= told {
			looks++
		}
	}
	all := copies(t, c)
	for _, w := range relayers {
		var came []string
		for _, body := range all {
			if strings.HasPrefix(body, w.key+" ") || strings.HasPrefix(body, `{"id":"`+w.key+`"`) {
				came = append(came, body)
			}
		}
		if !slices.Equal(came, w.told) {
			t.Errorf("of %s came %v, want %v", w.key, came, w.told)
		}
		ctx, cancel := callContext()
		res, err := c.kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: "to-kv", Id: w.key})
		cancel()
		if err != nil || w.last > 0 && (len(res.GetItems()) != 1 || string(res.GetItems()[0].GetValue()) != strconv.Itoa(w.last)) {
			t.Errorf("item of %s is %v, %v; want %d", w.key, res.GetItems(), err, w.last)
		}
	}
	if n := counted(t, c, relayers); n != 2*adds || len(all) != told {
		t.Errorf("%d adds count, want %d; %d messages came, want %d", n, 2*adds, len(all), told)
	}
	t.Logf("%d adds and %d messages", adds, told)
	mustHave(t, adds > 50 && told > 50, "message")
}

// counted is the sum of all counters.
func counted(t *testing.T, c *conn, relayers []*relayer) (sum int) {
	t.Helper()
	req := &headwaterv1.GetCountsRequest{Namespace: "to-counter", Accuracy: headwaterv1.Count_ACCURATE}
	for _, w := range relayers {
		req.Counters = append(req.Counters, w.key+"-a", w.key+"-b")
	}
	ctx, cancel := callContext()
	defer cancel()
	res, err := headwaterv1.NewCounterServiceClient(c.cc).GetCounts(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range res.GetCounts() {
		sum += int(n.GetValue())
	}
	return sum
}

// copies are the messages of the log that messages were brought to.
func copies(t *testing.T, c *conn) (bodies []string) {
	t.Helper()
	ctx, cancel := callContext()
	defer cancel()
	stream, err := c.log.ReadLog(ctx, &headwaterv1.ReadLogRequest{Namespace: "to-log", From: &headwaterv1.LogStart{Start: &headwaterv1.LogStart_Earliest_{Earliest: &headwaterv1.LogStart_Earliest{}}}})
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(m.GetPayload()))
	}
}
