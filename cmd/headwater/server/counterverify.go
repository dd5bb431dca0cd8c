package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

const (
	// verifySample is how many counters a namespace has counted again in one
	// interval.
	verifySample = 8
	// maxDrifting bounds how many counters with a drift are remembered.
	maxDrifting = 10_000
	// verifyTimeout bounds the listing of a sample and the recount of a counter: a
	// partition that does not answer must not keep the others from being verified.
	verifyTimeout = 10 * time.Second
)

// verifier counts the counters of a namespace again, a few at a time and all of
// them in turn, and compares. A difference is a bug or a damaged store.
type verifier struct {
	checked atomic.Int64

	mu       sync.Mutex // guards what follows
	drifting map[string]drifted
	round    int // through all counters
}

// drifted is what a counter was off by, and the round that found it.
type drifted struct {
	by    int64
	round int
}

// drift is the sum of what the counters that drifted when they were last looked
// at are off by, whatever its sign.
func (v *verifier) drift() (sum float64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, d := range v.drifting {
		sum += math.Abs(float64(d.by))
	}
	return sum
}

func (v *verifier) note(name string, drift int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case drift == 0:
		delete(v.drifting, name)
	case len(v.drifting) < maxDrifting:
		if v.drifting == nil {
			v.drifting = make(map[string]drifted)
		}
		v.drifting[name] = drifted{drift, v.round}
	}
}

// cameRound forgets what no longer exists: the round did not come by it.
func (v *verifier) cameRound() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for name, d := range v.drifting {
		if d.round < v.round {
			delete(v.drifting, name)
		}
	}
	v.round++
}

// run takes a sample every interval until ctx is done.
func (v *verifier) run(ctx context.Context, x *space, db *counter.DB) {
	t := time.NewTicker(x.s.cfg.VerifyInterval)
	defer t.Stop()
	var after []byte
	failed := ""
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		var err error
		after, err = v.sample(ctx, x, db, after)
		switch {
		case err == nil:
			failed = ""
		case ctx.Err() != nil || errors.Is(err, consumers.ErrNotRunning) || errors.Is(err, consumers.ErrNotAssigned) || errors.Is(err, consumers.ErrOwnerAway):
		case errors.Is(err, counter.ErrReloading) || err.Error() == failed: // it passes, or was told
		default:
			failed = err.Error()
			x.s.log.Error("counting counters again failed", "namespace", x.ns.Name, "reason", err)
		}
	}
}

// sample verifies the counters after a name and returns the last of them, nil
// when it has come round. A counter that cannot be recounted in time is passed by.
func (v *verifier) sample(ctx context.Context, x *space, db *counter.DB, after []byte) ([]byte, error) {
	held := x.heldHere()
	if len(held) == 0 {
		return nil, nil
	}
	bounded, cancel := context.WithTimeout(ctx, verifyTimeout)
	list, _, more, err := db.List(bounded, &counter.ListQuery{Above: after, Limit: verifySample, Accuracy: counter.Eventual, Partitions: held})
	cancel()
	if err != nil {
		return after, err
	}
	for i := range list {
		name := list[i].Name
		bounded, cancel := context.WithTimeout(ctx, verifyTimeout)
		r, err := db.Verify(bounded, name, counter.Eventual, wal.Position{})
		slow := bounded.Err() != nil
		cancel()
		if err != nil && slow {
			return name, fmt.Errorf("recount counter %q: %w", name, err)
		}
		if err != nil {
			return after, err
		}
		v.checked.Add(1)
		v.note(string(name), r.Drift)
		if r.Drift != 0 {
			x.s.log.Error("a counter is not what its events come to", "namespace", x.ns.Name, "counter", string(name),
				"stored", r.Stored.Value, "recounted", r.Recounted, "drift", r.Drift, "position", r.Stored.AsOf.Position)
		}
		after = name
	}
	if !more {
		v.cameRound()
		return nil, nil
	}
	return after, nil
}
