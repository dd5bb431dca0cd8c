package proof

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// consumed is what all callers of one consumer have had.
type consumed struct {
	mu    sync.Mutex
	acked map[string]bool // by payload: an acknowledgement was answered, and was not late
	maybe map[string]bool // one was sent, and not answered
	had   map[string]int
	again []string // handed out after it was acknowledged
}

// fetcher is one of those that share the consumer.
type fetcher struct {
	id   int
	most int // messages at a time
	r    *rand.Rand
	c    *consumed
}

func (w *fetcher) name() string { return fmt.Sprintf("fetcher %d", w.id) }

// step fetches some messages, and acknowledges most of them.
func (w *fetcher) step(api headwaterv1.LogServiceClient) error {
	ctx, cancel := callContext()
	defer cancel()
	most := int32(1 + w.r.IntN(w.most))
	res, err := api.FetchMessages(ctx, &headwaterv1.FetchMessagesRequest{
		Namespace: "mail", Consumer: "readers", MaxMessages: &most, Wait: durationpb.New(50 * time.Millisecond), AckWait: durationpb.New(500 * time.Millisecond),
	})
	if err != nil {
		return err
	}
	req := &headwaterv1.AckMessagesRequest{Namespace: "mail", Consumer: "readers"}
	bodies := make(map[string]string)
	w.c.mu.Lock()
	for _, m := range res.GetMessages() {
		body := string(m.GetPayload())
		w.c.had[body]++
		if w.c.acked[body] {
			w.c.again = append(w.c.again, body)
		}
		bodies[m.GetAckId()] = body
		switch w.r.IntN(10) {
		case 0: // the caller forgets it
		case 1:
			req.Acks = append(req.Acks, &headwaterv1.MessageAck{AckId: m.GetAckId(), Kind: headwaterv1.MessageAck_NAK})
		default:
			req.Acks = append(req.Acks, &headwaterv1.MessageAck{AckId: m.GetAckId()})
		}
	}
	w.c.mu.Unlock()
	if len(req.GetAcks()) == 0 {
		return nil
	}
	told, err := api.AckMessages(ctx, req)
	if err != nil {
		w.c.mu.Lock()
		defer w.c.mu.Unlock()
		for _, body := range bodies {
			w.c.maybe[body] = true
		}
		return err
	}
	for _, id := range told.GetExpired() {
		delete(bodies, id)
	}
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	for _, a := range req.GetAcks() {
		if body, ok := bodies[a.GetAckId()]; ok && a.GetKind() != headwaterv1.MessageAck_NAK {
			w.c.acked[body] = true
		}
	}
	return nil
}

// sender writes messages of one key.
type sender struct {
	key  string
	sent int
	told []string
}

func (w *sender) name() string { return w.key }

func (w *sender) step(api headwaterv1.LogServiceClient) error {
	ctx, cancel := callContext()
	defer cancel()
	body := fmt.Sprintf("%s %d", w.key, w.sent)
	res, err := api.WriteToLog(ctx, &headwaterv1.WriteToLogRequest{Namespace: "mail", Key: w.key, Payload: []byte(body), Token: tokenNamed("%s", body)})
	if err != nil || res.GetDurable() != headwaterv1.WriteToLogResponse_SUCCEEDED {
		return err
	}
	w.told, w.sent = append(w.told, body), w.sent+1
	return nil
}

// TestConsumersOverKills kills the binary while messages are written, fetched and acknowledged. Each that was written is
// handed out until it is acknowledged, and none after that.
func TestConsumersOverKills(t *testing.T) {
	_, r := seedOf(t)
	rounds := 6
	if long() {
		rounds = 100
	}
	dir := t.TempDir()
	p := start(t, dir)
	c := connect(t, p.grpc)
	ctx, cancel := callContext()
	_, err := headwaterv1.NewNamespaceServiceClient(c.cc).ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: "namespace: mail\nabstraction: log\nlog: {partitions: 3}\n"})
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	all := &consumed{acked: make(map[string]bool), maybe: make(map[string]bool), had: make(map[string]int)}
	var steppers []stepper
	var senders []*sender
	for i := range 4 {
		senders = append(senders, &sender{key: fmt.Sprintf("key%d", i)})
		steppers = append(steppers, senders[i], &fetcher{id: i, most: 40, r: rand.New(rand.NewPCG(r.Uint64(), 3)), c: all})
	}
	p, c = overKills(t, r, dir, p, c, rounds, steppers)
	last := &fetcher{id: 9, most: 1000, r: rand.New(rand.NewPCG(r.Uint64(), 4)), c: all}
	for end := time.Now().Add(time.Minute); ; {
		missing := 0
		for _, s := range senders {
			for _, body := range s.told {
				if !all.acked[body] && !all.maybe[body] {
					missing++
				}
			}
		}
		if missing == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d acked, %d messages are not handed out\n%s", len(all.acked), missing, p.said())
		}
		if err := last.step(c.log); err != nil {
			t.Fatal(err)
		}
	}
	if len(all.again) > 0 {
		t.Errorf("handed out after they were acknowledged: %v", all.again)
	}
	t.Logf("%d messages, %d acknowledged", len(all.had), len(all.acked))
	mustHave(t, len(all.acked) > 100, "acknowledged message")
}
