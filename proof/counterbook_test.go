package proof

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwater-db/headwater/wal"
)

// ledger is what callers of counters know: every call and what was said of it.
// From the acknowledged ones it says what every counter must be (see ledgerOf).
// Safe for concurrent use.
type ledger struct {
	mu      sync.Mutex // guards all
	calls   []*tally
	order   []*tally // the settled ones, as they were settled
	counts  [5]int   // answers by outcome
	refusal map[string]int
	errs    []error
	letters int // dead letters that the last namespace that was verified must have
	// outages: nobody may apply a partition for so long that a copy finds out nothing about an earlier one in time.
	outages bool
	maybe   int // of the acknowledged: those that may be copies
}

// enter enters a call before it is sent for the first time.
func (b *ledger) enter(w *tally) *tally {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.seq = len(b.calls)
	b.calls = append(b.calls, w)
	return w
}

// note enters an answer. known says that the call had an outcome before this copy
// was sent, so that the server must say that it knew the token.
func (b *ledger) note(w *tally, a *reckoning, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[a.outcome]++
	fail := func(what string) {
		b.errs = append(b.errs, fmt.Errorf("%v: %s: first %v, then %v", w, what, &w.first, a))
	}
	if a.maybe && b.outages { // it is in the log, and one copy of it has its effect: which one is asked later
		b.maybe++
		w.unknown++
		return
	}
	switch a.outcome {
	case unknown:
		w.unknown++
		return
	case reused:
		fail("the token was refused for the request that it was made for")
		return
	case notApplied:
		if b.outages && status.Code(a.err) == codes.DeadlineExceeded {
			return
		}
		fail("a call was not applied") // nothing but an overload refuses these, and the load is small
		return
	case refused:
		if b.refusal == nil {
			b.refusal = make(map[string]int)
		}
		b.refusal[a.reason]++
	case acked:
		if !a.again && !a.maybe {
			if w.news++; w.news > 1 || known {
				fail("a known token is said to be new")
			}
		}
	}
	if !w.settled {
		w.settled, w.first = true, *a
		b.order = append(b.order, w)
		return
	}
	if !w.first.same(a) {
		fail("two copies got two answers")
	}
}

// noteOther enters the answer to another request under the token of a settled
// call.
func (b *ledger) noteOther(w *tally, a *reckoning) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if (a.outcome == acked || a.outcome == refused) && !(a.maybe && b.outages) { // a shed one is not applied
		b.errs = append(b.errs, fmt.Errorf("%v: another request under its token: %v", w, a))
	}
}

// err returns what was wrong in the answers so far.
func (b *ledger) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.errs[:min(len(b.errs), 10)]...)
}

// open returns the calls that may have taken place or not.
func (b *ledger) open() (ws []*tally) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.calls {
		if !w.settled && w.unknown > 0 {
			ws = append(ws, w)
		}
	}
	return ws
}

// settle sends every open call again until it has an answer.
func (b *ledger) settle(c *conn) error {
	for _, w := range b.open() {
		var a reckoning
		for tries := 0; tries == 0 || a.maybe && tries < 50; tries++ { // its owner may have to be heard of first
			ctx, cancel := callContext()
			a = c.count(ctx, w)
			cancel()
			b.note(w, &a, false)
		}
		if a.outcome == unknown || a.maybe {
			return fmt.Errorf("%v: sent again: %w", w, a.err)
		}
	}
	return b.err()
}

// again sends a sample of the settled calls of the last rounds again, and other
// requests under their tokens.
func (b *ledger) again(c *conn, sample []*tally) error {
	for i, w := range sample {
		ctx, cancel := callContext()
		if o := w.other(); i%4 == 3 && o != nil {
			a := c.count(ctx, o)
			b.noteOther(w, &a)
		} else {
			a := c.count(ctx, w)
			b.note(w, &a, true)
		}
		cancel()
	}
	return b.err()
}

// sample draws settled calls of the last rounds, which are within the token
// window.
func (b *ledger) sample(r *rand.Rand, n int) (ws []*tally) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.calls) == 0 {
		return nil
	}
	last := b.calls[len(b.calls)-1].round
	var from int
	for from < len(b.calls) && b.calls[from].round < last-20 {
		from++
	}
	for range n {
		if w := b.calls[from+r.IntN(len(b.calls)-from)]; w.settled {
			ws = append(ws, w)
		}
	}
	return ws
}

// size is how many calls have an answer, and how many there are.
func (b *ledger) size() (settled, begun int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.order), len(b.calls)
}

// asOf is the ledger as it was when so many calls were settled and begun.
func (b *ledger) asOf(settled, begun int) *ledger {
	nb := &ledger{}
	copies := make(map[*tally]*tally, begun)
	for _, w := range b.calls[:begun] {
		n := *w
		n.settled, n.first, n.news, n.unknown = false, reckoning{}, 0, 1 // on its way, perhaps
		copies[w] = &n
		nb.calls = append(nb.calls, &n)
	}
	for _, w := range b.order[:settled] {
		n := copies[w]
		n.settled, n.first, n.news = true, w.first, 1
		nb.order = append(nb.order, n)
	}
	return nb
}

// where is the offset of an acknowledged call's record for a counter.
func (w *tally) where(counter string, partitions int) (wal.Partition, wal.Offset, error) {
	p := wal.PartitionOfString(counter, partitions)
	o, ok := w.first.offsets[p]
	if !ok {
		return p, 0, fmt.Errorf("%v: its position %v has nothing of partition %d, where %s is", w, w.first.offsets, p, counter)
	}
	return p, o, nil
}
