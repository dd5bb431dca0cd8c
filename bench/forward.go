package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/headwater-db/headwater/client"
)

const (
	// forwarded is how many messages one turn forwards.
	forwarded = 200_000
	// forwardWriters write them, 1,000 in a call.
	forwardWriters = 4
)

// forward measures messages from their first write to a log namespace until a reader of another one, which they are
// delivered to, has all of them.
func forward(ctx context.Context, h *harness) (err error) {
	s, c, err := h.served(ctx, filepath.Join(h.data, "server"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop()) }()
	for _, doc := range []string{
		"namespace: sink\nabstraction: log\n",
		"namespace: relay\nabstraction: log\ndelivery: {targets: [{name: sink, namespace: sink}]}\n",
	} {
		if _, err := c.Namespaces().Apply(ctx, doc, client.ApplyOptions{}); err != nil {
			return err
		}
	}
	payload := bytes.Repeat([]byte("x"), deliveredSize)
	tail, stop := context.WithCancel(ctx)
	defer stop()
	came := make(chan error, 1)
	arrived := make(chan struct{}, forwarded)
	go func() {
		for _, err := range c.Log("sink").Tail(tail, client.TailOptions{Follow: true}) {
			if err != nil {
				came <- err
				return
			}
			arrived <- struct{}{}
		}
	}()
	subject := side{"Headwater", func(ctx context.Context, round int) (rate float64, err error) {
		start := time.Now()
		err = s.profile(ctx, fmt.Sprintf("forward.%d", round), 5*time.Second, func() error {
			if err := writeMany(ctx, c.Log("relay"), payload); err != nil {
				return err
			}
			for range forwarded {
				select {
				case <-arrived:
				case err := <-came:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
		return forwarded / time.Since(start).Seconds(), err
	}}
	return h.compare(ctx, fmt.Sprintf("%d messages of 200 B, %d keys, %d writers of 1,000 a call, from the first write to a log namespace until a reader of another one has them",
		forwarded, deliveredKeys, forwardWriters), "messages/s", &bar{limit: 100_000, atLeast: true, absolute: true}, subject, nil, "writing included")
}

// writeMany writes the messages of a turn.
func writeMany(ctx context.Context, log *client.Log, payload []byte) error {
	const batch = 1000
	errs := make([]error, forwardWriters)
	var work sync.WaitGroup
	for w := range forwardWriters {
		work.Go(func() {
			for range forwarded / batch / forwardWriters {
				ms := make([]client.NewMessage, batch)
				for i := range ms {
					ms[i] = client.NewMessage{Key: strconv.Itoa(i % deliveredKeys), Payload: payload}
				}
				if _, err := log.WriteMessages(ctx, ms); err != nil {
					errs[w] = err
					return
				}
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}
