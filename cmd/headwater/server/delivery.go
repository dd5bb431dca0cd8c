package server

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/pebblestore"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/delivery/deliveryremote"
	"github.com/headwater-db/headwater/wal/delivery/pebbledelivery"
)

// deliveryFront is what takes the calls of a log namespace.
type deliveryFront struct {
	*delivery.Local
	db *delivery.DB
}

func (x *space) newDeliveryFront() *deliveryFront {
	f := &deliveryFront{Local: delivery.NewLocal(x.progress)}
	f.db = x.newDeliveryDB(f.Local)
	return f
}

func (x *space) newDeliveryDB(owner delivery.Owner) *delivery.DB {
	x.ns.Messages = delivery.NewDB(delivery.DBConfig{
		Stream: x.ns.Stream, Owner: owner, Clock: &x.s.spaces.clock, Now: x.s.broker.Now,
		Options: func() consumers.FrontOptions { return frontOptions(x.ns.Config()) },
	})
	return x.ns.Messages
}

func (f *deliveryFront) noteTokens(n int64) { f.db.NoteUsage(n) }

// token implements answering.
func (f *deliveryFront) token(ctx context.Context, p wal.Partition, id wal.TokenID) (*clusterv1.TokenEntry, error) {
	return deliveryremote.Token(ctx, f.Local, p, id)
}

// answer implements answering.
func (f *deliveryFront) answer(ctx context.Context, req *clusterv1.AskRequest) (*clusterv1.AskResponse, error) {
	return deliveryremote.Answer(ctx, f.Local, req)
}

// deliveryBackend is the store of a log namespace on Pebble.
type deliveryBackend struct {
	st      *store
	pebble  *pebbledelivery.Store
	applier *delivery.Applier
	sender  *delivery.Sender
	rules   atomic.Pointer[rules] // the last that were asked for
	// reconfigure has room for one.
	reconfigure chan struct{}
}

func (b *deliveryBackend) open(cfg pebblestore.Config) (l ledger, err error) {
	b.pebble, err = pebbledelivery.Open(cfg)
	return b.pebble, err
}

func (b *deliveryBackend) load() *consumers.Loop {
	b.reconfigure = make(chan struct{}, 1)
	b.sender = b.newSender()
	b.applier = delivery.NewApplier(delivery.ApplierConfig{LoopConfig: b.st.loopConfig(), Store: b.pebble, Rules: b.rulesAt, Accepted: b.sender.Await, Next: b.sender.Next})
	return b.applier.Loop
}

// rulesAt are those of the version that a record was accepted under.
func (b *deliveryBackend) rulesAt(version uint64) (*delivery.Rules, error) {
	c, err := b.st.x.configAt(version)
	if err != nil {
		return nil, err
	}
	if r := b.rules.Load(); r != nil && r.config == c { // each record asks
		return &r.Rules, nil
	}
	r := &rules{config: c, Rules: delivery.Rules{Window: c.Tokens.Window}}
	for i := range c.Delivery.Targets {
		t := &c.Delivery.Targets[i]
		r.Targets = append(r.Targets, delivery.Target{Name: t.Name, Ordered: t.Ordered, Default: t.Default, Parks: t.Parks})
	}
	if c.Name == gateway.GroupsNamespace {
		r.Targets = append(r.Targets, delivery.Target{Name: delivery.GroupTarget})
	}
	b.rules.Store(r)
	return &r.Rules, nil
}

// rules are those of a document.
type rules struct {
	config *namespace.Config
	delivery.Rules
}

// save: every batch is saved as it is applied.
func (b *deliveryBackend) save(context.Context, wal.Partition) error { return nil }

// errOneStore: a document with a second store of a log namespace is refused.
var errOneStore = errors.New("a log namespace has one store")

func (b *deliveryBackend) view(context.Context, wal.Partition) (view, wal.Offset, error) {
	return nil, wal.NoOffset, errOneStore
}

func (b *deliveryBackend) compare(context.Context, *comparison) error {
	return errOneStore
}

func (b *deliveryBackend) serve(p wal.Partition) {
	b.st.x.front.(*deliveryFront).Set(p, &delivery.Replica{Store: b.pebble, Applier: b.applier})
}

func (b *deliveryBackend) sweep(ctx context.Context, p wal.Partition, _ int) (more bool, err error) {
	c := b.st.x.ns.Config()
	now := b.st.x.s.broker.Now()
	dead := int64(0) // never, as their letters
	if c.DeadLetters.Retention > 0 {
		dead = now.Add(-c.DeadLetters.Retention).UnixMicro()
	}
	keep := c.Delivery.KeepDone
	if c.Name == gateway.GroupsNamespace && keep == 0 {
		keep = keepGroups
	}
	return b.applier.Sweep(ctx, p, c.Tokens.Window, now.Add(-keep).UnixMicro(), dead)
}

// keepGroups is how long a group is known after its end, where the document has no delivery block to say it.
const keepGroups = 24 * time.Hour

// due: tokens are forgotten by log time, which an idle log does not move on.
func (b *deliveryBackend) due(p wal.Partition, now int64) bool {
	return b.st.owesTokens(b.applier.Part(p), now)
}
