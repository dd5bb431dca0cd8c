package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/client"
)

const (
	// delivered is how many messages one turn delivers.
	delivered = 20_000
	// deliverers is how many requests are under way at a time.
	deliverers = 32
	// deliveredKeys is how many keys they have, each in its order.
	deliveredKeys = 1000
	deliveredSize = 200
)

// hook is an endpoint in this process that counts.
type hook struct {
	url  string
	got  atomic.Int64
	full chan struct{} // told at each message
	stop func() error
}

func newHook(ctx context.Context) (*hook, error) {
	k := &hook{full: make(chan struct{}, 1)}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k.url = "http://" + l.Addr().String() + "/"
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		k.got.Add(1)
		select {
		case k.full <- struct{}{}:
		default:
		}
	})}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	k.stop = func() error {
		err := srv.Close()
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	}
	return k, nil
}

// wait returns when n messages have come.
func (k *hook) wait(ctx context.Context, n int64) error {
	for k.got.Load() < n {
		select {
		case <-k.full:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages were delivered: %w", k.got.Load(), n, ctx.Err())
		}
	}
	return nil
}

// deliver measures messages from their first write until an HTTP endpoint has all of them, against a loop that posts
// the
// same bytes to the same endpoint with as many connections.
func deliver(ctx context.Context, h *harness) (err error) {
	k, err := newHook(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	s, c, err := h.served(ctx, filepath.Join(h.data, "server"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop()) }()
	doc := fmt.Sprintf("namespace: hooks\nabstraction: log\ndelivery: {targets: [{name: hook, http: {url: %q}, concurrency: %d}], allow: {private_addresses: true}}\n", k.url, deliverers)
	if _, err := c.Namespaces().Apply(ctx, doc, client.ApplyOptions{}); err != nil {
		return err
	}
	payload := bytes.Repeat([]byte("x"), deliveredSize)
	subject := side{"Headwater", func(ctx context.Context, round int) (rate float64, err error) {
		before, start := k.got.Load(), time.Now()
		err = s.profile(ctx, fmt.Sprintf("deliver.%d", round), 5*time.Second, func() error {
			if err := writeAll(ctx, c.Log("hooks"), payload); err != nil {
				return err
			}
			return k.wait(ctx, before+delivered)
		})
		return delivered / time.Since(start).Seconds(), err
	}}
	peer := side{"a loop of net/http", func(ctx context.Context, _ int) (float64, error) {
		start := time.Now()
		err := postAll(ctx, k.url, payload)
		return delivered / time.Since(start).Seconds(), err
	}}
	return h.compare(ctx, fmt.Sprintf("%d messages of 200 B, %d keys, from the first write until an endpoint has them in order of their keys, %d requests at a time",
		delivered, deliveredKeys, deliverers), "messages/s", atLeast(0.8), subject, &peer, "the endpoint is in the process that measures")
}

// writeAll writes the messages of a turn, 1,000 in a call.
func writeAll(ctx context.Context, log *client.Log, payload []byte) error {
	const batch = 1000
	for range delivered / batch {
		ms := make([]client.NewMessage, batch)
		for i := range ms {
			ms[i] = client.NewMessage{Key: strconv.Itoa(i % deliveredKeys), Payload: payload}
		}
		if _, err := log.WriteMessages(ctx, ms); err != nil {
			return err
		}
	}
	return nil
}

// postAll posts the messages of a turn.
func postAll(ctx context.Context, url string, payload []byte) error {
	t := &http.Transport{MaxIdleConnsPerHost: deliverers, MaxConnsPerHost: deliverers}
	defer t.CloseIdleConnections()
	c := &http.Client{Transport: t}
	var left atomic.Int64
	left.Store(delivered)
	errs := make(chan error, deliverers)
	var work sync.WaitGroup
	for range deliverers {
		work.Go(func() {
			for left.Add(-1) >= 0 {
				if err := postOne(ctx, c, url, payload); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	work.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

func postOne(ctx context.Context, c *http.Client, url string, payload []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
