package pebblelog

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/headwater-db/headwater/wal"
)

// queue is what stands between callers and the committer. Calls join the last
// group that is still open; the committer takes groups from the front.
type queue struct {
	mu      sync.Mutex // guards all below, and taken, finished and withdrawn of groups and parts
	groups  []*group   // not yet taken, in order
	taken   []*group   // taken and not finished, in order
	bytes   int64      // of everything not yet finished, taken or not
	entries int64
	stopped error         // why nothing is taken any more
	more    chan struct{} // holds a token when groups may be non-empty
	space   chan struct{} // closed when room appears; nil when no one waits
}

// group is what one Pebble batch commits.
type group struct {
	parts    []*part
	bytes    int64
	entries  int64
	buffered bool          // some part is a buffered one
	since    time.Duration // when the first of these was added, on the log's clock
	left     bool          // a caller was told unknown; guarded by queue.mu
	taken    bool
	finished bool
	// copied is closed once the callers' bytes are in the batch and their results
	// hold offsets; done once the outcome is known, which is err.
	copied chan struct{}
	done   chan struct{}
	err    error
	ends   []endMark
}

func newGroup() *group {
	return &group{copied: make(chan struct{}), done: make(chan struct{})}
}

// endMark is what a group brings to one partition.
type endMark struct {
	ps  *partition
	end wal.Offset // the durable end, once it is synced

	followed bool        // by a reader, for which kept are its records
	kept     []wal.Entry // see tail
	bytes    int
}

// part is the share of one Append call in one group.
type part struct {
	t         *topic
	entries   []wal.NewEntry
	results   []wal.Result // nil for a buffered append of which nobody wants to know
	buffered  bool
	g         *group
	withdrawn bool // by its caller, before the group was taken
}

// Append implements wal.Log. A call larger than a group is cut into several,
// which keep their order.
func (t *topic) Append(ctx context.Context, d wal.Durability, entries []wal.NewEntry) []wal.Result {
	began := t.b.clock.elapsed()
	results := make([]wal.Result, len(entries))
	var one [1]*part
	parts := one[:0]
	refuse := func(from int, why error) {
		err := fmt.Errorf("append to topic %s: %w: %w", t.info.Name, wal.ErrNotAppended, why)
		for i := from; i < len(results); i++ {
			if results[i].Err == nil {
				results[i].Err = err
			}
		}
	}
	t.checkEntries(entries, results)
	for from := 0; from < len(entries); {
		to, size := cut(entries, results, from)
		if size == 0 { // nothing but refused entries
			from = to
			continue
		}
		p := &part{t: t, entries: entries[from:to]}
		if d == wal.Buffered {
			p.buffered = true
			p.entries, p.results = copyEntries(p.entries, results[from:to])
		} else {
			p.results = results[from:to]
		}
		if err := t.b.enqueue(ctx, p, size); err != nil {
			refuse(from, err)
			break
		}
		parts = append(parts, p)
		from = to
	}
	if d == wal.Buffered {
		for i := range results {
			results[i].Offset = wal.NoOffset
		}
		return results
	}
	for _, p := range parts {
		t.b.await(ctx, p)
	}
	t.b.metrics.append.Observe((t.b.clock.elapsed() - began).Seconds())
	return results
}

// checkEntries sets the error of entries that can never be taken.
func (t *topic) checkEntries(entries []wal.NewEntry, results []wal.Result) {
	for i := range entries {
		e := &entries[i]
		var why error
		switch {
		case int64(e.Partition) >= int64(len(t.parts)):
			why = fmt.Errorf("partition %d: %w", e.Partition, wal.ErrNoPartition)
		case len(e.Data) > wal.MaxRecordBytes:
			why = fmt.Errorf("%d bytes: %w", len(e.Data), wal.ErrTooLarge)
		default:
			continue
		}
		results[i].Err = fmt.Errorf("append to topic %s: %w: %w", t.info.Name, wal.ErrNotAppended, why)
	}
}

// cut returns where the next part of a call ends and what it costs in the queue;
// refused entries cost nothing.
func cut(entries []wal.NewEntry, results []wal.Result, from int) (to int, size int64) {
	for to = from; to < len(entries) && to-from < maxGroupEntries; to++ {
		if results[to].Err != nil {
			continue
		}
		n := int64(len(entries[to].Data)) + entryOverhead
		if size > 0 && size+n > maxGroupBytes {
			break
		}
		size += n
	}
	return to, size
}

// copyEntries copies the accepted entries of a buffered call, which returns
// before they are written. Results are there when some entry wants to know its
// own.
func copyEntries(entries []wal.NewEntry, results []wal.Result) (out []wal.NewEntry, told []wal.Result) {
	size, n, want := 0, 0, false
	for i := range entries {
		if results[i].Err == nil {
			size += len(entries[i].Data)
			n++
			want = want || entries[i].Settled != nil
		}
	}
	arena := make([]byte, 0, size)
	out = make([]wal.NewEntry, 0, n)
	for i := range entries {
		if results[i].Err != nil {
			continue
		}
		at := len(arena)
		arena = append(arena, entries[i].Data...)
		e := entries[i]
		e.Data = arena[at:len(arena):len(arena)]
		out = append(out, e)
	}
	if want {
		told = make([]wal.Result, n)
	}
	return out, told
}

// enqueue puts p into the last open group, waiting for room until ctx is done; a
// buffered one does not wait. An error means that nothing of p was or will be
// written.
func (b *Broker) enqueue(ctx context.Context, p *part, size int64) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	q := &b.queue
	for {
		var now time.Duration
		if p.buffered {
			now = b.clock.elapsed()
		}
		q.mu.Lock()
		switch {
		case q.stopped != nil:
			err := q.stopped
			q.mu.Unlock()
			return err
		case p.t.deleted.Load():
			q.mu.Unlock()
			return p.t.errDeleted()
		case b.space.full.Load():
			q.mu.Unlock()
			return b.space.err()
		case p.buffered && q.bufferedFor(now) >= b.cfg.BufferedLoss:
			q.mu.Unlock()
			return fmt.Errorf("%w: what was buffered %s ago is not durable yet", wal.ErrOverloaded, b.cfg.BufferedLoss)
		case q.bytes >= b.cfg.QueueBytes || q.entries >= b.cfg.QueueEntries:
			if p.buffered {
				q.mu.Unlock()
				return wal.ErrOverloaded
			}
			// Comparing before adding lets one part overshoot, so that a large one is
			// not starved by small ones that would still fit.
			if q.space == nil {
				q.space = make(chan struct{})
			}
			space := q.space
			q.mu.Unlock()
			select {
			case <-space:
				continue
			case <-b.stopping:
				continue
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", wal.ErrOverloaded, context.Cause(ctx))
			}
		}
		first := len(q.groups) == 0
		q.add(p, size, now)
		q.mu.Unlock()
		if first {
			q.wake()
		}
		return nil
	}
}

// bufferedFor is how long the oldest buffered part has waited. The caller holds
// mu. There are at most as many groups as fit the queue, some dozens.
func (q *queue) bufferedFor(now time.Duration) time.Duration {
	for _, gs := range [][]*group{q.taken, q.groups} {
		for _, g := range gs {
			if g.buffered {
				return now - g.since
			}
		}
	}
	return 0
}

func (q *queue) add(p *part, size int64, now time.Duration) {
	n := int64(len(p.entries))
	var g *group
	if len(q.groups) > 0 {
		g = q.groups[len(q.groups)-1]
	}
	if g == nil || g.bytes > 0 && (g.bytes+size > maxGroupBytes || g.entries+n > maxGroupEntries) {
		g = newGroup()
		q.groups = append(q.groups, g)
	}
	if p.buffered && !g.buffered {
		g.buffered, g.since = true, now
	}
	p.g = g
	g.parts = append(g.parts, p)
	g.bytes += size
	g.entries += n
	q.bytes += size
	q.entries += n
}

// wake tells the committer that there is a group.
func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// firstParts is how many parts the next group has so far, 0 when there is none.
func (q *queue) firstParts() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.groups) == 0 {
		return 0
	}
	return len(q.groups[0].parts)
}

// take returns the next group, or nil.
func (q *queue) take() (g *group, stopped bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.groups) > 0 {
		g = q.groups[0]
		q.groups[0] = nil
		q.groups = q.groups[1:]
		q.taken = append(q.taken, g)
		g.taken = true
	}
	return g, q.stopped != nil
}

// finish gives a taken group its outcome, unless it has one, and its room back.
func (q *queue) finish(g *group, err error) {
	q.mu.Lock()
	if g.finished {
		q.mu.Unlock()
		return
	}
	for i, x := range q.taken {
		if x == g {
			q.taken = append(q.taken[:i], q.taken[i+1:]...)
			break
		}
	}
	q.finishLocked(g, err)
	q.mu.Unlock()
	g.tell()
}

// tell gives the entries of buffered parts their outcome. It is called once, by
// who finished the group.
func (g *group) tell() {
	if !g.buffered {
		return
	}
	for _, p := range g.parts {
		if !p.buffered || p.results == nil {
			continue
		}
		for i := range p.entries {
			f := p.entries[i].Settled
			switch {
			case f == nil:
			case g.err != nil: // results may be in the committer's hands still
				f(wal.Result{Offset: wal.NoOffset, Err: fmt.Errorf("append to topic %s: %w", p.t.info.Name, g.err)})
			default:
				f(p.results[i])
			}
		}
	}
}

func (q *queue) finishLocked(g *group, err error) {
	g.finished = true
	g.err = err
	close(g.done)
	q.bytes -= g.bytes
	q.entries -= g.entries
	if q.space != nil {
		close(q.space)
		q.space = nil
	}
}

// stop makes every later enqueue return why. Groups not yet taken stay, to be
// written.
func (q *queue) stop(why error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopLocked(why)
}

func (q *queue) stopLocked(why error) {
	if q.stopped == nil {
		q.stopped = why
	}
	if q.space != nil {
		close(q.space)
		q.space = nil
	}
}

// fail ends everything in the queue: what was not taken is not appended, what was
// taken is unknown.
func (q *queue) fail(why error) {
	q.mu.Lock()
	q.stopped = why
	q.stopLocked(why)
	for _, g := range q.groups {
		q.finishLocked(g, fmt.Errorf("%w: %w", wal.ErrNotAppended, why))
	}
	for _, g := range q.taken {
		q.finishLocked(g, fmt.Errorf("%w: %w", wal.ErrUnknown, why))
	}
	ended := slices.Concat(q.taken, q.groups)
	q.groups, q.taken = nil, nil
	q.mu.Unlock()
	for _, g := range ended {
		g.tell()
	}
}

// doubted waits until no group is in flight that a caller was told unknown of.
func (q *queue) doubted(ctx context.Context) error {
	for {
		var wait *group
		q.mu.Lock()
		for _, g := range q.taken {
			if g.left {
				wait = g
			}
		}
		q.mu.Unlock()
		if wait == nil {
			return nil
		}
		select {
		case <-wait.done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// await fills p's results once its outcome is known or ctx is done.
func (b *Broker) await(ctx context.Context, p *part) {
	g := p.g
	select {
	case <-g.done:
	case <-ctx.Done():
		if p.withdraw(&b.queue) {
			p.settle(fmt.Errorf("%w: %w", wal.ErrNotAppended, context.Cause(ctx)))
			return
		}
		select {
		case <-g.done: // it came in the same moment, and is worth more
		default:
			// The committer may still be reading the caller's bytes. Copying them takes
			// no I/O, so this wait is short.
			<-g.copied
			p.settle(fmt.Errorf("%w: %w", wal.ErrUnknown, context.Cause(ctx)))
			return
		}
	}
	if g.err != nil && g.taken {
		<-g.copied
	}
	p.settle(g.err)
}

// withdraw takes p back, if its group is still waiting. Otherwise Barrier waits
// for the group.
func (p *part) withdraw(q *queue) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.g.taken || p.g.finished {
		p.g.left = true
		return false
	}
	p.withdrawn = true
	return true
}

// settle gives err to every entry that has no error of its own.
func (p *part) settle(err error) {
	if err == nil {
		return
	}
	err = fmt.Errorf("append to topic %s: %w", p.t.info.Name, err)
	for i := range p.results {
		if p.results[i].Err == nil {
			p.results[i] = wal.Result{Err: err}
		}
	}
}
