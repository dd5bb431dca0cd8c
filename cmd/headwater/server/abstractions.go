package server

import (
	"fmt"
	"time"

	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// abstraction is what one brings into a process: what takes its calls, and its
// stores.
type abstraction struct {
	front func(x *space) front
	store func(st *store) backend
}

// abstractions are those of this build that have a store.
var abstractions = map[namespace.Abstraction]abstraction{
	namespace.KV: {
		front: func(x *space) front { return x.newKVFront() },
		store: func(st *store) backend { return &kvBackend{st: st} },
	},
	namespace.Counter: {
		front: func(x *space) front { return x.newCounterFront() },
		store: func(st *store) backend { return &counterBackend{st: st} },
	},
}

// openFront makes what takes the calls of the namespace. A log namespace has no
// store: its log is what is read.
func (x *space) openFront() error {
	if x.entry.Config.Abstraction == namespace.Log {
		x.ns.Messages = wal.NewMessages(x.ns.Stream, x.s.broker.Now, func() time.Duration { return x.ns.Config().Tokens.Window })
		return nil
	}
	a, ok := abstractions[x.entry.Config.Abstraction]
	if !ok {
		return fmt.Errorf("abstraction %s is not in this build", x.entry.Config.Abstraction)
	}
	x.front = a.front(x)
	x.ns.Applier = x.front
	return nil
}
