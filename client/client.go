package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// MaxValueBytes is the size of the largest value, before and after compression.
const MaxValueBytes = 64 << 20

// maxInline is the size of the largest value in a put; above it is uploaded.
const maxInline = 1 << 20

// maxMessage bounds what one answer may hold: a page and what frames it.
const maxMessage = 16 << 20

// userAgent names this client to servers.
const userAgent = "headwater-go/1"

// Config says how a client works. The zero Config is a good one.
type Config struct {
	// TLS encrypts the connection; nil: none.
	TLS *tls.Config
	// Timeout bounds a call whose context has no deadline: no attempt begins after
	// it. 0: 30 seconds. Streams that follow something have none.
	Timeout time.Duration
	// AttemptTimeout bounds one attempt of a call. 0: 10 seconds.
	AttemptTimeout time.Duration
	// RetryInitial is the mean wait before the first retry; each further one
	// waits twice as long, to RetryMax. 0: 20 milliseconds and 2 seconds.
	RetryInitial, RetryMax time.Duration
	// FailFast returns at once when no connection can be made, instead of trying
	// until the call's time is over.
	FailFast bool
	// NoSession turns off that reads wait for this client's own writes.
	NoSession bool
	// Compression of values: "" (none), "zstd" or "s2". A value that does not
	// get smaller is sent as it is.
	Compression string
	// CompressAbove is the size from which values are compressed, in bytes.
	// 0: 1,024.
	CompressAbove int
	// BatchItems and BatchBytes bound a request that concurrent puts share.
	// 0: 256 puts and 1 MiB.
	BatchItems, BatchBytes int
	// BatchInFlight is how many such requests of a namespace may be under way at
	// once; there is more than one only when a whole one waits, or one is slow. 0: 4. Negative: puts do not share requests.
	BatchInFlight int
	// AddItems and AddBytes bound a request that concurrent adds to counters
	// share. 0: 1,000 adds and 256 KiB. BatchInFlight holds for such requests too.
	AddItems, AddBytes int
	// AddLinger is how long an add to a counter waits, at most, for a request that
	// is under way before it goes in another. 0: 1 millisecond.
	AddLinger time.Duration
	// AddQueue and AddQueueBytes bound the adds to counters of a namespace that
	// have no answer yet; further ones wait. 0: 100,000 adds and 32 MiB.
	AddQueue, AddQueueBytes int
	// DialOptions are added to those of the connection: interceptors, credentials.
	DialOptions []grpc.DialOption
}

func (c *Config) setDefaults() error {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Timeout, 30*time.Second)
	def(&c.AttemptTimeout, 10*time.Second)
	def(&c.RetryInitial, 20*time.Millisecond)
	def(&c.RetryMax, 2*time.Second)
	def(&c.AddLinger, time.Millisecond)
	for _, v := range []*int{&c.CompressAbove, &c.BatchItems, &c.BatchBytes, &c.AddItems, &c.AddBytes, &c.AddQueue, &c.AddQueueBytes} {
		if *v < 0 {
			return fmt.Errorf("client config: a size is negative")
		}
	}
	if c.Timeout < 0 || c.AttemptTimeout < 0 || c.RetryInitial < 0 || c.RetryMax < 0 || c.AddLinger < 0 {
		return fmt.Errorf("client config: a time is negative")
	}
	ints := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	ints(&c.CompressAbove, 1024)
	ints(&c.BatchItems, 256)
	ints(&c.BatchBytes, 1<<20)
	ints(&c.BatchInFlight, 4)
	ints(&c.AddItems, 1000)
	ints(&c.AddBytes, 256<<10)
	ints(&c.AddQueue, 100_000)
	ints(&c.AddQueueBytes, 32<<20)
	if c.AddItems > MaxAdds || c.AddBytes > maxAddBytes {
		return fmt.Errorf("client config: AddItems %d, AddBytes %d; at most %d and %d", c.AddItems, c.AddBytes, MaxAdds, maxAddBytes)
	}
	switch c.Compression {
	case "", Zstd, S2:
	default:
		return fmt.Errorf("client config: compression %q; use zstd, s2 or none", c.Compression)
	}
	return nil
}

// Client talks to one server. Make it with Dial, end it with Close.
type Client struct {
	cfg     Config
	address string
	conn    *grpc.ClientConn
	clock   clock

	kv         headwaterv1.KeyValueServiceClient
	counters   headwaterv1.CounterServiceClient
	series     headwaterv1.TimeSeriesServiceClient
	log        headwaterv1.LogServiceClient
	namespaces headwaterv1.NamespaceServiceClient
	admin      headwaterv1.AdminServiceClient

	// run ends with Close; what the client does for several callers at once runs
	// under it and is counted in tasks.
	run   context.Context
	stop  context.CancelCauseFunc
	tasks sync.WaitGroup

	// adding counts the senders of adds, which Close lets end by themselves.
	adding sync.WaitGroup

	batchers     sync.Map // of batchKey to *batcher, of puts
	logBatchers  sync.Map // of namespace to *batcher, of messages
	adders       sync.Map // of namespace to *adder
	sessions     sync.Map // of namespace to *session
	sessionCount atomic.Int64
	sessionsFull atomic.Bool

	mu     sync.Mutex // guards what follows
	closed bool
}

// Dial returns a client of the server at a gRPC address, "host:port" or any gRPC
// target. It does not wait for a connection: a server that cannot be reached
// shows in the first call.
func Dial(address string, cfg Config) (*Client, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		creds = credentials.NewTLS(cfg.TLS)
	}
	opts := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithUserAgent(userAgent),
		grpc.WithDisableRetry(), // retries are ours: they know tokens and outcomes
		// A server that restarts is found again as soon as a call would be tried again;
		// gRPC's own pauses grow to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: cfg.RetryInitial, Multiplier: 1.6, Jitter: 0.2, MaxDelay: cfg.RetryMax},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Notices a dead connection below a stream that has nothing to send.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	}, cfg.DialOptions...)
	conn, err := grpc.NewClient(address, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	c := &Client{
		cfg: cfg, address: address, conn: conn,
		kv:         headwaterv1.NewKeyValueServiceClient(conn),
		counters:   headwaterv1.NewCounterServiceClient(conn),
		series:     headwaterv1.NewTimeSeriesServiceClient(conn),
		log:        headwaterv1.NewLogServiceClient(conn),
		namespaces: headwaterv1.NewNamespaceServiceClient(conn),
		admin:      headwaterv1.NewAdminServiceClient(conn),
	}
	c.run, c.stop = context.WithCancelCause(context.Background())
	return c, nil
}

// Close sends the adds to counters that are queued and waits for their answers,
// at most Config.Timeout; then it ends every other call that is under way and the
// connection. A put that is under way ends with an unknown outcome.
func (c *Client) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.mu.Unlock()
	c.flushAdds()
	c.stop(ErrClosed)
	err := c.conn.Close()
	c.tasks.Wait()
	if err != nil {
		return fmt.Errorf("close connection to %s: %w", c.address, err)
	}
	return nil
}

// begin counts a task of the client, unless the client is closed.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.tasks.Add(1)
	return true
}

func closedError(o Outcome) *Error {
	return &Error{Code: codes.Canceled, Message: "the client is closed", Outcome: o, cause: ErrClosed}
}

// unreachable words the failure to connect.
func (c *Client) unreachable(e *Error) *Error {
	e.Message = "the server at " + c.address + " cannot be reached; start it or check the address: " + e.Message
	return e
}
