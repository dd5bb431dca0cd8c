package proof

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// load is what concurrent callers ask of the service. What they ask comes from
// the seed; when they are cut off does not.
type load struct {
	book    *book
	round   int
	ids     int // records that are written to
	keys    int // keys of each
	kvName  string
	logName string
	most    int // writes after which it ends by itself; 0 is no bound
	// other is another gateway, which every second writer uses and every second copy goes to; nil is none.
	other *conn
	pause time.Duration // between two requests of a writer
}

// whileAway is how long a caller waits after a call that was not answered, or not applied: asking on would only fill the book.
const whileAway = 30 * time.Millisecond

// gateways are c and the other one in the order that caller i asks them.
func gateways(i int, c, other *conn) (first, second *conn) {
	switch {
	case other == nil:
		return c, c
	case i%2 == 1:
		return other, c
	}
	return c, other
}

// run keeps writers busy over c until stop is closed.
func (l *load) run(c *conn, seed uint64, writers int, stop <-chan struct{}) {
	var wg sync.WaitGroup
	for i := range writers {
		w := &writer{load: l, r: rand.New(rand.NewPCG(seed, uint64(l.round)<<16|uint64(i))), n: i}
		w.c, w.second = gateways(i, c, l.other)
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, begun := l.book.size(); l.most > 0 && begun >= l.most {
						return
					}
					w.step()
				}
				if w.cut && l.book.isStopping() {
					return // the server is going
				}
				if w.cut {
					<-time.After(whileAway)
				}
				if l.pause > 0 {
					<-time.After(l.pause)
				}
			}
		})
	}
	wg.Wait()
}

// writer is one caller.
type writer struct {
	*load
	c *conn
	// second is where a copy goes that is sent at the same time.
	second *conn
	r      *rand.Rand
	n      int
	seen   []wal.Version // of puts that were acknowledged to this caller
	of     []spot        // where they are
	done   []*write      // settled writes of this caller, to send again
	cut    bool          // the last write was not answered, or refused
}

type spot struct{ id, key string }

func (w *writer) step() {
	switch n := w.r.IntN(100); {
	case n < 25:
		w.send(w.write(&write{put: w.putItems(1+w.r.IntN(4), 0)}))
	case n < 35:
		w.send(w.write(&write{put: w.putItems(1, w.ttl())}))
	case n < 50:
		w.send(w.conditional())
	case n < 62:
		w.send(w.remove())
	case n < 70:
		w.send(w.group())
	case n < 80:
		w.batch()
	case n < 92:
		w.send(w.write(&write{log: &headwaterv1.WriteToLogRequest{
			Namespace: w.logName, Key: fmt.Sprintf("k%d", w.r.IntN(8)), Payload: w.value(), Token: w.token(),
		}}))
	default:
		w.resend()
	}
}

// write enters a request in the book.
func (w *writer) write(x *write) *write {
	x.round = w.round
	return w.book.add(x)
}

// token is the server's time or, for half of the writes, a time of the caller's
// own that is up to a second off, so that order in the log and order in time
// differ.
func (w *writer) token() *headwaterv1.IdempotencyToken {
	n := w.nonce()
	if w.r.IntN(2) == 0 {
		return nonceToken(n, 0)
	}
	return nonceToken(n, time.Now().Add(time.Duration(w.r.IntN(2_000_000)-1_000_000)*time.Microsecond).UnixMicro())
}

func (w *writer) nonce() (n wal.Nonce) {
	binary.BigEndian.PutUint64(n[:], w.r.Uint64())
	binary.BigEndian.PutUint64(n[8:], w.r.Uint64())
	return n
}

func (w *writer) id() string  { return fmt.Sprintf("id%d", w.r.IntN(w.ids)) }
func (w *writer) key() string { return fmt.Sprintf("key%02d", w.r.IntN(w.keys)) }

// value is one that nobody else writes.
func (w *writer) value() []byte {
	return fmt.Appendf(nil, "%d/%d/%x/%0*d", w.round, w.n, w.r.Uint64(), w.r.IntN(200), 0)
}

func (w *writer) ttl() time.Duration {
	if w.r.IntN(2) == 0 {
		return time.Duration(1+w.r.IntN(100)) * time.Millisecond
	}
	return time.Hour
}

func (w *writer) putItems(n int, ttl time.Duration) *headwaterv1.PutItemsRequest {
	req := &headwaterv1.PutItemsRequest{Namespace: w.kvName, Id: w.id(), Token: w.token()}
	used := make(map[string]bool)
	for range n {
		k := w.key()
		if used[k] {
			continue
		}
		used[k] = true
		it := &headwaterv1.PutItem{Key: []byte(k), Value: w.value()}
		if ttl != 0 {
			it.Ttl = durationpb.New(ttl)
		}
		req.Items = append(req.Items, it)
	}
	return req
}

// conditional asks for an absent key, or for a version that this caller knows,
// which may be gone.
func (w *writer) conditional() *write {
	req := w.putItems(1, 0)
	req.Condition = &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfAbsent{IfAbsent: true}}
	if n := len(w.of); n > 0 && w.r.IntN(3) > 0 {
		i := n - 1 - w.r.IntN(min(n, 4)) // a recent one has a chance to hold
		req.Id, req.Items[0].Key = w.of[i].id, []byte(w.of[i].key)
		req.Condition = &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfVersion{IfVersion: w.seen[i].String()}}
	}
	return w.write(&write{put: req})
}

func (w *writer) predicate() *headwaterv1.Predicate {
	switch w.r.IntN(6) {
	case 0:
		return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}
	case 1, 2:
		a, b := w.r.IntN(w.keys), w.r.IntN(w.keys)
		return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchRange_{MatchRange: &headwaterv1.Predicate_MatchRange{
			Start: fmt.Appendf(nil, "key%02d", min(a, b)), End: fmt.Appendf(nil, "key%02d", max(a, b)+1),
		}}}
	default:
		keys := [][]byte{[]byte(w.key())}
		if k := w.key(); k != string(keys[0]) {
			keys = append(keys, []byte(k))
		}
		return &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: &headwaterv1.Predicate_MatchKeys{Keys: keys}}}
	}
}

func (w *writer) remove() *write {
	return w.write(&write{del: &headwaterv1.DeleteItemsRequest{Namespace: w.kvName, Id: w.id(), Predicate: w.predicate(), Token: w.token()}})
}

// group deletes a record and puts some of it again, as one.
func (w *writer) group() *write {
	put := w.putItems(1+w.r.IntN(3), 0)
	put.Token = nil
	del := &headwaterv1.DeleteItemsRequest{Namespace: w.kvName, Id: put.Id, Predicate: &headwaterv1.Predicate{
		Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}}
	return w.write(&write{mutate: &headwaterv1.MutateItemsRequest{Token: w.token(), Mutations: []*headwaterv1.Mutation{
		{Mutation: &headwaterv1.Mutation_Delete{Delete: del}}, {Mutation: &headwaterv1.Mutation_Put{Put: put}},
	}}})
}

// send sends a write, every eighth time twice at once.
func (w *writer) send(x *write) {
	ctx, cancel := callContext()
	defer cancel()
	var wg sync.WaitGroup
	if w.r.IntN(8) == 0 {
		wg.Go(func() {
			a := w.second.send(ctx, x)
			w.book.note(x, &a, false)
		})
	}
	a := w.c.send(ctx, x)
	w.book.note(x, &a, false)
	wg.Wait()
	w.keep(x, &a)
}

func (w *writer) keep(x *write, a *answer) {
	if w.cut = a.outcome != acked && a.outcome != refused; w.cut {
		return
	}
	w.done = append(w.done, x)
	if x.put != nil && a.outcome == acked {
		w.seen, w.of = append(w.seen, a.versions[0]), append(w.of, spot{x.put.Id, string(x.put.Items[0].Key)})
	}
}

// batch sends several puts in one call, now and then one of them twice.
func (w *writer) batch() {
	var ws []*write
	for range 2 + w.r.IntN(12) {
		ws = append(ws, w.write(&write{put: w.putItems(1+w.r.IntN(2), 0)}))
	}
	if w.r.IntN(4) == 0 {
		ws = append(ws, ws[0])
	}
	ctx, cancel := callContext()
	defer cancel()
	for i, a := range w.c.sendBatch(ctx, ws) {
		w.book.note(ws[i], &a, false)
		w.keep(ws[i], &a)
	}
}

// resend sends a write that has its answer again, or another under its token.
func (w *writer) resend() {
	if len(w.done) == 0 {
		return
	}
	x := w.done[w.r.IntN(len(w.done))]
	ctx, cancel := callContext()
	defer cancel()
	if w.r.IntN(3) == 0 {
		a := w.c.send(ctx, x.other())
		w.book.noteOther(x, &a)
		return
	}
	a := w.c.send(ctx, x)
	w.book.note(x, &a, true)
}
