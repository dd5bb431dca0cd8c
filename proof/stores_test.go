package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
)

// operator changes the stores of namespaces at random: it adds, compares, promotes,
// rolls back, drops and rebuilds them, while others write and the process is killed. A
// nil one does nothing.
type operator struct {
	docs map[string]string // of its namespaces, without storage
	// parks are those among them that have a parked key.
	parks []*park
	// kinds are the types of the stores that it makes, as a document has them.
	kinds []string
	// events is the type of a store of role EVENTS that each namespace has besides; empty: none has.
	events string

	mu     sync.Mutex // guards what follows
	next   int        // numbers the stores that it makes
	checks int
	done   map[string]int
	found  []error
}

func newOperator(docs map[string]string, parks ...*park) *operator {
	return &operator{docs: docs, parks: parks, kinds: []string{"pebble"}, done: make(map[string]int)}
}

// eventsType is the type of the stores of role EVENTS of a test's namespaces.
func (o *operator) eventsType() string {
	if o == nil {
		return ""
	}
	return o.events
}

// eventsLine is a store of role EVENTS in a document.
func eventsLine(kind string) string { return "  - {role: EVENTS, type: " + kind + "}\n" }

// begin makes the namespaces that are not there.
func (o *operator) begin(t *testing.T, p *process) {
	t.Helper()
	if o == nil {
		return
	}
	c := connect(t, p.grpc)
	defer c.close()
	for _, doc := range o.docs {
		if err := apply(c, doc); err != nil {
			t.Fatal(err)
		}
	}
}

func apply(c *conn, doc string) error {
	ctx, cancel := callContext()
	defer cancel()
	_, err := headwaterv1.NewNamespaceServiceClient(c.cc).ApplyNamespace(ctx, &headwaterv1.ApplyNamespaceRequest{Config: doc})
	return err
}

// run changes stores until stop. The channel is closed when it has ended.
func (o *operator) run(c *conn, seed uint64, round int, stop <-chan struct{}) <-chan struct{} {
	ended := make(chan struct{})
	if o == nil {
		close(ended)
		return ended
	}
	var work sync.WaitGroup
	i := 0
	for ns := range o.docs {
		i++
		r := newRand(seed, round, 1000+i)
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := o.step(c, ns, r); err != nil && !passing(err) {
					o.fault(fmt.Errorf("stores of %s: %w", ns, err))
					return
				}
			}
		})
	}
	for _, k := range o.parks {
		i++
		r := newRand(seed, round, 1000+i)
		work.Go(func() {
			if err := k.run(c, r, stop); err != nil {
				o.fault(err)
			}
		})
	}
	go func() {
		defer close(ended)
		work.Wait()
	}()
	return ended
}

func (o *operator) fault(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.found = append(o.found, err)
}

func (o *operator) did(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done[what]++
}

// passing reports whether an error is that of a process that was killed, or of a step
// that has to wait for another.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
		return true
	case codes.FailedPrecondition:
		for _, why := range []string{"BUILDING", "has not been compared", "is being opened", "being turned", "only a RETIRING store", "is the PRIMARY", "is RETIRING"} {
			if strings.Contains(err.Error(), why) {
				return true
			}
		}
		return false
	case codes.NotFound: // a rebuild may have taken its place meanwhile
		return strings.Contains(err.Error(), "has no store")
	case codes.Aborted:
		return true
	}
	return false
}

func stores(c *conn, ns string) ([]*headwaterv1.Store, error) {
	ctx, cancel := callContext()
	defer cancel()
	r, err := headwaterv1.NewAdminServiceClient(c.cc).ListStores(ctx, &headwaterv1.ListStoresRequest{Namespace: ns})
	return r.GetStores(), err
}

// step does one thing to a store of a namespace.
func (o *operator) step(c *conn, ns string, r *rand.Rand) error {
	all, err := stores(c, ns)
	if err != nil {
		return err
	}
	var copies []*headwaterv1.Store
	for _, st := range all {
		if st.GetRole() != "EVENTS" {
			copies = append(copies, st)
			continue
		}
		if err := healthy(st); err != nil {
			return err
		}
		if r.IntN(30) == 0 { // the next document that adds a copy brings another
			o.did("drop events")
			if err := o.drop(c, ns, st.GetName()); err != nil {
				return err
			}
		}
	}
	if all = copies; len(all) == 1 {
		return o.another(c, ns, all[0], r)
	}
	ctx, cancel := callContext()
	defer cancel()
	admin := headwaterv1.NewAdminServiceClient(c.cc)
	for _, st := range all {
		if err := healthy(st); err != nil {
			return err
		}
		name := st.GetName()
		what := r.IntN(8)
		switch st.GetState() {
		case headwaterv1.Store_COMPARING:
			switch {
			case what < 4:
				o.did("promote")
				_, err = admin.PromoteStore(ctx, &headwaterv1.PromoteStoreRequest{Namespace: ns, Store: name})
			case what < 6:
				err = o.compare(ctx, admin, ns, name)
			case what == 6:
				o.did("drop")
				_, err = admin.DropStore(ctx, &headwaterv1.DropStoreRequest{Namespace: ns, Store: name, Confirm: name})
			}
		case headwaterv1.Store_RETIRING:
			switch {
			case what < 3:
				o.did("rollback")
				_, err = admin.RollbackStore(ctx, &headwaterv1.RollbackStoreRequest{Namespace: ns, Store: name})
			case what < 5:
				err = o.compare(ctx, admin, ns, name)
			case what < 7:
				o.did("drop")
				_, err = admin.DropStore(ctx, &headwaterv1.DropStoreRequest{Namespace: ns, Store: name, Confirm: name})
			}
		case headwaterv1.Store_BUILDING, headwaterv1.Store_SERVING, headwaterv1.Store_FAILED, headwaterv1.Store_STATE_UNSPECIFIED:
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *operator) drop(c *conn, ns, name string) error {
	ctx, cancel := callContext()
	defer cancel()
	_, err := headwaterv1.NewAdminServiceClient(c.cc).DropStore(ctx, &headwaterv1.DropStoreRequest{Namespace: ns, Store: name, Confirm: name})
	return err
}

// another adds a store to the only one there is.
func (o *operator) another(c *conn, ns string, primary *headwaterv1.Store, r *rand.Rand) error {
	if r.IntN(4) == 0 {
		o.did("rebuild")
		ctx, cancel := callContext()
		defer cancel()
		_, err := headwaterv1.NewAdminServiceClient(c.cc).Rebuild(ctx, &headwaterv1.RebuildRequest{Namespace: ns})
		return err
	}
	o.mu.Lock()
	o.next++
	name := fmt.Sprint("store", o.next)
	o.mu.Unlock()
	o.did("add")
	now := o.kinds[slices.IndexFunc(o.kinds, func(k string) bool { return strings.HasPrefix(k, primary.GetType()) })]
	doc := o.docs[ns] + fmt.Sprintf("storage:\n  - {role: PRIMARY, type: %s, name: %s}\n  - {role: SHADOW, type: %s, name: %s}\n",
		now, primary.GetName(), o.kinds[r.IntN(len(o.kinds))], name)
	if o.events != "" {
		doc += eventsLine(o.events)
	}
	return apply(c, doc)
}

func (o *operator) compare(ctx context.Context, admin headwaterv1.AdminServiceClient, ns, name string) error {
	o.did("compare")
	j, err := admin.CompareStore(ctx, &headwaterv1.CompareStoreRequest{Namespace: ns, Store: name})
	if err != nil {
		return err
	}
	for {
		r, err := admin.GetJob(ctx, &headwaterv1.GetJobRequest{Id: j.GetJob()})
		if err != nil {
			return err
		}
		if r.GetJob().GetState() != headwaterv1.Job_RUNNING {
			break
		}
	}
	return nil // what it found is in the list of stores
}

// healthy says what is wrong with a store: it has failed, or is not what the PRIMARY is.
func healthy(st *headwaterv1.Store) error {
	if st.GetState() == headwaterv1.Store_FAILED {
		return fmt.Errorf("store %s has failed: %s", st.GetName(), st.GetMessage())
	}
	if d := st.GetCompared(); d.GetDifferences() > 0 {
		return fmt.Errorf("store %s differs in %d of %d items: %v", st.GetName(), d.GetDifferences(), d.GetItems(), d.GetExamples()[0])
	}
	return nil
}

// check waits until every store has caught up, compares each with its PRIMARY, and
// returns what was wrong at any time.
func (o *operator) check(c *conn) error {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	err := errors.Join(o.found...)
	o.checks++
	settle := o.checks%3 == 0
	o.mu.Unlock()
	for _, k := range o.parks {
		if settle { // else what is parked stays for the next rounds
			err = errors.Join(err, k.check(c))
		}
	}
	for ns := range o.docs {
		err = errors.Join(err, o.checkNamespace(c, ns))
	}
	return err
}

func (o *operator) checkNamespace(c *conn, ns string) error {
	admin := headwaterv1.NewAdminServiceClient(c.cc)
	ctx, cancel := callContext()
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	compared := map[string]bool{}
	for {
		all, err := stores(c, ns)
		if err != nil {
			return err
		}
		left := 0
		for _, st := range all {
			if err := healthy(st); err != nil {
				return fmt.Errorf("namespace %s: %w", ns, err)
			}
			if st.GetState() == headwaterv1.Store_SERVING || compared[st.GetName()] {
				continue
			}
			left++
			if st.GetRole() == "EVENTS" { // it is not compared
				continue
			}
			err := o.compare(ctx, admin, ns, st.GetName())
			if err != nil && !passing(err) {
				return fmt.Errorf("namespace %s, store %s: %w", ns, st.GetName(), err)
			}
			compared[st.GetName()] = err == nil
		}
		if left == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("namespace %s: its stores do not catch up: %v", ns, all)
		}
	}
}

// enough fails unless every kind of step was taken, where there was time for it.
func (o *operator) enough(t *testing.T) {
	t.Helper()
	t.Logf("steps: %v", o.done)
	for _, k := range o.parks {
		t.Logf("%s: %d writes of the parked key, %d drops, %d redrives", k.ns, k.acked, k.drops, k.tries)
		mustHave(t, k.acked > 0 && k.drops > 0 && k.tries > 0, "write of a parked key, drop or redrive of it")
	}
	for _, what := range []string{"add", "promote", "rollback", "drop", "compare", "rebuild"} {
		mustHave(t, o.done[what] > 0, what)
	}
}

func storeRounds() int {
	switch {
	case long():
		return 200
	case testing.Short():
		return 4
	default:
		return 12
	}
}

// TestStoresOverKills is TestKill while the stores of the namespace are changed.
func TestStoresOverKills(t *testing.T) {
	rounds := storeRounds()
	const ns = "moved-kv"
	const parked = "parked-kv"
	op := newOperator(map[string]string{
		ns:     "namespace: " + ns + "\nabstraction: kv\nlog: {partitions: 2}\n",
		parked: "namespace: " + parked + "\nabstraction: kv\nlog: {partitions: 1}\n",
	}, kvPark(parked))
	killRounds(t, rounds, ns, op, false)
	op.enough(t)
}

// TestCounterStoresOverKills is TestCountersOverKills while the stores of two
// namespaces are changed.
func TestCounterStoresOverKills(t *testing.T) {
	rounds := storeRounds()
	const parked = "parked-counter"
	op := newOperator(map[string]string{
		exactSpace: exactDoc, boundSpace: boundDoc, parked: "namespace: " + parked + "\nabstraction: counter\nlog: {partitions: 1}\n",
	}, counterPark(parked))
	op.events = "pebble"
	counterKills(t, rounds, op)
	op.enough(t)
}
