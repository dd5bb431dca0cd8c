package gateway

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
	"github.com/headwater-db/headwater/wal/durable"
)

// Parker tells which keys of a namespace are parked: its applier.
type Parker interface {
	// ParkedKeys returns how many keys of a partition are parked, and the lowest
	// offset that only the log still holds for them (wal.NoOffset when none).
	ParkedKeys(p wal.Partition) (n int, lowest wal.Offset)
	// Parked returns the queue of a key, and whether it is parked.
	Parked(ctx context.Context, p wal.Partition, key []byte) (consumers.ParkedQueue, bool, error)
	// ParkedHeads calls do with the queue of each parked key, in no order. do changes
	// nothing in it and asks for nothing else here.
	ParkedHeads(ctx context.Context, p wal.Partition, do func(*consumers.ParkedQueue)) error
}

// StoreView is how one store of a namespace stands.
type StoreView struct {
	Name, Role, Type string
	Generation       uint64
	Stage            namespace.StoreState
	State, Reason    string        // as of StoreState
	Progress         *wal.Progress // nil where nothing is applied to it
	// Held reports whether this process applies a partition; nil: it does.
	Held func(p wal.Partition) bool
}

// Namespace is an open namespace: what the services act on. Exactly one of KV,
// Counter, TimeSeries and Messages is set, by its abstraction.
type Namespace struct {
	Name       string
	Stream     *wal.Stream
	KV         *kv.DB
	Counter    *counter.DB
	TimeSeries *timeseries.DB
	Messages   *delivery.DB
	Applier    Parker // nil where the namespace could not be opened
	Letters    *consumers.DeadLetterLog
	// Consumers are those of the log that have names.
	Consumers durable.Owner
	// ConsumersHeld tells of those in the partitions that this process holds, without asking anybody; nil: it holds none.
	ConsumersHeld func() []durable.Info
	// StoreState says how the PRIMARY store fares: "running", "retrying" or
	// "stopped", and why.
	StoreState func() (state, reason string)
	// Stores tells of each store of the namespace, the PRIMARY first; nil where it
	// could not be opened.
	Stores func() []StoreView
	// Owner is the address of the worker that holds a partition and the epoch of its claim; nil
	// where the log is of this process alone.
	Owner func(p wal.Partition) (address string, epoch int64)
	// TrimBlocked says what keeps the log of a partition from being trimmed, ""
	// when nothing does.
	TrimBlocked func(p wal.Partition) string
	// Gateways is how many share the limits; nil is 1. Set it before the namespace is used.
	Gateways func() int64

	config atomic.Pointer[namespace.Config]
	ready  atomic.Bool
	failed atomic.Pointer[error]
	quota  quota
	// fetches are those of Consumers.
	fetches fetches
	full    atomic.Bool
	// settled is closed, and made anew, when messages may have come to their end here; nil: nobody waits.
	settling sync.Mutex
	settled  chan struct{} // guarded by settling
}

// NoteSettled tells those who wait for it that messages of the namespace may have come to their end.
func (n *Namespace) NoteSettled() {
	n.settling.Lock()
	defer n.settling.Unlock()
	if n.settled != nil {
		close(n.settled)
		n.settled = nil
	}
}

// nextSettled is closed at the next NoteSettled.
func (n *Namespace) nextSettled() <-chan struct{} {
	n.settling.Lock()
	defer n.settling.Unlock()
	if n.settled == nil {
		n.settled = make(chan struct{})
	}
	return n.settled
}

// Views tells of each store that is known, the PRIMARY first.
func (n *Namespace) Views() []StoreView {
	if n.Stores == nil {
		return nil
	}
	return n.Stores()
}

// Config is the configuration in force.
func (n *Namespace) Config() *namespace.Config { return n.config.Load() }

// SetConfig puts a configuration into force, from the next request on.
func (n *Namespace) SetConfig(c *namespace.Config) { n.setConfigAt(time.Now(), c) }

func (n *Namespace) setConfigAt(now time.Time, c *namespace.Config) {
	n.config.Store(c)
	n.quota.set(now, c.Limits)
}

// SetReady lets writes in: the stores are caught up to the log's end as of start.
func (n *Namespace) SetReady() { n.ready.Store(true) }

// Ready reports whether writes are let in.
func (n *Namespace) Ready() bool { return n.ready.Load() }

// Fail stops the namespace for good: every request gets err.
func (n *Namespace) Fail(err error) { n.failed.CompareAndSwap(nil, &err) }

// Failed returns why the namespace has stopped, or nil.
func (n *Namespace) Failed() error {
	if p := n.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// durability is what an acknowledgement of a durable write is worth now.
func (n *Namespace) durability() headwaterv1.WriteResult_Durability {
	switch g, _ := n.Stream.Log().Guarantee(); g {
	case wal.Synced:
		return headwaterv1.WriteResult_SYNC
	case wal.Quorum:
		return headwaterv1.WriteResult_QUORUM
	default:
		return headwaterv1.WriteResult_UNREPLICATED
	}
}

// SetLogFull sheds writes while the log is at log.max_bytes.
func (n *Namespace) SetLogFull(full bool) { n.full.Store(full) }

// logFull is the error of a log that is at log.max_bytes, nil of one that is not.
func (n *Namespace) logFull() error {
	if !n.full.Load() {
		return nil
	}
	return apierrors.New(apierrors.LogFull, "the log of namespace %s is at log.max_bytes; see what blocks trim in status", n.Name)
}

// admitWrite refuses what must not reach the log: count mutations of size bytes.
func (n *Namespace) admitWrite(count, size int) error { return n.admitAt(time.Now(), count, size) }

func (n *Namespace) admitAt(now time.Time, count, size int) error {
	if !n.ready.Load() {
		return apierrors.New(apierrors.Starting, "namespace %s is reading its log; retry after the hint", n.Name)
	}
	if err := n.logFull(); err != nil {
		return err
	}
	gateways := int64(1)
	if n.Gateways != nil {
		gateways = n.Gateways()
	}
	if limit, wait := n.quota.take(now, count, size, gateways); limit != "" {
		of := ""
		if gateways > 1 {
			of = fmt.Sprintf(", of which this gateway has one of %d parts", gateways)
		}
		e := apierrors.New(apierrors.RateLimited, "namespace %s is above %s%s, and takes the next write in %v; slow down or raise the limit", n.Name, limit, of, wait)
		e.RetryAfter = wait
		return e
	}
	return nil
}

// Directory is the open namespaces of this process. Safe for concurrent use;
// looking one up takes no lock.
type Directory struct {
	// Missing, where it is set, is asked about a name that is not there: it returns once everything is
	// there that anyone was told of. Set it before the directory is used.
	Missing func(ctx context.Context, name string) error

	mu sync.Mutex // serialises changes
	m  atomic.Pointer[map[string]*Namespace]
}

// NewDirectory returns an empty directory.
func NewDirectory() *Directory {
	d := &Directory{}
	d.m.Store(&map[string]*Namespace{})
	return d
}

// Add puts n in, in place of what had its name.
func (d *Directory) Add(n *Namespace) { d.change(func(m map[string]*Namespace) { m[n.Name] = n }) }

// Remove takes a name out.
func (d *Directory) Remove(name string) {
	d.change(func(m map[string]*Namespace) { delete(m, name) })
}

func (d *Directory) change(f func(map[string]*Namespace)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := maps.Clone(*d.m.Load())
	f(m)
	d.m.Store(&m)
}

// Get returns an open namespace.
func (d *Directory) Get(name string) (*Namespace, bool) {
	n, ok := (*d.m.Load())[name]
	return n, ok
}

// All returns the open namespaces by name.
func (d *Directory) All() []*Namespace {
	m := *d.m.Load()
	out := make([]*Namespace, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// lookup finds a namespace for a request. Absent and forbidden look alike.
func (d *Directory) lookup(ctx context.Context, name string) (*Namespace, error) {
	n, ok := d.Get(name)
	if !ok && d.Missing != nil {
		if err := d.Missing(ctx, name); err != nil {
			return nil, fromDomain(err)
		}
		n, ok = d.Get(name)
	}
	if !ok {
		return nil, noNamespace(name)
	}
	if err := n.Failed(); err != nil {
		e := fromDomain(err)
		if e.Reason == apierrors.Internal { // it is a condition of the namespace's, not a fault of the request
			e = apierrors.Wrap(apierrors.NamespaceStopped, err, "namespace %s is not served: %v", name, err)
		}
		return nil, e
	}
	return n, nil
}

func (d *Directory) kv(ctx context.Context, name string) (*Namespace, error) {
	n, err := d.lookup(ctx, name)
	if err == nil && n.KV == nil {
		return nil, wrongAbstraction(n, "KeyValueService")
	}
	return n, err
}

func (d *Directory) counter(ctx context.Context, name string) (*Namespace, error) {
	n, err := d.lookup(ctx, name)
	if err == nil && n.Counter == nil {
		return nil, wrongAbstraction(n, "CounterService")
	}
	return n, err
}

func (d *Directory) timeSeries(ctx context.Context, name string) (*Namespace, error) {
	n, err := d.lookup(ctx, name)
	if err == nil && n.TimeSeries == nil {
		return nil, wrongAbstraction(n, "TimeSeriesService")
	}
	return n, err
}

func (d *Directory) messages(ctx context.Context, name, method string) (*Namespace, error) {
	n, err := d.lookup(ctx, name)
	if err == nil && n.Messages == nil {
		return nil, wrongAbstraction(n, method)
	}
	return n, err
}

func wrongAbstraction(n *Namespace, service string) error {
	return apierrors.New(apierrors.WrongAbstraction, "namespace %s is of abstraction %s, which %s does not serve", n.Name, n.Config().Abstraction, service)
}
