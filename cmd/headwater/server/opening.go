package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/wal"
)

// opening is a namespace on its way to being served: a goroutine opens it, and
// tries again for as long as only the log is in the way. In its place stands a
// space that has failed, so that callers are told why.
type opening struct {
	entry   *namespace.Entry
	cancel  context.CancelFunc
	settled chan struct{} // closed once there is something to answer callers with
	done    chan struct{} // closed when the goroutine has ended
}

// How long after a failed attempt the next one is made.
const (
	reopenSoonest = 200 * time.Millisecond
	reopenLatest  = 10 * time.Second
)

// passes reports whether opening again may help without anything being mended
// here.
func passes(err error) bool {
	for _, e := range []error{wal.ErrUnavailable, wal.ErrUnknown, wal.ErrOverloaded, wal.ErrDiskFull, namespace.ErrUnknownOutcome} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// begin starts opening e, whose name must not be in use. It returns when e is
// served, has failed, or wait is done: e is then served as unavailable while
// opening goes on, for as long as the process runs or until end.
func (sp *spaces) begin(wait context.Context, e *namespace.Entry) {
	ctx, cancel := context.WithCancel(sp.s.run)
	o := &opening{entry: e, cancel: cancel, settled: make(chan struct{}), done: make(chan struct{})}
	sp.mu.Lock()
	sp.opening[e.Name] = o
	sp.mu.Unlock()
	go func() {
		defer close(o.done)
		defer cancel()
		sp.openUntilServed(ctx, o)
	}()
	select {
	case <-o.settled:
	case <-wait.Done():
		sp.mu.Lock()
		defer sp.mu.Unlock()
		if sp.opening[e.Name] != o || sp.open[e.Name] != nil {
			return // it has come to an end after all
		}
		slow := fmt.Errorf("namespace %s is still being opened: %w", e.Name, wal.ErrUnavailable)
		x := sp.standIn(e, slow, "retrying")
		sp.open[e.Name] = x
		sp.dir.Add(x.ns)
	}
}

// standIn is what is served in place of a namespace that is not open.
func (sp *spaces) standIn(e *namespace.Entry, err error, state string) *space {
	x := sp.s.failedSpace(e, err)
	_, reason := x.ns.StoreState()
	x.ns.StoreState = func() (string, string) { return state, reason }
	return x
}

func (sp *spaces) openUntilServed(ctx context.Context, o *opening) {
	wait := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(reopenSoonest), backoff.WithMaxInterval(reopenLatest), backoff.WithMaxElapsedTime(0))
	name := o.entry.Name
	for attempt := 1; ; attempt++ {
		var x *space
		err := sp.probe(ctx, sp.entry(o))
		if err == nil {
			x, err = sp.s.openSpace(ctx, sp.entry(o))
		}
		if ctx.Err() != nil {
			if err == nil {
				sp.s.closed(name, x.close())
			}
			return
		}
		if err == nil {
			if err = sp.serve(o, x); err == nil {
				if attempt > 1 {
					sp.s.log.Info("a namespace is served after all", "namespace", name, "attempts", attempt)
				}
				return
			}
			sp.s.closed(name, x.close())
			if errors.Is(err, errGivenUp) {
				return
			}
		}
		again := passes(err)
		state := "stopped"
		if again {
			state = "retrying"
		}
		if errors.Is(err, namespace.ErrOwned) && sp.s.cfg.Role == Worker { // as one of several
			sp.s.log.Info("a namespace is another worker's", "namespace", name, "reason", err)
		} else if attempt == 1 || !again {
			sp.s.log.Error("a namespace cannot be served", "namespace", name, "reason", err, "tried_again", again)
		} else {
			sp.s.log.Debug("a namespace still cannot be served", "namespace", name, "reason", err)
		}
		if sp.serve(o, sp.standIn(sp.entry(o), err, state)) != nil || !again {
			return
		}
		t := time.NewTimer(wait.NextBackOff())
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// probe asks the broker for the topics of e and gives up soon. A start opens one
// namespace after another, and opening one may take long, because its store is loaded;
// a topic that does not answer must not use that time up.
func (sp *spaces) probe(ctx context.Context, e *namespace.Entry) error {
	if !sp.s.shared() {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, sp.s.cfg.StartTimeout/probes)
	defer cancel()
	for _, topic := range []string{e.Topic, e.DeadLetterTopic} {
		_, err := sp.s.broker.Open(bounded, topic)
		if err != nil && bounded.Err() != nil && !passes(err) {
			err = fmt.Errorf("%w: %w", wal.ErrUnavailable, err) // it had to wait for its turn
		}
		if err != nil {
			return fmt.Errorf("open topic %s: %w", topic, err)
		}
	}
	return nil
}

// probes is how many namespaces can fail to answer within the start's timeout
// before the others are no longer waited for.
const probes = 6

// closed notes what went wrong in closing a space that nobody was told of.
func (s *Server) closed(name string, err error) {
	if err != nil {
		s.log.Warn("closing a namespace failed", "namespace", name, "reason", err)
	}
}

// entry is the newest configuration of what o opens: it may be changed meanwhile.
func (sp *spaces) entry(o *opening) *namespace.Entry {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return o.entry
}

// errGivenUp means that a namespace need not be opened any more.
var errGivenUp = errors.New("opening the namespace was given up")

// serve puts x in the place of what stands for o, with the configuration of now.
// After an error x is the caller's to close: errGivenUp, or namespace.ErrOwned when x
// was released while it was being opened.
func (sp *spaces) serve(o *opening, x *space) error {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	name := o.entry.Name
	if sp.opening[name] != o {
		return errGivenUp
	}
	if x.front != nil && x.keeps() { // a stand-in has none to lose
		if err := x.mayOwn(); err != nil {
			return err
		}
	}
	x.configure(o.entry)
	sp.open[name] = x
	sp.dir.Add(x.ns)
	select {
	case <-o.settled:
	default:
		close(o.settled)
	}
	return nil
}

// end gives up opening and waits until that has ended. o may be nil.
func (o *opening) end() {
	if o != nil {
		o.cancel()
		<-o.done
	}
}
