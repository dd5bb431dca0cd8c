package proof

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/wal"
)

// service is a server that restarts under its callers.
type service struct {
	t    *testing.T
	dir  string
	ns   string // the key-value namespace
	set  func(*server.Config)
	s    *server.Server
	mu   sync.Mutex // guards addr and next
	addr string
	next chan struct{} // closed at the next restart
	// stays: it is always at addr, where calls fail for moments of which nobody tells.
	stays bool
}

func newService(t *testing.T, ns string, set func(*server.Config)) *service {
	sv := &service{t: t, dir: t.TempDir(), ns: ns, set: set, next: make(chan struct{})}
	sv.s = open(t, sv.dir, set)
	sv.addr = sv.s.GRPCAddr()
	t.Cleanup(func() {
		if err := sv.s.Close(); err != nil {
			t.Error(err)
		}
	})
	return sv
}

// where is the server's address now, and the end of it.
func (sv *service) where() (string, <-chan struct{}) {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	return sv.addr, sv.next
}

// restart cuts everybody off and opens the server again elsewhere.
func (sv *service) restart() {
	if err := sv.s.Close(); err != nil {
		sv.t.Error(err)
	}
	sv.s = open(sv.t, sv.dir, sv.set)
	sv.mu.Lock()
	sv.addr = sv.s.GRPCAddr()
	close(sv.next)
	sv.next = make(chan struct{})
	sv.mu.Unlock()
}

// caller is a connection that follows the server.
type caller struct {
	sv   *service
	c    *conn
	next <-chan struct{}
}

// conn returns a connection to where the server is.
func (k *caller) conn() *conn {
	if k.c == nil {
		var addr string
		addr, k.next = k.sv.where()
		k.c = connect(k.sv.t, addr)
	}
	return k.c
}

// lost is called after a call that may have failed for a restart: it waits for
// that.
func (k *caller) lost() {
	if k.sv.stays {
		<-time.After(whileAway)
		return
	}
	select {
	case <-k.next:
	case <-time.After(timeout):
		k.sv.t.Error("a call failed and the server did not restart")
	}
	k.c.close()
	k.c = nil
}

// register is what a conditional item is to the checker: the number of the write
// that it holds, 0 for none.
type registerInput struct {
	kind   string // "read", "absent", "replace", "delete"
	expect int    // the write whose version the condition names; 0 for none
	write  int    // what is written
}

type registerOutput struct {
	outcome outcome
	found   int // read: what was there; refused: what stood there, -1 when that is not known
}

var register = porcupine.NondeterministicModel{
	Init: func() []any { return []any{0} },
	Step: func(state, input, output any) []any {
		cur, in, out := state.(int), input.(registerInput), output.(registerOutput)
		if in.kind == "read" {
			if out.found == cur {
				return []any{cur}
			}
			return nil
		}
		holds := cur == in.expect && (in.kind == "absent" || cur != 0)
		after := in.write // 0 for a delete
		switch out.outcome {
		case acked:
			if holds {
				return []any{after}
			}
		case refused:
			if !holds && (out.found < 0 || out.found == cur) {
				return []any{cur}
			}
		case unknown:
			if holds {
				return []any{cur, after}
			}
			return []any{cur}
		}
		return nil
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// history collects the operations on one key.
type history struct {
	mu       sync.Mutex // guards all
	ops      []porcupine.Operation
	versions map[string]int // which write a version is
}

// registers is the test's shared state.
type registers struct {
	sv        *service
	epoch     time.Time
	keys      []history
	writes    atomic.Int64
	unknown   atomic.Int64
	succeeded atomic.Int64
}

func newRegisters(sv *service) *registers {
	g := &registers{sv: sv, epoch: time.Now(), keys: make([]history, 4)}
	for i := range g.keys {
		g.keys[i].versions = make(map[string]int)
	}
	return g
}

func (g *registers) clock() int64 { return int64(time.Since(g.epoch)) }

// TestLinearizable lets concurrent callers put and delete under conditions and
// read with LATEST while the server restarts, and has porcupine find an order of
// what happened, key by key.
func TestLinearizable(t *testing.T) { linearizable(t, newService(t, "demo-kv", nil)) }

func linearizable(t *testing.T, sv *service) {
	seed, _ := seedOf(t)
	restarts, perCaller := 3, 120
	if long() {
		restarts, perCaller = 10, 600
	}
	g := newRegisters(sv)
	const callers = 6
	var wg sync.WaitGroup
	var steps atomic.Int64
	due := make(chan struct{}, restarts)
	for i := range callers {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		k := &caller{sv: g.sv}
		wg.Go(func() {
			known := make([]string, len(g.keys))
			for range perCaller {
				g.step(k, r, i, known)
				if n := steps.Add(1); n%int64(callers*perCaller/(restarts+1)) == 0 && n < int64(callers*perCaller) {
					select {
					case due <- struct{}{}:
					default:
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	for over := false; !over; {
		select {
		case <-due:
			g.sv.restart()
		case <-done:
			over = true
		}
	}
	g.check()
	t.Logf("%d restarts", restarts)
}

// check has porcupine find an order of what happened, key by key.
func (g *registers) check() {
	t := g.sv.t
	t.Helper()
	total := 0
	for i := range g.keys {
		h := &g.keys[i]
		for j := range h.ops { // what a refusal found is known by the end
			if out := h.ops[j].Output.(refusal); out.version != "" {
				n, ok := h.versions[out.version]
				if !ok {
					n = -1
				}
				out.registerOutput.found = n
				h.ops[j].Output = out.registerOutput
			} else {
				h.ops[j].Output = out.registerOutput
			}
		}
		total += len(h.ops)
		hasOrder(t, fmt.Sprintf("key%d", i), register.ToModel(), h.ops)
	}
	t.Logf("%d operations, %d writes succeeded, %d of unknown outcome", total, g.succeeded.Load(), g.unknown.Load())
	mustHave(t, g.succeeded.Load() >= 50, "50 writes that succeeded")
}

// hasOrder has porcupine find an order of operations. Where there is none it tells the end of the longest that it found, and
// what it could not add to that.
func hasOrder(t *testing.T, name string, m porcupine.Model, ops []porcupine.Operation) {
	t.Helper()
	result, info := porcupine.CheckOperationsVerbose(m, ops, 2*time.Minute)
	switch result {
	case porcupine.Ok:
		return
	case porcupine.Unknown:
		t.Errorf("%s: no verdict on %d operations in time", name, len(ops))
		return
	case porcupine.Illegal:
	}
	path := t.ArtifactDir() + "/" + name + ".html"
	if err := porcupine.VisualizePath(m, info, path); err != nil {
		t.Error(err)
	}
	var longest []porcupine.Operation
	for _, part := range info.PartialLinearizationsOperations() {
		for _, l := range part {
			if len(l) > len(longest) {
				longest = l
			}
		}
	}
	told := func(o porcupine.Operation) string {
		return fmt.Sprintf("\n  %9.3f to %9.3f ms, caller %d: %s", float64(o.Call)/1e6, float64(o.Return)/1e6, o.ClientId, m.DescribeOperation(o.Input, o.Output))
	}
	text, in := "", make(map[string]bool)
	for i, o := range longest {
		if in[told(o)] = true; i >= len(longest)-12 {
			text += told(o)
		}
	}
	text += "\nand then none of"
	left := slices.DeleteFunc(slices.Clone(ops), func(o porcupine.Operation) bool { return in[told(o)] })
	slices.SortFunc(left, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, o := range left[:min(len(left), 12)] {
		text += told(o)
	}
	t.Errorf("%s: %d operations have no order; see %s (go test -artifacts keeps it):%s", name, len(ops), path, text)
}

// refusal is a registerOutput whose found is still the version that was told.
type refusal struct {
	registerOutput
	version string
}

// step does one operation and enters it. known is the version that this caller
// saw last, by key.
func (g *registers) step(k *caller, r *rand.Rand, client int, known []string) {
	i := r.IntN(len(g.keys))
	h := &g.keys[i]
	id, key := fmt.Sprintf("register%d", i), []byte("k")
	enter := func(in registerInput, out refusal, call, end int64) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: end})
	}
	learn := func(version string, write int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if n, ok := h.versions[version]; ok && n != write {
			g.sv.t.Errorf("version %s is write %d and write %d", version, n, write)
		}
		h.versions[version] = write
	}
	ctx, cancel := callContext()
	defer cancel()
	if r.IntN(3) == 0 {
		call := g.clock()
		resp, err := k.conn().kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: k.sv.ns, Id: id, Consistency: headwaterv1.Consistency_LATEST})
		if err != nil {
			k.lost()
			return
		}
		found := 0
		known[i] = ""
		if len(resp.Items) > 0 {
			if _, err := fmt.Sscan(string(resp.Items[0].Value), &found); err != nil {
				g.sv.t.Error(err)
			}
			known[i] = resp.Items[0].Version
			learn(known[i], found)
		}
		enter(registerInput{kind: "read"}, refusal{registerOutput: registerOutput{found: found}}, call, g.clock())
		return
	}
	in := registerInput{kind: "absent"}
	w := &write{}
	tok := nonceToken(wal.NewNonce(), 0)
	put := func(c *headwaterv1.Condition) {
		in.write = int(g.writes.Add(1))
		w.put = &headwaterv1.PutItemsRequest{Namespace: k.sv.ns, Id: id, Token: tok, Condition: c, Items: []*headwaterv1.PutItem{{Key: key, Value: fmt.Append(nil, in.write)}}}
	}
	if v := known[i]; v == "" || r.IntN(8) == 0 {
		put(&headwaterv1.Condition{Condition: &headwaterv1.Condition_IfAbsent{IfAbsent: true}})
	} else {
		h.mu.Lock()
		in.expect = h.versions[v]
		h.mu.Unlock()
		c := &headwaterv1.Condition{Condition: &headwaterv1.Condition_IfVersion{IfVersion: v}}
		if in.kind = "replace"; r.IntN(5) == 0 {
			in.kind = "delete"
			w.del = &headwaterv1.DeleteItemsRequest{Namespace: k.sv.ns, Id: id, Token: tok, Condition: c,
				Predicate: &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchKeys_{MatchKeys: &headwaterv1.Predicate_MatchKeys{Keys: [][]byte{key}}}}}
		} else {
			put(c)
		}
	}
	call := g.clock()
	a := k.conn().send(ctx, w)
	open := false
	for a.outcome == unknown || a.outcome == notApplied {
		k.lost()
		if a.outcome == notApplied && !open {
			return // this was the only copy
		}
		if open = true; r.IntN(2) == 0 { // never learn it
			g.unknown.Add(1)
			enter(in, refusal{registerOutput: registerOutput{outcome: unknown}}, call, math.MaxInt64)
			known[i] = ""
			return
		}
		a = k.conn().send(ctx, w)
	}
	end := g.clock()
	switch a.outcome {
	case acked:
		g.succeeded.Add(1)
		known[i] = ""
		if w.put != nil {
			known[i] = a.versions[0].String()
			learn(known[i], in.write)
		}
	case refused:
		known[i] = a.current
		if a.current != "" {
			h.mu.Lock()
			if _, ok := h.versions[a.current]; !ok {
				known[i] = "" // whose version it is will be learnt by a read
			}
			h.mu.Unlock()
		}
	default:
		g.sv.t.Errorf("%v: %v", w, &a)
	}
	enter(in, refusal{registerOutput{outcome: a.outcome}, a.current}, call, end)
}

// TestReadYourWrites: a read with `after` of a position, over any connection,
// sees that write or a later one; a position that a read answered is as good; and
// a restart changes nothing about it.
func TestReadYourWrites(t *testing.T) { readYourWrites(t, newService(t, "demo-kv", nil)) }

func readYourWrites(t *testing.T, sv *service) {
	seed, _ := seedOf(t)
	steps, restarts := 150, 2
	if long() {
		steps, restarts = 1500, 10
	}
	const pairs = 4
	type told struct {
		n        int
		position string
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for i := range pairs {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		id := fmt.Sprintf("session%d", i)
		tell := make(chan told)
		wg.Go(func() { // writes 1, 2, 3, ...; every fifth is a delete
			defer close(tell)
			k := &caller{sv: sv}
			for n := 1; n <= steps; n++ {
				w := &write{put: &headwaterv1.PutItemsRequest{Namespace: sv.ns, Id: id, Token: nonceToken(wal.NewNonce(), 0), Items: []*headwaterv1.PutItem{{Key: []byte("n"), Value: fmt.Append(nil, n)}}}}
				if n%5 == 0 {
					w = &write{del: &headwaterv1.DeleteItemsRequest{Namespace: sv.ns, Id: id, Token: w.put.Token, Predicate: &headwaterv1.Predicate{Predicate: &headwaterv1.Predicate_MatchAll_{MatchAll: &headwaterv1.Predicate_MatchAll{}}}}}
				}
				a, position := k.until(w)
				if a.outcome != acked {
					t.Errorf("%v: %v", w, &a)
					return
				}
				select {
				case tell <- told{n, position}:
				case <-ctx.Done():
					return
				}
			}
		})
		wg.Go(func() { // reads what it was told of, on connections of its own
			ks := [2]*caller{{sv: sv}, {sv: sv}}
			for w := range tell {
				at := w
				for range 1 + r.IntN(2) {
					n, position, ok := ks[r.IntN(2)].readAfter(t, id, at.position, at.n, r.IntN(2) == 0)
					if !ok {
						cancel()
						return
					}
					at = told{max(at.n, n), position}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	for range restarts {
		select {
		case <-time.After(200 * time.Millisecond): // in the middle of it
			sv.restart()
		case <-done:
		}
	}
	<-done
}

// until sends a write until it has an outcome, and returns its position.
func (k *caller) until(w *write) (answer, string) {
	for {
		ctx, cancel := callContext()
		a := k.conn().send(ctx, w)
		cancel()
		if a.outcome != unknown && a.outcome != notApplied {
			return a, a.position
		}
		k.lost()
	}
}

// readAfter reads a counter that is at least n as of position, and says what it
// found: a multiple of five is the absence of the item.
func (k *caller) readAfter(t *testing.T, id, position string, n int, eventual bool) (found int, asOf string, ok bool) {
	consistency := headwaterv1.Consistency_READ_YOUR_WRITES
	if eventual {
		consistency = headwaterv1.Consistency_EVENTUAL
	}
	for {
		ctx, cancel := callContext()
		resp, err := k.conn().kv.GetItems(ctx, &headwaterv1.GetItemsRequest{Namespace: k.sv.ns, Id: id, After: []string{position}, Consistency: consistency})
		cancel()
		if err != nil {
			k.lost()
			continue
		}
		if len(resp.Items) == 0 {
			// Any delete at or after n will do; which one cannot be told.
			return n, resp.AsOf.Position, true
		}
		if _, err := fmt.Sscan(string(resp.Items[0].Value), &found); err != nil || found < n {
			t.Errorf("%s after write %d: found %q", id, n, resp.Items[0].Value)
			return found, "", false
		}
		return found, resp.AsOf.Position, true
	}
}
