package server

import (
	"fmt"

	"github.com/headwater-db/headwater/counter/counterremote"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/kv/kvremote"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries/tsremote"
	"github.com/headwater-db/headwater/wal/delivery/deliveryremote"
)

// abstraction is what one brings into a process: what takes its calls, and its
// stores.
type abstraction struct {
	front func(x *space) front
	// asks is front where other processes have the stores.
	asks  func(x *space) front
	store func(st *store) backend
	// forgets: its store holds nothing that is older than a token window, and nothing
	// that does not follow from the log. The log is trimmed below the window only, so
	// the store goes on wherever the log begins; and it has no home: any process may
	// keep one of its own. It is otherwise where messages wait in it to be delivered.
	forgets bool
}

// abstractions are those of this build.
var abstractions = map[namespace.Abstraction]abstraction{
	namespace.KV: {
		front: func(x *space) front { return x.newKVFront() },
		asks: func(x *space) front {
			o := kvremote.New(x.owners)
			return asker{o, x.newKVDB(x.newKVWithoutOwner(o))}
		},
		store: func(st *store) backend { return &kvBackend{st: st} },
	},
	namespace.Counter: {
		front: func(x *space) front { return x.newCounterFront() },
		asks: func(x *space) front {
			o := counterremote.New(x.owners)
			return asker{o, x.newCounterDB(o, x.publishedCounts())}
		},
		store: func(st *store) backend { return &counterBackend{st: st} },
	},
	namespace.TimeSeries: {
		front: func(x *space) front { return x.newTimeSeriesFront() },
		asks: func(x *space) front {
			o := tsremote.New(x.owners)
			return asker{o, x.newTimeSeriesDB(o)}
		},
		store: func(st *store) backend { return &timeSeriesBackend{st: st} },
	},
	namespace.Log: {
		front: func(x *space) front { return x.newDeliveryFront() },
		asks: func(x *space) front {
			o := deliveryremote.New(x.owners)
			return asker{o, x.newDeliveryDB(o)}
		},
		store:   func(st *store) backend { return &deliveryBackend{st: st} },
		forgets: true,
	},
}

// asker is the front of a namespace whose stores another process has: the owner that it asks, and the
// DB that takes its calls.
type asker struct {
	gateway.Parker
	db interface{ NoteUsage(liveTokens int64) }
}

func (f asker) noteTokens(n int64) { f.db.NoteUsage(n) }

// hasHome reports whether the stores of the namespace are in one data directory and no
// other.
func (x *space) hasHome() bool { return hasHome(x.entry) }

// hasHome reports whether a namespace is to have one. A log namespace does once it has targets, and keeps it.
func hasHome(e *namespace.Entry) bool {
	return !abstractions[e.Config.Abstraction].forgets || len(e.Config.Delivery.Targets) > 0 || e.Owner != ""
}

// beginsAnywhere reports whether a store of the namespace goes on where its log begins, whatever came before. The log of
// a log namespace on Kafka keeps each message until it has come to its end, however long that is; an embedded one leaves
// what waits to the store.
func (s *Server) beginsAnywhere(e *namespace.Entry) bool {
	return abstractions[e.Config.Abstraction].forgets && (s.shared() || !hasHome(e))
}

// openFront makes what takes the calls of the namespace.
func (x *space) openFront() error {
	a, ok := abstractions[x.entry.Config.Abstraction]
	if !ok {
		return fmt.Errorf("abstraction %s is not in this build", x.entry.Config.Abstraction)
	}
	if x.s.cfg.Role.applies() {
		x.front = a.front(x)
	} else {
		x.front = a.asks(x)
		x.work.Go(func() { x.owners.Run(x.run) })
	}
	x.ns.Applier = x.front
	return nil
}
