package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/headwater-db/headwater/client"
)

// refusals is how many adds below a standing floor are acknowledged at once, each
// of which becomes a dead letter.
const refusals = 130_000

const floorDocument = "namespace: floor\nabstraction: counter\ncounter: { floor: 0 }\n"

// letters measures what refusals cost that nobody waits for: until all are decided
// and have their letters, and, after kill -9 in the middle of it, until the next
// start is ready.
func letters(ctx context.Context, h *harness) error {
	applied := side{"130 k refusals", func(ctx context.Context, round int) (float64, error) {
		dir := filepath.Join(h.data, fmt.Sprintf("refused-%d", round))
		start, s, c, err := h.refuse(ctx, dir)
		if err != nil {
			return 0, err
		}
		err = everyRefusal(ctx, c)
		took := time.Since(start)
		return float64(took.Microseconds()) / 1000, errors.Join(err, c.Close(), s.stop(), os.RemoveAll(dir))
	}}
	err := h.compare(ctx, "adds below a standing floor, from the first call until all are decided and have letters", "ms",
		&bar{limit: 2000, absolute: true}, applied, nil, "13 calls of 10,000 adds, 4 partitions")
	if err != nil {
		return err
	}
	ready := side{"start", func(ctx context.Context, round int) (float64, error) {
		dir := filepath.Join(h.data, fmt.Sprintf("killed-%d", round))
		_, s, c, err := h.refuse(ctx, dir)
		if err != nil {
			return 0, err
		}
		if err := errors.Join(s.kill(), c.Close()); err != nil {
			return 0, err
		}
		s, took, err := h.timedStart(ctx, dir)
		if err != nil {
			return 0, err
		}
		return took, errors.Join(s.stop(), os.RemoveAll(dir))
	}}
	return h.compare(ctx, "ready after kill -9, as soon as they were acknowledged", "ms", &bar{limit: 1000, absolute: true}, ready, nil, "")
}

// refuse starts a server and has it acknowledge adds that it will refuse. start is
// when the first was sent.
func (h *harness) refuse(ctx context.Context, dir string) (start time.Time, s *child, c *client.Client, err error) {
	if s, c, err = h.served(ctx, dir); err != nil {
		return start, nil, nil, err
	}
	if _, err = c.Namespaces().Apply(ctx, floorDocument, client.ApplyOptions{}); err == nil {
		start = time.Now()
		err = takeAll(ctx, c.Counter("floor"))
	}
	if err != nil {
		return start, nil, nil, errors.Join(err, c.Close(), s.kill())
	}
	return start, s, c, nil
}

func takeAll(ctx context.Context, n *client.Counter) error {
	const batch = 10_000
	adds := make([]client.CounterAdd, batch)
	for i := range adds {
		adds[i] = client.CounterAdd{Counter: "stock/" + strconv.Itoa(i), Delta: -1}
	}
	for range refusals / batch {
		if _, err := n.AddAll(ctx, adds, client.CounterWriteOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// everyRefusal waits until every partition is applied, and checks that all were
// refused.
func everyRefusal(ctx context.Context, c *client.Client) error {
	var names []string
	for i := range 100 {
		names = append(names, "stock/"+strconv.Itoa(i))
	}
	if _, err := c.Counter("floor").GetMany(ctx, names, client.CountOptions{Accuracy: client.CountAccurate}); err != nil {
		return err
	}
	st, err := c.Admin().Status(ctx, "floor")
	if err != nil {
		return err
	}
	if n := st.GetNamespaces()[0].GetDeadLetters(); n != refusals {
		return fmt.Errorf("%d dead letters, want %d", n, refusals)
	}
	return nil
}
