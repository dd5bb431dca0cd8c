package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/headwater-db/headwater/client"
)

// Options say how flights are loaded.
type Options struct {
	// Namespace is a namespace of abstraction kv.
	Namespace string
	// Batch is the number of items of a call, at most 1,000; 0: 500.
	Batch int
	// Workers is how many calls are under way at once; 0: 8.
	Workers int
	// Progress, when set, is told how many rows are done, of Flights.Rows. It may be
	// called from several goroutines.
	Progress func(done int)
	// Acknowledged, when set, is told of each batch that was acknowledged: its record,
	// the keys of its items in order, and the answer. It may be called from several
	// goroutines.
	Acknowledged func(id string, keys []string, res client.WriteResult)
}

func (o Options) withDefaults() Options {
	if o.Batch == 0 {
		o.Batch = 500
	}
	if o.Workers == 0 {
		o.Workers = 8
	}
	return o
}

// Loaded is what a load did.
type Loaded struct {
	Rows    int `json:"rows"`
	Batches int `json:"batches"`
	// Repeated batches were there already, under the same token.
	Repeated int `json:"repeatedBatches"`
	// Durability is that of the answers.
	Durability client.Durability `json:"durability"`
	Seconds    float64           `json:"seconds"`
	RowsPerSec float64           `json:"rowsPerSecond"`
}

// batch is one call.
type batch struct {
	id    string
	rows  []row
	token string
}

// batches returns the calls of a load, the same ones each time. The token names
// the rows of the whole load and the batch's place in it, and how they were cut,
// so that the same token never goes with other content.
func (f *Flights) batches(size int) []batch {
	var all []batch
	for _, a := range f.airports {
		for rows := a.rows; len(rows) > 0; {
			n := min(size, len(rows))
			all = append(all, batch{id: a.code, rows: rows[:n], token: fmt.Sprintf("headwater-demo/%s/%d/%d", f.hash, size, len(all))})
			rows = rows[n:]
		}
	}
	return all
}

// Load writes the flights. An error means that not every row is known to be in
// the log; calling it again completes what is missing.
func Load(ctx context.Context, c *client.Client, f *Flights, o Options) (Loaded, error) {
	o = o.withDefaults()
	all := f.batches(o.Batch)
	out := Loaded{Rows: f.Rows, Batches: len(all)}
	t := tally{progress: o.Progress}
	start := time.Now()
	err := each(ctx, o.Workers, len(all), func(ctx context.Context, i int) error {
		b := &all[i]
		items, keys := make([]client.PutItem, len(b.rows)), make([]string, len(b.rows))
		for j, r := range b.rows {
			keys[j] = r.key
			items[j] = client.PutItem{Key: r.key, Value: r.value, ContentType: "application/json", Compression: client.Uncompressed}
		}
		res, err := c.KV(o.Namespace).PutItems(ctx, b.id, items, client.WriteOptions{Token: client.Token{Key: b.token}})
		if err != nil {
			return fmt.Errorf("load %s, batch %d of %d: %w", b.id, i+1, len(all), err)
		}
		if o.Acknowledged != nil {
			o.Acknowledged(b.id, keys, res)
		}
		t.sent(len(b.rows), res)
		return nil
	})
	if err != nil {
		return Loaded{}, err
	}
	out.Durability, out.Repeated = t.durability, t.repeated
	out.Seconds = time.Since(start).Seconds()
	out.RowsPerSec = float64(f.Rows) / out.Seconds
	return out, nil
}

// tally is what a load has sent so far. Safe for concurrent use.
type tally struct {
	progress func(done int) // nil: nobody is told

	mu         sync.Mutex // guards what follows
	done       int        // flights
	repeated   int        // calls that were there already
	durability client.Durability
}

// sent notes a call of so many flights.
func (t *tally) sent(flights int, res client.WriteResult) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done += flights
	t.durability = res.Durability
	if res.Duplicate == client.Repeated {
		t.repeated++
	}
	if t.progress != nil {
		t.progress(t.done)
	}
}

// each calls do for 0 to n-1 from several goroutines, and stops at the first
// error, which it returns.
func each(ctx context.Context, workers, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(workers, n) {
		wg.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
