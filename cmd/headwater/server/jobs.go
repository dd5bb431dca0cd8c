package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/segmentio/ksuid"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/namespace"
)

// The kinds of jobs.
const (
	jobCompare = "compare"
	jobRebuild = "rebuild"
)

// keptJobs is how many jobs that ended are remembered.
const keptJobs = 100

// jobs are what runs in the background on behalf of an operator. Safe for
// concurrent use.
type jobs struct {
	s  *Server
	mu sync.Mutex // guards what follows
	// all, the oldest first.
	all []*job
}

// job is one of them.
type job struct {
	id, kind, namespace, store string
	cancel                     context.CancelFunc
	ended                      chan struct{} // closed when it has an end
	done, total                atomic.Int64

	mu      sync.Mutex // guards what follows
	state   headwaterv1.Job_State
	message string
}

// run starts a job, or returns the one of its kind that runs for the store.
func (js *jobs) run(kind string, x *space, store string, f func(ctx context.Context, j *job) (string, error)) *job {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.all {
		if j.kind == kind && j.namespace == x.ns.Name && j.store == store && j.running() {
			return j
		}
	}
	return js.begin(x, &job{id: ksuid.New().String(), kind: kind, namespace: x.ns.Name, store: store}, f)
}

// begin runs a job until it ends. The caller holds mu.
func (js *jobs) begin(x *space, j *job, f func(ctx context.Context, j *job) (string, error)) *job {
	ctx, cancel := context.WithCancel(x.run)
	j.cancel, j.ended, j.state = cancel, make(chan struct{}), headwaterv1.Job_RUNNING
	js.add(j)
	x.work.Go(func() {
		defer cancel()
		defer close(j.ended)
		message, err := f(ctx, j)
		j.end(ctx, message, err)
		if err != nil && ctx.Err() == nil {
			js.s.log.Error("a job has failed", "job", j.id, "kind", j.kind, "namespace", j.namespace, "store", j.store, "reason", err)
		}
	})
	return j
}

// Go implements gateway.Jobs.
func (js *jobs) Go(ns *gateway.Namespace, m *headwaterv1.Job, d *gateway.Disposal, f gateway.JobFunc) (ended <-chan struct{}, err error) {
	x := js.s.spaces.of(ns)
	if x == nil {
		return nil, fmt.Errorf("namespace %s: %w", ns.Name, namespace.ErrNotFound)
	}
	j := &job{id: m.GetId(), kind: m.GetKind(), namespace: m.GetNamespace()}
	j.total.Store(m.GetTotal())
	kept, err := js.keep(d)
	if err != nil {
		return nil, err
	}
	js.mu.Lock()
	defer js.mu.Unlock()
	js.begin(x, j, func(ctx context.Context, j *job) (string, error) {
		message, err := f(ctx, func(done int64) {
			j.done.Store(done)
			kept.progress(done)
		})
		if x.run.Err() == nil { // else the next start goes on with it
			err = errors.Join(err, kept.remove())
		}
		return message, err
	})
	return j.ended, nil
}

// add remembers a job, and forgets the oldest that have ended. The caller holds mu.
func (js *jobs) add(j *job) {
	js.all = append(js.all, j)
	for i := 0; i < len(js.all) && len(js.all) > keptJobs; {
		if js.all[i].running() {
			i++
			continue
		}
		js.all = slices.Delete(js.all, i, i+1)
	}
}

func (j *job) running() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state == headwaterv1.Job_RUNNING
}

func (j *job) end(ctx context.Context, message string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case err == nil:
		j.state, j.message = headwaterv1.Job_DONE, message
	case ctx.Err() != nil:
		j.state, j.message = headwaterv1.Job_CANCELLED, "it was cancelled, or the process stopped"
	default:
		j.state, j.message = headwaterv1.Job_FAILED, err.Error()
	}
}

func (j *job) toAPI() *headwaterv1.Job {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &headwaterv1.Job{
		Id: j.id, Kind: j.kind, Namespace: j.namespace, State: j.state, Done: j.done.Load(), Total: j.total.Load(), Message: j.message,
	}
}

func (js *jobs) list() []*headwaterv1.Job {
	js.mu.Lock()
	defer js.mu.Unlock()
	out := make([]*headwaterv1.Job, len(js.all))
	for i, j := range js.all {
		out[i] = j.toAPI()
	}
	return out
}

func (js *jobs) find(id string) *job {
	js.mu.Lock()
	defer js.mu.Unlock()
	for _, j := range js.all {
		if j.id == id {
			return j
		}
	}
	return nil
}

// compare starts a comparison of a store with the PRIMARY, or returns the one that
// runs.
func (js *jobs) compare(x *space, st *store) *job {
	return js.run(jobCompare, x, st.name, func(ctx context.Context, j *job) (string, error) {
		r, err := js.compareNow(ctx, x, st, j)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d differences in %d items", r.Differences, r.Items), nil
	})
}

func (js *jobs) compareNow(ctx context.Context, x *space, st *store, j *job) (*consumers.Report, error) {
	r, err := x.compareStores(ctx, st, func(n int64) { j.total.Store(j.done.Add(n)) })
	if err != nil {
		return nil, err
	}
	j.done.Store(r.Items)
	j.total.Store(r.Items)
	return r, x.noteCompared(ctx, st, r)
}
