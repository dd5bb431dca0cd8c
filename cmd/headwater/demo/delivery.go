package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/ksuid"

	"github.com/headwater-db/headwater/client"
)

// DeliveryOptions say how flights are sent as messages to a receiver.
type DeliveryOptions struct {
	// Namespace is made, or changed, so that its target is the receiver.
	Namespace string
	// Listen is where the receiver listens; the server must reach it there. "": a free port of 127.0.0.1.
	Listen string
	// Down is how long the receiver is away, when it has a third of the messages; 0: 10 s.
	Down time.Duration
	// Failing is which part of the attempts it fails at random; 0: one in 20.
	Failing float64
	// Seed of what is random; 0: another each time.
	Seed uint64
	// Delayed is how many messages are written for later; 0: 200.
	Delayed int
	// Progress, when set, is told how many messages have arrived, of Flights.Rows.
	Progress func(done int)
}

// DeliveryReport is what came of it.
type DeliveryReport struct {
	Namespace   string  `json:"namespace"`
	Source      string  `json:"source"`
	Messages    int     `json:"messages"`
	Keys        int     `json:"keys"`
	WriteRate   float64 `json:"writtenPerSecond"`
	Seconds     float64 `json:"secondsUntilDelivered"`
	DownSeconds float64 `json:"downSeconds"`
	// Attempts by what the receiver answered.
	Attempts      int        `json:"attempts"`
	Failed        int        `json:"failedAtRandom"`
	Unanswered    int        `json:"unanswered"`
	Refused       int        `json:"refused"`
	Twice         int        `json:"deliveredTwice"` // under the same id
	OutOfOrder    int        `json:"outOfOrder"`
	DeadLetter    DeadLetter `json:"deadLetter"`
	Delayed       int        `json:"delayed"`
	Early         int        `json:"early"`
	WorstLateness float64    `json:"worstLatenessSeconds"`
}

// DeadLetter is the one that the poisoned message became.
type DeadLetter struct {
	ID       string  `json:"id"`
	Key      string  `json:"key"`
	Attempts int     `json:"attempts"`
	Detail   string  `json:"detail"`
	Redriven float64 `json:"secondsUntilRedriven"`
}

// target is the name of the receiver in the namespace's document.
const target = "receiver"

// stalled is after how long without an arrival a delivery is given up on.
const stalled = time.Minute

// Deliver writes every flight as a message of its route, has the server bring them to a receiver in this process, which
// fails at random, is away for a while, and refuses one flight until it is mended. Then it writes messages for later. The
// error says what is not as it should be.
func Deliver(ctx context.Context, c *client.Client, f *Flights, o DeliveryOptions) (r DeliveryReport, err error) {
	if o.Down == 0 {
		o.Down = 10 * time.Second
	}
	if o.Failing == 0 {
		o.Failing = 0.05
	}
	if o.Delayed == 0 {
		o.Delayed = 200
	}
	run := ksuid.New().String()
	box, err := receive(run, &o, f)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, box.close()) }()
	if _, err := c.Namespaces().Apply(ctx, document(o.Namespace, box.url()), client.ApplyOptions{}); err != nil {
		return r, err
	}
	log := c.Log(o.Namespace)
	start := time.Now()
	if err := writeFlights(ctx, log, f, run); err != nil {
		return r, err
	}
	r.Namespace, r.Source, r.Messages, r.WriteRate = o.Namespace, f.Name, f.Rows, float64(f.Rows)/time.Since(start).Seconds()
	if err := box.wait(ctx, f.Rows-1, o.Progress); err != nil {
		return r, err
	}
	r.Seconds = time.Since(start).Seconds()
	if r.DeadLetter, err = redrive(ctx, c, box, &o); err != nil {
		return r, err
	}
	if err := box.wait(ctx, f.Rows, nil); err != nil {
		return r, fmt.Errorf("the message that was redriven: %w", err)
	}
	r.DeadLetter.Redriven = time.Since(box.mendedAt()).Seconds()
	if err := delayed(ctx, log, box, run, o.Delayed); err != nil {
		return r, err
	}
	box.report(&r)
	if r.OutOfOrder > 0 || r.Early > 0 {
		return r, fmt.Errorf("%d messages came out of the order of their key, and %d before their time", r.OutOfOrder, r.Early)
	}
	return r, nil
}

// document is that of a namespace whose target is at a URL.
func document(namespace, url string) string {
	b, err := json.Marshal(map[string]any{
		"namespace": namespace, "abstraction": "log", "description": "made by headwater demo delivery",
		"delivery": map[string]any{
			"targets": []any{map[string]any{"name": target, "http": map[string]any{"url": url}, "concurrency": 32, "timeout": "5s"}},
			"retry":   map[string]any{"initial": "50ms", "max": "1s"},
			"allow":   map[string]any{"private_addresses": true},
		},
	})
	if err != nil {
		panic(fmt.Sprintf("demo: a document of texts: %v", err))
	}
	return string(b) // YAML too
}

// flightMessage is the payload of a message.
type flightMessage struct {
	Flight      int64     `json:"flight"`
	DepartedAt  time.Time `json:"departedAt"`
	Origin      string    `json:"origin"`
	Destination string    `json:"destination"`
	Delay       int       `json:"delayMinutes"`
}

// runHeader tells the messages of one run of the demo from those of another.
const runHeader = "Demo-Run"

// writeFlights writes them in the order of the file, which is that of each key.
func writeFlights(ctx context.Context, log *client.Log, f *Flights, run string) error {
	for legs := range slices.Chunk(f.legs, 1000) {
		ms := make([]client.NewMessage, len(legs))
		for i := range legs {
			l := &legs[i]
			payload, err := json.Marshal(flightMessage{l.flight, time.Unix(l.departed, 0).UTC(), l.origin, l.destination, l.delay})
			if err != nil {
				return fmt.Errorf("encode flight %d: %w", l.flight, err)
			}
			ms[i] = client.NewMessage{Key: l.route, Payload: payload, Headers: map[string]string{runHeader: run}}
		}
		if _, err := log.WriteMessages(ctx, ms); err != nil {
			return err
		}
	}
	return nil
}

// redrive looks at the dead letter of the poisoned message, mends the receiver, and has the message delivered.
func redrive(ctx context.Context, c *client.Client, box *receiver, o *DeliveryOptions) (d DeadLetter, err error) {
	key := box.poison.route
	selection := client.DeadLetterSelection{Target: target, Key: &key, Since: box.started}
	letters, again := c.DeadLetters(o.Namespace), time.NewTicker(50*time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(stalled); d.ID == ""; {
		for l, err := range letters.List(ctx, selection) {
			if err != nil {
				return d, err
			}
			d = DeadLetter{ID: l.ID, Key: l.Key, Attempts: l.Attempts, Detail: l.Detail}
		}
		if d.ID == "" && time.Now().After(end) {
			return d, errors.New("the message that the receiver refuses is no dead letter")
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return d, ctx.Err()
		}
	}
	box.mend()
	done, err := letters.Redrive(ctx, client.DeadLetterSelection{IDs: []string{d.ID}}, client.RedriveOptions{})
	if err == nil && done.Done != 1 {
		err = fmt.Errorf("%d of %d dead letters were redriven; one was to be", done.Done, done.Matched)
	}
	return d, err
}

// delayed writes messages for later, and waits for them.
func delayed(ctx context.Context, log *client.Log, box *receiver, run string, n int) error {
	ms := make([]client.NewMessage, n)
	for i := range ms {
		at := time.Now().Add(500*time.Millisecond + time.Duration(i)*2*time.Second/time.Duration(n))
		ms[i] = client.NewMessage{
			Key: fmt.Sprintf("later/%d", i), Payload: []byte(at.UTC().Format(time.RFC3339Nano)), DeliverAt: at,
			Headers: map[string]string{runHeader: run, laterHeader: "yes"},
		}
	}
	for part := range slices.Chunk(ms, 1000) {
		if _, err := log.WriteMessages(ctx, part); err != nil {
			return err
		}
	}
	return box.waitLater(ctx, n)
}
