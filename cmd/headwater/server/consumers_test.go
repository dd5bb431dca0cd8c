package server

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// fetched is a message as FetchMessages answers it.
type fetched struct {
	AckID     string            `json:"ackId"`
	Partition int               `json:"partition"`
	Offset    string            `json:"offset"`
	Key       string            `json:"key"`
	Payload   string            `json:"payload"`
	Headers   map[string]string `json:"headers"`
	Attempt   int               `json:"attempt"`
	Decision  *struct {
		Outcome string `json:"outcome"`
		Reason  string `json:"reason"`
		Refused []int  `json:"refused"`
	} `json:"decision"`
	Record map[string]any `json:"record"`
	Method string         `json:"method"`
}

func (f *fetched) body() string {
	b, err := base64.StdEncoding.DecodeString(f.Payload)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// fetch asks for messages with more of the request, such as `"maxMessages":5`.
func fetch(t *testing.T, s *Server, ns, consumer, more string) []fetched {
	t.Helper()
	if more != "" {
		more = "," + more
	}
	r := call(t, s, "Log.FetchMessages", fmt.Sprintf(`{"namespace":%q,"consumer":%q%s}`, ns, consumer, more))
	if r.status != http.StatusOK {
		t.Fatalf("fetch: %s", r)
	}
	var out struct {
		Messages []fetched `json:"messages"`
	}
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		t.Fatal(err)
	}
	return out.Messages
}

// settled returns when all messages of a namespace are decided, whichever process does that.
func settled(t *testing.T, s *Server, ns string) {
	t.Helper()
	is(t, "read", call(t, s, "Log.ReadLog", fmt.Sprintf(`{"namespace":%q,"from":{"earliest":{}}}`, ns)))
}

// fetchN fetches and acknowledges until there are n, and returns their bodies.
func fetchN(t *testing.T, s *Server, ns, consumer string, n int, more string) (all []fetched) {
	t.Helper()
	until(t, fmt.Sprintf("%d messages for %s", n, consumer), func() bool {
		ms := fetch(t, s, ns, consumer, `"wait":"1s"`+more)
		if len(ms) > 0 {
			if expired := ack(t, s, ns, consumer, "ACK", "", ms...); len(expired) > 0 {
				t.Fatalf("expired: %v", expired)
			}
		}
		all = append(all, ms...)
		return len(all) >= n
	})
	return all
}

// ack says kind of messages, with more of each ack, and returns those that came too late.
func ack(t *testing.T, s *Server, ns, consumer, kind, more string, ms ...fetched) []string {
	t.Helper()
	var acks []string
	for _, m := range ms {
		acks = append(acks, fmt.Sprintf(`{"ackId":%q,"kind":%q%s}`, m.AckID, kind, more))
	}
	r := call(t, s, "Log.AckMessages", fmt.Sprintf(`{"namespace":%q,"consumer":%q,"acks":[%s]}`, ns, consumer, strings.Join(acks, ",")))
	if r.status != http.StatusOK {
		t.Fatalf("ack: %s", r)
	}
	var out struct {
		Expired []string `json:"expired"`
	}
	if err := json.Unmarshal([]byte(r.body), &out); err != nil {
		t.Fatal(err)
	}
	return out.Expired
}

func bodiesOf(ms []fetched) (out []string) {
	for i := range ms {
		out = append(out, ms[i].body())
	}
	return out
}

func consumerOf(t *testing.T, s *Server, ns, name string) map[string]any {
	t.Helper()
	r := call(t, s, "Log.ListConsumers", fmt.Sprintf(`{"namespace":%q}`, ns))
	all, _ := r.field(t, "consumers").([]any)
	for _, c := range all {
		if m := c.(map[string]any); m["consumer"] == name {
			return m
		}
	}
	return nil
}

// TestAConsumerGoesOnWhereItWas also over a start, with what was not acknowledged, and without what was.
func TestAConsumerGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, dir)
	document(t, s, "namespace: mail\nabstraction: log\nlog: {partitions: 1}\n")
	for i := range 5 {
		write(t, s, "mail", fmt.Sprintf("k%d", i), fmt.Sprintf("m%d", i), "Headwater-Header-N", fmt.Sprint(i))
	}
	settled(t, s, "mail")
	ms := fetch(t, s, "mail", "reader", `"maxMessages":3,"wait":"5s"`)
	if got := bodiesOf(ms); !slices.Equal(got, []string{"m0", "m1", "m2"}) || ms[0].Attempt != 1 || ms[2].Headers["N"] != "2" || ms[1].Key != "k1" {
		t.Fatalf("fetched %+v", ms)
	}
	if got := fetch(t, s, "mail", "reader", `"maxMessages":1`); len(got) != 1 || got[0].body() != "m3" {
		t.Fatalf("another caller got %v", bodiesOf(got))
	}
	if late := ack(t, s, "mail", "reader", "ACK", "", ms[0], ms[2]); len(late) != 0 {
		t.Fatalf("expired: %v", late)
	}
	if late := ack(t, s, "mail", "reader", "ACK", "", ms[0]); len(late) != 0 { // told again
		t.Fatalf("a second ack expired: %v", late)
	}
	if c := consumerOf(t, s, "mail", "reader"); c["inFlight"] != "2" || c["lagRecords"] != "3" {
		t.Fatalf("listed %v", c)
	}
	until(t, "Status tells of it", func() bool {
		ns := call(t, s, "Admin.Status", `{"namespace":"mail"}`).field(t, "namespaces").([]any)
		all, _ := ns[0].(map[string]any)["consumers"].([]any)
		return len(all) == 1 && all[0].(map[string]any)["consumer"] == "reader" && all[0].(map[string]any)["lagRecords"] == "3"
	})
	closeServer(t, s)
	s = open(t, dir)
	defer closeServer(t, s)
	all := fetchN(t, s, "mail", "reader", 3, "")
	if got := bodiesOf(all); !slices.Equal(got, []string{"m1", "m3", "m4"}) {
		t.Fatalf("after a start it got %v", got)
	}
	if all[0].Attempt != 2 {
		t.Errorf("attempt %d of m1", all[0].Attempt)
	}
	if got := fetch(t, s, "mail", "reader", ""); len(got) != 0 {
		t.Fatalf("and then %v", bodiesOf(got))
	}
	if got := fetchN(t, s, "mail", "other", 5, ""); len(got) != 5 {
		t.Fatalf("another consumer got %v", bodiesOf(got))
	}
}

// TestAKeyIsHandedOutInOrder: the next of a key comes after the end of the one before, or in the same fetch.
func TestAKeyIsHandedOutInOrder(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	document(t, s, "namespace: mail\nabstraction: log\nlog: {partitions: 1}\n")
	for _, m := range []string{"a1", "a2", "b1", "a3", "b2"} {
		write(t, s, "mail", m[:1], m)
	}
	settled(t, s, "mail")
	first := fetch(t, s, "mail", "c", `"maxMessages":2,"wait":"5s"`)
	if got := bodiesOf(first); !slices.Equal(got, []string{"a1", "a2"}) {
		t.Fatalf("first %v", got)
	}
	second := fetch(t, s, "mail", "c", "")
	if got := bodiesOf(second); !slices.Equal(got, []string{"b1", "b2"}) {
		t.Fatalf("second %v, a is in flight", got)
	}
	ack(t, s, "mail", "c", "ACK", "", first[0])
	if got := fetch(t, s, "mail", "c", ""); len(got) != 0 {
		t.Fatalf("a3 came before the end of a2: %v", bodiesOf(got))
	}
	ack(t, s, "mail", "c", "NAK", "", first[1])
	third := fetch(t, s, "mail", "c", "")
	if got := bodiesOf(third); !slices.Equal(got, []string{"a2", "a3"}) || third[0].Attempt != 2 || third[1].Attempt != 1 {
		t.Fatalf("third %v", got)
	}
	if late := ack(t, s, "mail", "c", "ACK", "", first[1]); len(late) != 1 || late[0] != first[1].AckID {
		t.Fatalf("the ack of an earlier handing-out was taken: %v", late)
	}
	ack(t, s, "mail", "c", "NAK", `,"delay":"3600s"`, third[0])
	ack(t, s, "mail", "c", "NAK", "", third[1])
	if got := fetch(t, s, "mail", "c", ""); len(got) != 0 {
		t.Fatalf("a3 passed a2, which waits: %v", bodiesOf(got))
	}
}

// TestAMessageIsHandedOutAgain when its time is over, which a late ack is told; PROGRESS gives it more.
func TestAMessageIsHandedOutAgain(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	document(t, s, "namespace: mail\nabstraction: log\nlog: {partitions: 1}\n")
	write(t, s, "mail", "k", "m")
	ms := fetch(t, s, "mail", "c", `"ackWait":"0.2s","wait":"5s"`)
	if len(ms) != 1 {
		t.Fatalf("%d messages", len(ms))
	}
	again := fetch(t, s, "mail", "c", `"wait":"4s"`) // by another caller
	if len(again) != 1 || again[0].Attempt != 2 {
		t.Fatalf("again %+v", again)
	}
	if late := ack(t, s, "mail", "c", "ACK", "", ms[0]); len(late) != 1 {
		t.Fatal("a late ack was taken")
	}
	if late := ack(t, s, "mail", "c", "PROGRESS", `,"delay":"3600s"`, again[0]); len(late) != 0 {
		t.Fatal("PROGRESS was refused")
	}
	if late := ack(t, s, "mail", "c", "ACK", "", again[0]); len(late) != 0 {
		t.Fatal("the ack was refused")
	}
	if c := consumerOf(t, s, "mail", "c"); c["lagRecords"] != "0" || c["inFlight"] != "0" {
		t.Fatalf("listed %v", c)
	}
}

// TestWhatAConsumerGivesUp is a dead letter: by TERM, and after max_attempts.
func TestWhatAConsumerGivesUp(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	document(t, s, "namespace: mail\nabstraction: log\nlog: {partitions: 1}\n")
	is(t, "apply", call(t, s, "Log.ApplyConsumer", `{"namespace":"mail","consumer":"c","maxAttempts":2}`), "consumer.maxAttempts", "2", "consumer.maxInFlight", "1000")
	for _, m := range []string{"poison", "bad", "good"} {
		write(t, s, "mail", m, m)
	}
	settled(t, s, "mail")
	ms := fetch(t, s, "mail", "c", `"wait":"5s"`)
	ack(t, s, "mail", "c", "TERM", "", ms[1])
	ack(t, s, "mail", "c", "ACK", "", ms[2])
	ack(t, s, "mail", "c", "NAK", "", ms[0])
	ms = fetch(t, s, "mail", "c", `"wait":"5s"`)
	if len(ms) != 1 || ms[0].body() != "poison" {
		t.Fatalf("%v", bodiesOf(ms))
	}
	ack(t, s, "mail", "c", "NAK", "", ms[0])
	if got := fetch(t, s, "mail", "c", ""); len(got) != 0 {
		t.Fatalf("handed out a third time: %v", bodiesOf(got))
	}
	if c := consumerOf(t, s, "mail", "c"); c["givenUp"] != "2" || c["lagRecords"] != "0" {
		t.Fatalf("listed %v", c)
	}
	letters := func() (told []string) {
		all, _ := call(t, s, "Log.ListDeadLetters", `{"namespace":"mail","selection":{"target":"consumer:c"}}`).field(t, "deadLetters").([]any)
		for _, l := range all {
			m := l.(map[string]any)
			told = append(told, fmt.Sprint(m["key"], " ", m["disposition"], " ", m["attempts"]))
		}
		slices.Sort(told)
		return told
	}
	until(t, "letters", func() bool { return slices.Equal(letters(), []string{"bad PARKED 1", "poison PARKED 2"}) })
	is(t, "of another consumer", call(t, s, "Log.RedriveDeadLetters", `{"namespace":"mail","selection":{"target":"consumer:d"}}`), "matched", "0")
	is(t, "drop", call(t, s, "Log.DropDeadLetters", `{"namespace":"mail","selection":{"key":"bad"}}`), "matched", "1", "dropped", "1")
	is(t, "redrive", call(t, s, "Log.RedriveDeadLetters", `{"namespace":"mail"}`), "matched", "1", "redriven", "1")
	ms = fetch(t, s, "mail", "c", `"wait":"5s"`)
	if len(ms) != 1 || ms[0].body() != "poison" || ms[0].Attempt != 1 {
		t.Fatalf("redriven came %+v", ms)
	}
	ack(t, s, "mail", "c", "ACK", "", ms[0])
	if got := letters(); !slices.Equal(got, []string{"bad DROPPED 1", "poison REDRIVEN 2"}) {
		t.Errorf("letters: %v", got)
	}
	is(t, "nothing is left", call(t, s, "Log.RedriveDeadLetters", `{"namespace":"mail"}`), "matched", "0")
}

// TestAConsumerOfWritesGetsDecisions: a record comes with what it did, as the request that it was made of.
func TestAConsumerOfWritesGetsDecisions(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	document(t, s, "namespace: items\nabstraction: kv\nlog: {partitions: 1}\n")
	is(t, "put", call(t, s, "KeyValue.PutItems", `{"namespace":"items","id":"u","items":[{"key":"YQ==","value":"MQ=="}]}`))
	refused(t, "put if absent", call(t, s, "KeyValue.PutItems", `{"namespace":"items","id":"u","items":[{"key":"YQ==","value":"Mg=="}],"condition":{"ifAbsent":true}}`), 409, "HW-1202", "NOT_APPLIED")
	is(t, "delete", call(t, s, "KeyValue.DeleteItems", `{"namespace":"items","id":"u","predicate":{"matchKeys":{"keys":["YQ=="]}}}`))
	ms := fetchN(t, s, "items", "view", 2, "")
	if len(ms) != 2 || ms[0].Method != "PutItems" || ms[1].Method != "DeleteItems" || ms[0].Record["id"] != "u" || ms[0].Decision.Outcome != "APPLIED" {
		t.Fatalf("%+v", ms)
	}
	all := fetchN(t, s, "items", "audit", 3, `,"includeRefused":true`)
	if len(all) != 3 || all[1].Decision.Outcome != "REFUSED" || all[1].Decision.Reason != "condition_failed" {
		t.Fatalf("%+v", all)
	}
	document(t, s, "namespace: counts\nabstraction: counter\nlog: {partitions: 1}\ncounter: {ceiling: 10}\n")
	is(t, "add", call(t, s, "Counter.AddCounts", `{"namespace":"counts","adds":[{"counter":"a","delta":5},{"counter":"b","delta":50}]}`))
	cs := fetchN(t, s, "counts", "view", 1, "")
	if len(cs) != 1 || cs[0].Method != "AddCounts" || !slices.Equal(cs[0].Decision.Refused, []int{1}) || cs[0].Decision.Reason != "bound" {
		t.Fatalf("%+v, %+v", cs, cs[0].Decision)
	}
	document(t, s, "namespace: events\nabstraction: timeseries\nlog: {partitions: 1}\n")
	is(t, "event", send(t, s, "POST", "/v1/ts/events/s", `{"eventTime":"`+time.Now().UTC().Format(time.RFC3339Nano)+`","items":{"n":1}}`))
	es := fetchN(t, s, "events", "view", 1, "")
	if len(es) != 1 || es[0].Method != "WriteEventRecordsSync" || es[0].Decision.Outcome != "APPLIED" {
		t.Fatalf("%+v", es)
	}
}

// TestADelayedMessageIsFetchedWhenItIsDue and holds none of its key before, unless it was cancelled.
func TestADelayedMessageIsFetchedWhenItIsDue(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	hook := newReceiver(t)
	document(t, s, strings.Replace(deliveryDoc("later", hook.URL, "", ""), "partitions: 2", "partitions: 1", 1))
	write(t, s, "later", "k", "second", "Headwater-Delay", "1s")
	id := write(t, s, "later", "k", "never", "Headwater-Delay", "1s")
	is(t, "cancel", call(t, s, "Log.CancelDelayed", fmt.Sprintf(`{"namespace":"later","selection":{"messageId":%q}}`, id)), "cancelled", "1")
	write(t, s, "later", "k", "first")
	first := fetchN(t, s, "later", "c", 1, "")
	if got := bodiesOf(first); !slices.Equal(got, []string{"first"}) {
		t.Fatalf("at once %v", got)
	}
	if got := bodiesOf(fetchN(t, s, "later", "c", 1, "")); !slices.Equal(got, []string{"second"}) {
		t.Fatalf("then %v", got)
	}
	if got := fetch(t, s, "later", "c", `"wait":"0.3s"`); len(got) != 0 {
		t.Fatalf("and %v, which was cancelled", bodiesOf(got))
	}
}

// TestConsumersAreMadeMovedAndDeleted.
func TestConsumersAreMadeMovedAndDeleted(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	document(t, s, "namespace: mail\nabstraction: log\nlog: {partitions: 4}\n")
	for i := range 8 {
		write(t, s, "mail", fmt.Sprintf("k%d", i), fmt.Sprint(i))
	}
	settled(t, s, "mail")
	is(t, "apply", call(t, s, "Log.ApplyConsumer", `{"namespace":"mail","consumer":"late","from":{"latest":{}},"maxInFlight":1,"ackWait":"60s"}`),
		"consumer.lagRecords", "0", "consumer.ackWait", "60s")
	if got := fetch(t, s, "mail", "late", `"wait":"0.2s"`); len(got) != 0 {
		t.Fatalf("from latest came %v", bodiesOf(got))
	}
	for i := range 4 {
		write(t, s, "mail", fmt.Sprintf("k%d", i), fmt.Sprintf("new%d", i))
	}
	one := fetch(t, s, "mail", "late", `"wait":"5s"`)
	if len(one) != 1 {
		t.Fatalf("%d messages, and one may be in flight", len(one))
	}
	if got := fetch(t, s, "mail", "late", `"wait":"0.3s"`); len(got) != 0 {
		t.Fatalf("%v, and one is in flight", bodiesOf(got))
	}
	is(t, "apply", call(t, s, "Log.ApplyConsumer", `{"namespace":"mail","consumer":"late","from":{"earliest":{}},"maxInFlight":100}`), "consumer.ackWait", "60s")
	if late := ack(t, s, "mail", "late", "ACK", "", one[0]); len(late) != 1 {
		t.Fatal("an ack of before the consumer began anew was taken")
	}
	if got := fetchN(t, s, "mail", "late", 12, ""); len(got) != 12 {
		t.Fatalf("%d messages from earliest", len(got))
	}
	is(t, "delete", call(t, s, "Log.DeleteConsumer", `{"namespace":"mail","consumer":"late"}`))
	is(t, "delete again", call(t, s, "Log.DeleteConsumer", `{"namespace":"mail","consumer":"late"}`))
	if c := consumerOf(t, s, "mail", "late"); c != nil {
		t.Fatalf("listed after it was deleted: %v", c)
	}
	if got := fetchN(t, s, "mail", "late", 12, ""); len(got) != 12 {
		t.Fatalf("%d messages for a new one of the name", len(got))
	}
	for what, body := range map[string]string{
		"no name": `{"namespace":"mail"}`, "a long name": fmt.Sprintf(`{"namespace":"mail","consumer":%q}`, strings.Repeat("x", 65)),
		"a bad name": `{"namespace":"mail","consumer":"a/b"}`, "none": `{"namespace":"mail","consumer":"c","maxMessages":0}`,
		"many": `{"namespace":"mail","consumer":"c","maxMessages":1001}`, "a long wait": `{"namespace":"mail","consumer":"c","wait":"61s"}`,
		"before now": `{"namespace":"mail","consumer":"c","wait":"-1s"}`, "a short ack_wait": `{"namespace":"mail","consumer":"c","ackWait":"0.01s"}`,
	} {
		refused(t, what, call(t, s, "Log.FetchMessages", body), 400, "HW-1055", "")
	}
	refused(t, "no namespace", call(t, s, "Log.FetchMessages", `{"namespace":"nope","consumer":"c"}`), 404, "HW-1101", "")
	refused(t, "an ack of nothing", call(t, s, "Log.AckMessages", `{"namespace":"mail","consumer":"c","acks":[{"ackId":"AAAA"}]}`), 400, "HW-1056", "")
	refused(t, "no acks", call(t, s, "Log.AckMessages", `{"namespace":"mail","consumer":"c","acks":[]}`), 400, "HW-1014", "")
}

// TestManyCallersShareAConsumer: each message comes to one of them, those of a key in order.
func TestManyCallersShareAConsumer(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	defer closeServer(t, s)
	document(t, s, "namespace: mail\nabstraction: log\nlog: {partitions: 4}\n")
	const n, keys = 600, 20
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"key":"k%d","payload":%q},`, i%keys, base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(i))))
	}
	is(t, "write", call(t, s, "Log.WriteToLogBatch", `{"namespace":"mail","messages":[`+strings.TrimSuffix(b.String(), ",")+`]}`))
	var mu sync.Mutex
	seen := make(map[string][]int)
	total := 0
	var work sync.WaitGroup
	for range 6 {
		work.Go(func() {
			for {
				ms := fetch(t, s, "mail", "c", `"maxMessages":7,"wait":"0.2s"`)
				mu.Lock()
				for i := range ms {
					var v int
					_, _ = fmt.Sscan(ms[i].body(), &v)
					seen[ms[i].Key] = append(seen[ms[i].Key], v)
					total++
				}
				done := total >= n
				mu.Unlock()
				if len(ms) > 0 {
					ack(t, s, "mail", "c", "ACK", "", ms...)
				}
				if done {
					return
				}
			}
		})
	}
	work.Wait()
	if total != n {
		t.Errorf("%d messages were handed out, of %d", total, n)
	}
	for k, vs := range seen {
		if !slices.IsSorted(vs) {
			t.Errorf("key %s came as %v", k, vs)
		}
	}
}

// TestAConsumerGoesOnAtAnotherWorker: the one that has handed out its messages leaves, with its directory. What was
// acknowledged is not handed out again, and what was not, is.
func TestAConsumerGoesOnAtAnotherWorker(t *testing.T) {
	t.Parallel()
	consumerMoves(t, kafkaFake)
}

func TestEngineKafkaAConsumerGoesOnAtAnotherWorker(t *testing.T) { consumerMoves(t, kafkaEngine) }

func consumerMoves(t *testing.T, brokers func(*testing.T) []string) {
	t.Helper()
	for how, leave := range map[string]func(*Server) error{
		"stops":         func(s *Server) error { return s.Drain(t.Context()) },
		"ends abruptly": (*Server).Close,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			goesOnElsewhere(t, brokers(t), leave)
		})
	}
}

func goesOnElsewhere(t *testing.T, brokers []string, leave func(*Server) error) {
	t.Helper()
	c := newSplit(t, brokers)
	more := c.open(t, Worker, t.TempDir())
	claims := func(s *Server) (n int) {
		x := spaceOf(t, c.gateway, "demo-log")
		for p := range wal.Partition(x.log.Info().Partitions) {
			if h, ok := x.claims.Holder(p); ok && h.Process == s.process {
				n++
			}
		}
		return n
	}
	until(t, "each worker has a part", func() bool { return claims(more) > 0 && claims(c.worker) > 0 })
	const n = 40
	for i := range n {
		is(t, "a message", send(t, c.gateway, "POST", fmt.Sprintf("/v1/log/demo-log/k%d", i), fmt.Sprint(i)), "durable", "SUCCEEDED")
	}
	var all []fetched
	until(t, "all are handed out", func() bool {
		all = append(all, fetch(t, c.gateway, "demo-log", "c", `"wait":"1s"`)...)
		return len(all) == n
	})
	if late := ack(t, c.gateway, "demo-log", "c", "ACK", "", all[:n/2]...); len(late) > 0 {
		t.Fatalf("%d were late", len(late))
	}
	moved := awaited(t, c.gateway, more, all[n/2:])
	if err := leave(more); err != nil {
		t.Fatal(err)
	}
	want := bodiesOf(all[n/2:])
	slices.Sort(want)
	var got []string
	until(t, "the others come again", func() bool {
		r := call(t, c.gateway, "Log.FetchMessages", `{"namespace":"demo-log","consumer":"c","wait":"1s"}`)
		if r.status != http.StatusOK { // nobody has taken its part yet
			return false
		}
		var ms struct {
			Messages []fetched `json:"messages"`
		}
		if err := json.Unmarshal([]byte(r.body), &ms); err != nil {
			t.Fatal(err)
		}
		got = append(got, bodiesOf(ms.Messages)...)
		return moved.all(got)
	})
	for _, b := range got {
		if !slices.Contains(want, b) {
			t.Errorf("%s came again, and was acknowledged", b)
		}
	}
}

// bodies are those of messages that must come.
type bodies []string

func (b bodies) all(got []string) bool {
	return !slices.ContainsFunc(b, func(x string) bool { return !slices.Contains(got, x) })
}

// awaited are the messages of the partitions that a worker holds: the leases of the others go on.
func awaited(t *testing.T, gateway, holder *Server, ms []fetched) (out bodies) {
	t.Helper()
	x := spaceOf(t, gateway, "demo-log")
	for i := range ms {
		if h, ok := x.claims.Holder(wal.Partition(ms[i].Partition)); ok && h.Process == holder.process {
			out = append(out, ms[i].body())
		}
	}
	return out
}

func TestEngineKafkaConsumersOfDev(t *testing.T) { consumersOfDev(t, kafkaEngine(t)) }

func TestKafkaModeConsumersOfDev(t *testing.T) { consumersOfDev(t, kafkaFake(t)) }

// consumersOfDev: one process on Kafka, which is started again.
func consumersOfDev(t *testing.T, brokers []string) {
	t.Helper()
	prefix, dir := newPrefix(), t.TempDir()
	s := onKafka(t, brokers, prefix, dir)
	for i := range 10 {
		write(t, s, "demo-log", fmt.Sprintf("k%d", i), fmt.Sprint(i))
		expectBody(t, send(t, s, "PUT", fmt.Sprintf("/v1/kv/demo-kv/u/k%d", i), "v"), http.StatusNoContent, "")
	}
	for _, ns := range []string{"demo-log", "demo-kv"} {
		var all []fetched
		until(t, "messages of "+ns, func() bool {
			all = append(all, fetch(t, s, ns, "c", `"wait":"1s"`)...)
			return len(all) == 10
		})
		if late := ack(t, s, ns, "c", "ACK", "", all[:5]...); len(late) > 0 {
			t.Fatalf("%d of %s were late", len(late), ns)
		}
	}
	closeServer(t, s)
	s = onKafka(t, brokers, prefix, dir)
	for _, ns := range []string{"demo-log", "demo-kv"} {
		if got := fetchN(t, s, ns, "c", 5, ""); len(got) != 5 {
			t.Errorf("%d messages of %s are left", len(got), ns)
		}
	}
	dropTopics(t, s)
	closeServer(t, s)
}
