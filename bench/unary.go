package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/benchload"
)

const (
	getCallers = 64
	getRecords = 100_000
	pageBytes  = 2 << 20
)

// peerUnary is the argument that makes this program the peer of B5: a grpc-go
// server with one method that takes nothing and answers nothing.
const peerUnary = "peer-unary"

const emptyMethod = "/bench.Peer/Empty"

// servePeer serves until it is killed.
func servePeer(out io.Writer) error {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serve the peer: %w", err)
	}
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{ServiceName: "bench.Peer", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Empty",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in emptypb.Empty
			return &emptypb.Empty{}, decode(&in)
		},
	}}}, struct{}{})
	if _, err := fmt.Fprintf(out, "grpc %s\n", l.Addr()); err != nil {
		return err
	}
	return s.Serve(l)
}

// getItems compares reads of one item with calls that do nothing, both over one
// connection of a plain grpc-go client with generated code, to a server in
// another process.
func getItems(ctx context.Context, h *harness) (err error) {
	s, c, err := h.served(ctx, filepath.Join(h.data, "server"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close(), s.stop()) }()
	p, err := h.servePeerProcess(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.kill()) }()
	if err := fill(ctx, c); err != nil {
		return err
	}
	dial := func(address string) (*grpc.ClientConn, error) {
		return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
	}
	empty, err := dial(p.grpc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, empty.Close()) }()
	conn, err := dial(s.grpc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	kv := headwaterv1.NewKeyValueServiceClient(conn)

	peer := side{"empty call", func(ctx context.Context, _ int) (float64, error) {
		m := benchload.Loop(ctx, getCallers, h.duration, nil, func(ctx context.Context, _, _ int) (int, error) {
			return 1, empty.Invoke(ctx, emptyMethod, &emptypb.Empty{}, &emptypb.Empty{})
		})
		return m.PerSecond(), firstError(m)
	}}
	keys := &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: &headwaterv1.Predicate_MatchKeys{Keys: [][]byte{[]byte("item")}}}}
	subject := side{"GetItems", func(ctx context.Context, round int) (rate float64, err error) {
		err = s.profile(ctx, fmt.Sprintf("get.%d", round), h.duration, func() error {
			m := benchload.Loop(ctx, getCallers, h.duration, nil, func(ctx context.Context, c, n int) (int, error) {
				res, err := kv.GetItems(ctx, &headwaterv1.GetItemsRequest{
					Namespace: "demo-kv", Id: fmt.Sprintf("get-%d", (n*getCallers+c)*2654435761%getRecords), Predicate: keys,
				})
				if err == nil && len(res.GetItems()) != 1 {
					err = fmt.Errorf("%d items were found", len(res.GetItems()))
				}
				return 1, err
			})
			rate = m.PerSecond()
			return firstError(m)
		})
		return rate, err
	}}
	err = h.compare(ctx, "one item of 100 B, 64 callers, one connection", "calls/s", atLeast(0.8), subject, &peer,
		fmt.Sprintf("%d records, all in cache; consistency is the default, READ_YOUR_WRITES", getRecords))
	if err != nil {
		return err
	}
	for _, size := range []int{1024, 100} {
		if err := h.pages(ctx, s, kv, size); err != nil {
			return err
		}
	}
	return nil
}

// fill writes what is read: records of one item, and records that are longer
// than a page.
func fill(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	const writers = 256
	for w := range writers {
		wg.Go(func() {
			for i := w; i < getRecords && ctx.Err() == nil; i += writers {
				if _, err := c.KV("demo-kv").Put(ctx, fmt.Sprintf("get-%d", i), "item", make([]byte, valueBytes)); err != nil {
					cancel(fmt.Errorf("write what will be read: %w", err))
				}
			}
		})
	}
	wg.Wait()
	for _, size := range []int{1024, 100} {
		if err := putMany(ctx, c, pageRecord(size), 2*pageBytes/size, size); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func pageRecord(size int) string { return fmt.Sprintf("page-%d", size) }

// putMany puts n items of size bytes into one record.
func putMany(ctx context.Context, c *client.Client, id string, n, size int) error {
	value := make([]byte, size)
	for from := 0; from < n; from += 1000 {
		items := make([]client.PutItem, 0, 1000)
		for i := from; i < min(n, from+1000); i++ {
			items = append(items, client.PutItem{Key: fmt.Sprintf("%08d", i), Value: value})
		}
		if _, err := c.KV("demo-kv").PutItems(ctx, id, items, client.WriteOptions{}); err != nil {
			return fmt.Errorf("write a record of %d items: %w", n, err)
		}
	}
	return nil
}

// pages measures how late a page of 2 MiB is at the 99th percentile, for one
// caller that reads one after the other.
func (h *harness) pages(ctx context.Context, s *child, kv headwaterv1.KeyValueServiceClient, size int) error {
	limit := int64(pageBytes)
	req := &headwaterv1.GetItemsRequest{
		Namespace: "demo-kv", Id: pageRecord(size), Selection: &headwaterv1.Selection{PageSizeBytes: &limit},
		Predicate: &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}},
	}
	items := 0
	subject := side{"p99", func(ctx context.Context, round int) (p99 float64, err error) {
		err = s.profile(ctx, fmt.Sprintf("page-%d.%d", size, round), h.duration, func() error {
			m := benchload.Loop(ctx, 1, h.duration, nil, func(ctx context.Context, _, _ int) (int, error) {
				res, err := kv.GetItems(ctx, req)
				if err == nil && res.GetNextPageToken() == "" {
					err = errors.New("the page was not full")
				}
				items = len(res.GetItems())
				return 1, err
			})
			p99 = float64(m.Latency.Quantile(0.99)) / float64(time.Millisecond)
			return firstError(m)
		})
		return p99, err
	}}
	if err := h.compare(ctx, fmt.Sprintf("page of 2 MiB of items of %d B, one caller", size), "ms",
		&bar{limit: 10, absolute: true}, subject, nil, ""); err != nil {
		return err
	}
	h.note("get: a page of 2 MiB holds %d items of %d B", items, size)
	return nil
}
