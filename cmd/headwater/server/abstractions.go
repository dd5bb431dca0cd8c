package server

import (
	"fmt"

	"github.com/headwater-db/headwater/namespace"
)

// abstraction is what one brings into a process: what takes its calls, and its
// stores.
type abstraction struct {
	front func(x *space) front
	store func(st *store) backend
	// forgets: its store holds nothing that is older than a token window, and nothing
	// that does not follow from the log. The log is trimmed below the window only, so
	// the store goes on wherever the log begins; and it has no home: any process may
	// keep one of its own.
	forgets bool
}

// abstractions are those of this build.
var abstractions = map[namespace.Abstraction]abstraction{
	namespace.KV: {
		front: func(x *space) front { return x.newKVFront() },
		store: func(st *store) backend { return &kvBackend{st: st} },
	},
	namespace.Counter: {
		front: func(x *space) front { return x.newCounterFront() },
		store: func(st *store) backend { return &counterBackend{st: st} },
	},
	namespace.TimeSeries: {
		front: func(x *space) front { return x.newTimeSeriesFront() },
		store: func(st *store) backend { return &timeSeriesBackend{st: st} },
	},
	namespace.Log: {
		front:   func(x *space) front { return x.newDeliveryFront() },
		store:   func(st *store) backend { return &deliveryBackend{st: st} },
		forgets: true,
	},
}

// hasHome reports whether the stores of the namespace are in one data directory and no
// other.
func (x *space) hasHome() bool { return !abstractions[x.entry.Config.Abstraction].forgets }

// openFront makes what takes the calls of the namespace.
func (x *space) openFront() error {
	a, ok := abstractions[x.entry.Config.Abstraction]
	if !ok {
		return fmt.Errorf("abstraction %s is not in this build", x.entry.Config.Abstraction)
	}
	x.front = a.front(x)
	x.ns.Applier = x.front
	return nil
}
