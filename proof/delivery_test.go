package proof

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

const hookSpace = "hooks"

// inbox is an endpoint that refuses some of what it gets, and keeps the rest.
type inbox struct {
	mu   sync.Mutex
	r    *rand.Rand
	got  []string             // bodies, in order of their first arrival
	ids  map[string]string    // of each body
	at   map[string]time.Time // of the first attempt
	took map[string]int       // attempts that were well
}

func (b *inbox) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		return // the sender was killed
	}
	s, id := string(body), req.Header.Get("Webhook-Id")+" "+req.Header.Get("Idempotency-Key")
	if _, seen := b.at[s]; !seen {
		b.at[s], b.ids[s] = time.Now(), id
	}
	if b.ids[s] != id {
		b.ids[s] = "several: " + b.ids[s] + ", " + id
	}
	if b.r.IntN(10) == 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if b.took[s]++; b.took[s] == 1 {
		b.got = append(b.got, s)
	}
}

// poster writes messages of one key, one after the other.
type poster struct {
	key       string
	r         *rand.Rand
	delayed   bool // its messages are, and are in no order with each other's
	sent      int
	acked     []string             // bodies
	after     map[string]time.Time // a delayed one is not delivered before
	cancelled map[string]bool      // bodies of what was
	open      *headwaterv1.WriteToLogRequest
}

// step writes the next message, or the one whose outcome is not known, and now and then cancels it.
func (p *poster) step(api headwaterv1.LogServiceClient) error {
	ctx, cancel := callContext()
	defer cancel()
	if p.open == nil {
		p.sent++
		body := fmt.Sprintf("%s %d", p.key, p.sent)
		p.open = &headwaterv1.WriteToLogRequest{Namespace: hookSpace, Key: p.key, Payload: []byte(body), Token: tokenNamed("%s", body)}
		if p.delayed {
			delay := time.Duration(p.r.IntN(400)) * time.Millisecond
			p.open.Lifecycle = &headwaterv1.MessageLifecycle{Delay: durationpb.New(delay)}
			p.after[body] = time.Now().Add(delay)
		}
	}
	body := string(p.open.GetPayload())
	res, err := api.WriteToLog(ctx, p.open)
	if err != nil || res.GetDurable() != headwaterv1.WriteToLogResponse_SUCCEEDED {
		return err
	}
	p.open, p.acked = nil, append(p.acked, body)
	if !p.delayed || p.r.IntN(3) > 0 {
		return nil
	}
	done, err := api.CancelDelayed(ctx, &headwaterv1.CancelDelayedRequest{Namespace: hookSpace, Selection: &headwaterv1.CancelDelayedRequest_Selection{MessageId: res.GetMessageId()}})
	switch {
	case err != nil: // it may have been cancelled
		p.acked = p.acked[:len(p.acked)-1]
		delete(p.after, body)
	case done.GetCancelled() == 1:
		p.cancelled[body], p.acked = true, p.acked[:len(p.acked)-1]
	}
	return err
}

// stepper is one writer: a step writes its next message, or the one whose outcome is not known.
type stepper interface {
	step(api headwaterv1.LogServiceClient) error
	name() string
}

func (p *poster) name() string { return p.key }

// overKills kills the binary once in each round while writers step, and starts it again.
func overKills[W stepper](t *testing.T, r *rand.Rand, dir string, p *process, c *conn, rounds int, writers []W) (*process, *conn) {
	t.Helper()
	for range rounds {
		stop := make(chan struct{})
		victim := p
		time.AfterFunc(time.Duration(100+r.IntN(500))*time.Millisecond, func() {
			victim.signal(t, syscall.SIGKILL)
			close(stop)
		})
		var work sync.WaitGroup
		for _, w := range writers {
			work.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := w.step(c.log); err != nil && !lost(err) {
						t.Errorf("%s: %v", w.name(), err)
						return
					}
				}
			})
		}
		work.Wait()
		<-p.gone
		c.close()
		p = start(t, dir)
		c = connect(t, p.grpc)
	}
	return p, c
}

// TestDeliveryOverKills kills the binary while messages are written, delivered, tried again, and cancelled. All
// that were acknowledged arrive, in order of their key, under one id each, not before their time; those that were
// cancelled do not.
func TestDeliveryOverKills(t *testing.T) {
	_, r := seedOf(t)
	rounds := 6
	if long() {
		rounds = 100
	}
	box := &inbox{r: rand.New(rand.NewPCG(r.Uint64(), 1)), ids: make(map[string]string), at: make(map[string]time.Time), took: make(map[string]int)}
	hook := httptest.NewServer(box)
	defer hook.Close()
	dir := t.TempDir()
	p := start(t, dir)
	c := connect(t, p.grpc)
	ctx, cancel := callContext()
	_, err := headwaterv1.NewNamespaceServiceClient(c.cc).ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: fmt.Sprintf(
		"namespace: %s\nabstraction: log\ndelivery: {targets: [{name: hook, http: {url: %q}}], retry: {initial: 5ms, max: 50ms}, allow: {private_addresses: true}}\n", hookSpace, hook.URL)})
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	var posters []*poster
	for i := range 8 {
		posters = append(posters, &poster{
			key: fmt.Sprintf("key%d", i), r: rand.New(rand.NewPCG(r.Uint64(), 2)), delayed: i%2 == 1, after: make(map[string]time.Time), cancelled: make(map[string]bool),
		})
	}
	p, c = overKills(t, r, dir, p, c, rounds, posters)
	box.check(t, c, posters, p)
}

// check waits until what was acknowledged has arrived, and looks at all of it.
func (b *inbox) check(t *testing.T, c *conn, posters []*poster, p *process) {
	t.Helper()
	for _, w := range posters {
		for w.open != nil { // its outcome is known then
			if err := w.step(c.log); err != nil {
				t.Fatal(err)
			}
		}
	}
	missing := func() (out []string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, w := range posters {
			for _, body := range w.acked {
				if b.took[body] == 0 {
					out = append(out, body)
				}
			}
		}
		return out
	}
	limit, again := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for left := missing(); len(left) > 0; left = missing() {
		select {
		case <-again.C:
		case <-limit:
			t.Fatalf("%d messages do not arrive, as %v\n%s", len(left), left[:min(len(left), 10)], p.said())
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	total, repeated, cancelled := 0, 0, 0
	for _, w := range posters {
		var came []string
		for _, body := range b.got {
			if slices.Contains(w.acked, body) {
				came = append(came, body)
			}
		}
		if !w.delayed && !slices.Equal(came, w.acked) {
			t.Errorf("of %s came in another order: %v", w.key, came)
		}
		for body := range w.cancelled {
			if _, arrived := b.at[body]; arrived {
				t.Errorf("message %s was cancelled and arrived", body)
			}
		}
		for body, after := range w.after {
			if at, arrived := b.at[body]; arrived && at.Before(after) {
				t.Errorf("message %s came %v before its time", body, after.Sub(at))
			}
		}
		total, cancelled = total+len(w.acked), cancelled+len(w.cancelled)
	}
	for body, id := range b.ids {
		if len(id) > 120 || id == " " {
			t.Errorf("message %s came under %s", body, id)
		}
		if b.took[body] > 1 {
			repeated++
		}
	}
	t.Logf("%d messages arrived, %d of them more than once; %d were cancelled", total, repeated, cancelled)
	mustHave(t, total > 100 && cancelled > 0, "message, or none that was cancelled")
}
