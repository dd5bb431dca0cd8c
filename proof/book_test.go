package proof

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// book is what the callers know: every write that was sent and what was said of
// it. From the acknowledged ones it says what the service must hold. Safe for
// concurrent use.
type book struct {
	mu     sync.Mutex // guards all
	writes []*write
	order  []*write // the settled ones, as they were settled
	counts [5]int   // answers by outcome
	// outages: nobody may apply a partition for so long that a copy finds out nothing about an earlier one in time.
	outages bool
	maybe   int // of the acknowledged: those that may be copies
	errs    []error
	// stopping: the server may refuse anything, for it is shutting down.
	stopping bool
}

func (b *book) isStopping() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stopping
}

func (b *book) setStopping(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopping = on
}

// add enters a write before it is sent for the first time.
func (b *book) add(w *write) *write {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.seq = len(b.writes)
	b.writes = append(b.writes, w)
	return w
}

// note enters an answer. known says that the write had an outcome before this
// copy was sent, so that the server must say that it knew the token.
func (b *book) note(w *write, a *answer, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[a.outcome]++
	fail := func(what string) {
		b.errs = append(b.errs, fmt.Errorf("%v: %s: first %v, then %v", w, what, &w.first, a))
	}
	if a.maybe { // it is in the log, and one copy of it has its effect: which one is asked later
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
		if b.stopping || b.outages && status.Code(a.err) == codes.DeadlineExceeded {
			return
		}
		if known {
			fail("a write that had an outcome is now said not to be applied")
		} else if w.put == nil || w.put.Condition == nil {
			// Nothing but an overload refuses these, and the load is small.
			fail("a write was not applied")
		}
		return
	case acked, refused:
	}
	if a.outcome == acked && !a.again {
		if w.news++; w.news > 1 || known {
			fail("a known token is said to be new")
		}
	}
	if !w.settled {
		w.settled, w.first = true, *a
		b.order = append(b.order, w)
		return
	}
	f := &w.first
	if f.outcome != a.outcome || f.part != a.part || f.offset != a.offset || f.current != a.current || f.time != a.time || !slices.Equal(f.versions, a.versions) {
		fail("two copies got two answers")
	}
}

// noteOther enters the answer to another request under the token of a settled
// write.
func (b *book) noteOther(w *write, a *answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if (a.outcome == acked || a.outcome == refused) && !a.maybe { // a shed one is not applied
		b.errs = append(b.errs, fmt.Errorf("%v: another request under its token: %v", w, a))
	}
}

func (b *book) fault(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errs = append(b.errs, err)
}

// err returns what was wrong in the answers so far.
func (b *book) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.errs...)
}

// open returns the writes that may have taken place or not. One of which every
// copy was refused has not, and is not sent again: it must not be seen.
func (b *book) open() (ws []*write) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.writes {
		if !w.settled && w.unknown > 0 {
			ws = append(ws, w)
		}
	}
	return ws
}

// held is the winner of one key.
type held struct {
	version wal.Version
	value   []byte
	from    *write
}

// effect is one thing that an acknowledged write did.
type effect struct {
	id      string
	version wal.Version
	offset  wal.Offset
	key     string    // of a put, or of the tombstone of one key
	within  *kv.Range // of a delete
	value   []byte
	from    *write
}

// effectsOf is what an acknowledged write must have done.
func effectsOf(w *write) (es []effect, err error) {
	a := &w.first
	put := func(r *headwaterv1.PutItemsRequest, versions []wal.Version) {
		for i, it := range r.Items {
			es = append(es, effect{id: r.Id, version: versions[i], offset: a.offset, key: string(it.Key), value: it.Value, from: w})
		}
	}
	remove := func(r *headwaterv1.DeleteItemsRequest, t int64) {
		v := wal.Version{Time: t, Class: wal.Deleted, Nonce: a.nonce}
		switch p := r.Predicate.GetPredicate().(type) {
		case *headwaterv1.Predicate_MatchKeys_:
			for _, k := range p.MatchKeys.Keys {
				es = append(es, effect{id: r.Id, version: v, offset: a.offset, key: string(k), from: w})
			}
		case *headwaterv1.Predicate_MatchRange_:
			es = append(es, effect{id: r.Id, version: v, offset: a.offset, within: &kv.Range{Start: p.MatchRange.Start, End: p.MatchRange.End}, from: w})
		default:
			es = append(es, effect{id: r.Id, version: v, offset: a.offset, within: &kv.Range{Open: true}, from: w})
		}
	}
	switch {
	case w.put != nil:
		if len(a.versions) != len(w.put.Items) {
			return nil, fmt.Errorf("%v: %d versions for %d items", w, len(a.versions), len(w.put.Items))
		}
		put(w.put, a.versions)
	case w.del != nil:
		remove(w.del, a.time)
	case w.mutate != nil:
		// The load's groups delete first what they then put again.
		for _, m := range w.mutate.Mutations {
			if d := m.GetDelete(); d != nil {
				remove(d, a.time-1)
				continue
			}
			versions := make([]wal.Version, len(m.GetPut().Items))
			for i := range versions {
				versions[i] = wal.Version{Time: a.time, Class: wal.Live, Nonce: a.nonce}
			}
			put(m.GetPut(), versions)
		}
	}
	return es, nil
}

// expected folds the acknowledged writes by version: what every key must hold,
// deleted and expired ones included. A conditional write that was acknowledged
// is checked against what stood before it in the log.
func (b *book) expected() (map[string]map[string]held, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []effect
	for _, w := range b.writes {
		if !w.settled || w.first.outcome != acked || w.log != nil {
			continue
		}
		es, err := effectsOf(w)
		if err != nil {
			return nil, err
		}
		all = append(all, es...)
	}
	// Offsets of two partitions do not compare, but an id is in one of them.
	slices.SortStableFunc(all, func(x, y effect) int {
		if c := strings.Compare(x.id, y.id); c != 0 {
			return c
		}
		return int(x.offset - y.offset)
	})
	state := make(map[string]map[string]held)
	deletes := make(map[string][]effect)
	var errs []error
	for i := range all {
		e := &all[i]
		keys := state[e.id]
		if keys == nil {
			keys = make(map[string]held)
			state[e.id] = keys
		}
		if e.within != nil {
			deletes[e.id] = append(deletes[e.id], *e)
			for k, h := range keys {
				if e.within.Contains([]byte(k)) && e.version.Compare(h.version) > 0 {
					keys[k] = held{version: e.version, from: e.from}
				}
			}
			continue
		}
		cur, ok := keys[e.key]
		if !ok { // deletes of the key that came before its first write
			for _, d := range deletes[e.id] {
				if d.within.Contains([]byte(e.key)) && d.version.Compare(cur.version) > 0 {
					cur = held{version: d.version, from: d.from}
				}
			}
		}
		if err := conditionHeld(e, cur); err != nil {
			errs = append(errs, err)
		}
		if e.version.Compare(cur.version) > 0 {
			cur = held{version: e.version, value: e.value, from: e.from}
		} else if e.from.put != nil && e.from.put.Condition != nil {
			errs = append(errs, fmt.Errorf("%v: acknowledged (%v) and without effect: %v of %v stands", e.from, &e.from.first, cur.version, cur.from))
		}
		keys[e.key] = cur
	}
	return state, errors.Join(errs...)
}

// conditionHeld checks the condition of an acknowledged put against what the
// writes before it in the log left.
func conditionHeld(e *effect, cur held) error {
	if e.from.put == nil {
		return nil
	}
	there := cur.version != (wal.Version{}) && cur.version.Class != wal.Deleted
	switch c := e.from.put.Condition.GetCondition().(type) {
	case *headwaterv1.Condition_IfAbsent:
		// An expiring item may have been gone by the log's time, which the book
		// does not know.
		if there && cur.version.Class == wal.Live {
			return fmt.Errorf("%v: acknowledged although %v of %v was there", e.from, cur.version, cur.from)
		}
	case *headwaterv1.Condition_IfVersion:
		if !there || cur.version.String() != c.IfVersion {
			return fmt.Errorf("%v: acknowledged although %v of %v stood there", e.from, cur.version, cur.from)
		}
	}
	return nil
}
