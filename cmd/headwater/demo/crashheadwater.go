package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/headwater-db/headwater/client"
)

// crashNamespace is a namespace that `headwater dev` makes.
const crashNamespace = "demo-counter"

// crashPatience bounds one call of a client, over all its attempts: longer than
// a restart on a slow machine.
const crashPatience = 2 * time.Minute

// counterStores are the directories of stores of counters below that of their topic.
const counterStores = "counter-*"

// headwaterSender counts through the SDK, whose retries it leaves as they are.
type headwaterSender struct {
	c        *client.Client
	n        *client.Counter
	attempts *atomic.Int64
	adds     []client.CounterAdd
}

// dialCounting is client.Dial with attempts counted.
func dialCounting(addr string) (*client.Client, *atomic.Int64, error) {
	attempts := new(atomic.Int64)
	c, err := client.Dial(addr, client.Config{Timeout: crashPatience, DialOptions: []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			attempts.Add(1)
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
	}})
	return c, attempts, err
}

func dialHeadwater(addr string) (sender, error) {
	c, attempts, err := dialCounting(addr)
	if err != nil {
		return nil, err
	}
	return &headwaterSender{c: c, n: c.Counter(crashNamespace), attempts: attempts}, nil
}

func (s *headwaterSender) send(ctx context.Context, b *CounterBatch, token string) (again int, known bool, err error) {
	before := s.attempts.Load()
	s.adds = b.Adds(s.adds[:0])
	res, err := s.n.AddAll(ctx, s.adds, client.CounterWriteOptions{Token: client.Token{Key: token}})
	return int(s.attempts.Load() - before - 1), res.Duplicate == client.Repeated, err
}

func (s *headwaterSender) close() error { return s.c.Close() }

// readAll reads every counter, accurately.
func readAll(ctx context.Context, n *client.Counter, names []string) ([]int64, error) {
	counts := make([]int64, 0, len(names))
	for len(names) > 0 {
		part := names[:min(len(names), client.MaxAdds)]
		names = names[len(part):]
		m, err := n.GetMany(ctx, part, client.CountOptions{Accuracy: client.CountAccurate})
		if err != nil {
			return nil, fmt.Errorf("read the counts back: %w", err)
		}
		for _, name := range part {
			counts = append(counts, m[name].Value)
		}
	}
	return counts, nil
}

// Rebuild is what was measured while the store was deleted and made again.
type Rebuild struct {
	// Seconds from the start of the server until every counter was read, accurately;
	// ReadySeconds of those until it took writes.
	Seconds      float64 `json:"seconds"`
	ReadySeconds float64 `json:"readySeconds"`
	StoreBytes   int64   `json:"deletedBytes"`
	// Reads were answered while the store was deleted and rebuilt, from before the
	// kill until after the end, and AsksAgain is how many attempts they took beyond
	// one each; Wrong were answered accurately with another value than the truth, or
	// otherwise with a larger one. LongestWait is that of one read.
	Reads       int64   `json:"reads"`
	AsksAgain   int64   `json:"readRetries"`
	Wrong       int64   `json:"wrongReads"`
	LongestWait float64 `json:"longestReadSeconds"`
	// Resent calls were sent once more afterwards, and Known of them were told that
	// they are known.
	Resent int `json:"resentAfter"`
	Known  int `json:"knownAfter"`
}

// readers ask for counters that do not change, until told to stop.
type readers struct {
	n     *client.Counter
	names []string
	truth []int64

	out  Rebuild // of reads only, guarded by mu
	mu   sync.Mutex
	done atomic.Int64
}

// read asks on until ctx is done. Only a read that its own patience ends fails.
func (r *readers) read(ctx context.Context, seed uint64) error {
	rnd := rand.New(rand.NewPCG(seed, 3))
	for ctx.Err() == nil {
		i := rnd.IntN(len(r.names))
		o := client.CountOptions{Accuracy: client.CountAccurate}
		if rnd.IntN(2) == 0 {
			o.Accuracy = client.CountEventual
		}
		start := time.Now()
		c, err := r.n.GetWith(ctx, r.names[i], o)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("read %s while the store is rebuilt: %w", r.names[i], err)
		}
		r.done.Add(1)
		r.mu.Lock()
		r.out.LongestWait = max(r.out.LongestWait, time.Since(start).Seconds())
		if c.Value > r.truth[i] || c.Accuracy == client.CountAccurate && c.Value != r.truth[i] {
			r.out.Wrong++
		}
		r.mu.Unlock()
		select { // askers, not a bench
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return nil
}

// rebuild deletes the store of the counters under readers and lets the server
// make it again from the log.
func (s *storm) rebuild(ctx context.Context, quiet *proxy, dir string, truth []int64) (_ *Rebuild, err error) {
	c, attempts, err := dialCounting(quiet.addr())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	r := &readers{n: c.Counter(crashNamespace), names: s.work.flights.names.all, truth: truth}
	asking, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = r.read(asking, s.work.seed+uint64(i)) })
	}
	before := attempts.Load()
	out, err := s.deleteAndRestart(ctx, r, quiet, dir)
	stop()
	wg.Wait()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	r.out.Seconds, r.out.ReadySeconds, r.out.StoreBytes = out.Seconds, out.ReadySeconds, out.StoreBytes
	r.out.Reads = r.done.Load()
	r.out.Wrong += out.Wrong
	r.out.AsksAgain = max(0, attempts.Load()-before-r.out.Reads-int64(len(errs))) // the last one of each reader was cut off
	return &r.out, nil
}

func (s *storm) deleteAndRestart(ctx context.Context, r *readers, quiet *proxy, dir string) (out Rebuild, err error) {
	const enough = 200 // reads before the kill, and after the end
	if err := r.more(ctx, enough); err != nil {
		return out, err
	}
	s.kill()
	quiet.point("")
	if out.StoreBytes, err = deleteStores(dir); err != nil {
		return out, err
	}
	start := time.Now()
	if err := s.restart(ctx); err != nil {
		return out, err
	}
	quiet.point(s.process().addr)
	out.ReadySeconds = time.Since(start).Seconds()
	// The readers' client waits between its attempts: this one asks at once.
	c, err := client.Dial(s.process().addr, client.Config{Timeout: crashPatience})
	if err != nil {
		return out, err
	}
	counts, err := readAll(ctx, c.Counter(crashNamespace), r.names)
	if err := errors.Join(err, c.Close()); err != nil {
		return out, err
	}
	out.Seconds = time.Since(start).Seconds()
	for i, want := range r.truth {
		if counts[i] != want {
			out.Wrong++
		}
	}
	return out, r.more(ctx, enough)
}

// more waits for n reads that are answered from now on. A reader that has given
// up says why where it is waited for.
func (r *readers) more(ctx context.Context, n int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*crashPatience, errors.New("the readers have no answers"))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for want := r.done.Load() + n; r.done.Load() < want; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// deleteStores removes the stores of counters below a data directory.
func deleteStores(dir string) (bytes int64, err error) {
	stores, err := filepath.Glob(filepath.Join(dir, "stores", "*", counterStores))
	if err != nil {
		return 0, err
	}
	if len(stores) == 0 {
		return 0, fmt.Errorf("there is no store of counters below %s", dir)
	}
	for _, name := range stores {
		err := filepath.WalkDir(name, func(_ string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				bytes += info.Size()
			}
			return err
		})
		if err := errors.Join(err, os.RemoveAll(name)); err != nil {
			return 0, fmt.Errorf("delete the store: %w", err)
		}
	}
	return bytes, nil
}

// resend sends the last calls once more, under the tokens that they had.
func (s *storm) resend(ctx context.Context, addr string, n int) (sent, known int, err error) {
	c, err := dialHeadwater(addr)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	for i := max(0, s.work.calls-n); i < s.work.calls; i++ {
		b, token := s.work.call(i)
		_, k, err := c.send(ctx, b, token)
		if err != nil {
			return sent, known, fmt.Errorf("send call %d once more: %w", i+1, err)
		}
		sent++
		if k {
			known++
		}
	}
	return sent, known, nil
}

// Drift is what counting again from the events found.
type Drift struct {
	Counters int `json:"counters"` // that were counted again
	Of       int `json:"of"`
	// Drift is the sum of what they differ by, without signs.
	Drift   int64   `json:"drift"`
	Seconds float64 `json:"seconds"`
}

// drift has counters counted again from their events: first those of the report,
// then others, chosen by the seed, for about as long as budget.
func drift(ctx context.Context, n *client.Counter, w *work, rows []int32, budget time.Duration) (Drift, error) {
	out := Drift{Of: len(w.flights.names.all)}
	order := append([]int32(nil), rows...)
	for _, i := range rand.New(rand.NewPCG(w.seed, 4)).Perm(len(w.flights.names.all)) {
		order = append(order, int32(i))
	}
	seen := make(map[int32]bool, len(order))
	start := time.Now()
	for k, i := range order {
		if seen[i] {
			continue
		}
		seen[i] = true
		if k >= len(rows) && time.Since(start) > budget {
			break
		}
		v, err := n.Verify(ctx, w.flights.names.all[i])
		if err != nil {
			return Drift{}, fmt.Errorf("count %s again from its events: %w", w.flights.names.all[i], err)
		}
		out.Counters++
		out.Drift += max(v.Drift, -v.Drift)
	}
	out.Seconds = time.Since(start).Seconds()
	return out, nil
}
