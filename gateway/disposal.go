package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/segmentio/ksuid"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/wal"
)

// Jobs runs what goes on after its call has been answered.
type Jobs interface {
	// Go runs f in the background, as a job of a namespace. progress tells, before each of its parts, how many are done. ctx ends when
	// the job is cancelled, or the namespace is closed. Where the process keeps anything, it keeps d, and gives it to
	// Log.Resume when it is started again before the job's end. ended is closed when whoever asks is told of the end.
	Go(ns *Namespace, job *headwaterv1.Job, d *Disposal, f JobFunc) (ended <-chan struct{}, err error)
}

// JobFunc is what a job does. message is told of it in the end.
type JobFunc func(ctx context.Context, progress func(done int64)) (message string, err error)

// Disposal is what a redrive, or a drop, of dead letters is made of.
type Disposal struct {
	Job         string          `json:"job"`
	Namespace   string          `json:"namespace"`
	Incarnation string          `json:"incarnation"` // of its topic
	Drop        bool            `json:"drop,omitempty"`
	Selection   json.RawMessage `json:"selection"`         // of the API
	Rate        int32           `json:"rate,omitempty"`    // a second; 0: as fast as they apply
	Limited     bool            `json:"limited,omitempty"` // by the caller's maximum
	Left        int64           `json:"left"`              // at most so many more
	// Begun is when the job was, microseconds since 1970: what was dead then is meant, and not what has died of it.
	Begun int64 `json:"begun"`
}

// goJobs is Jobs that nobody can list.
type goJobs struct{}

// Go implements Jobs.
func (goJobs) Go(_ *Namespace, _ *headwaterv1.Job, _ *Disposal, f JobFunc) (<-chan struct{}, error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = f(context.Background(), func(int64) {}) // its error is told to who waits
	}()
	return ended, nil
}

// disposal is one redrive, or drop, of dead letters: their control records.
type disposal struct {
	s    *Log
	ns   *Namespace
	op   consumers.ControlOp
	id   string
	rate int32 // a second; 0: as fast as they apply

	done, gone atomic.Int64    // sent; no longer parked
	appended   atomic.Bool     // one of them is in the log
	ended      <-chan struct{} // closed when there is an end, after err is set
	err        error
}

// disposeMargin is how long before the call's deadline it is answered that the job goes on.
const disposeMargin = 250 * time.Millisecond

// dispose redrives or drops letters, as a job, and waits for its end, or as long as the call has time. The error is that of
// a job that has failed meanwhile: nobody knows how much was done once a record is in the log.
func (s *Log) dispose(ctx context.Context, ns *Namespace, made *Disposal, selected *headwaterv1.DeadLetterSelection, parked []consumers.DeadLetter) (*disposal, error) {
	selection, err := protojson.Marshal(selected)
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	made.Job, made.Namespace, made.Incarnation = ksuid.New().String(), ns.Name, ns.Stream.Info().Incarnation.String()
	made.Selection, made.Left, made.Begun = selection, int64(len(parked)), s.broker.Now().UnixMicro()
	d, err := s.beginDisposal(ns, made, parked)
	if err != nil {
		return nil, forWrite(err, false, nil)
	}
	var late <-chan time.Time
	if end, ok := ctx.Deadline(); ok {
		t := time.NewTimer(time.Until(end) - disposeMargin)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-d.ended:
		if d.err != nil {
			return nil, forWrite(d.err, d.appended.Load() || errors.Is(d.err, wal.ErrUnknown), nil)
		}
	case <-late:
	case <-ctx.Done():
		return nil, forWrite(ctx.Err(), true, nil)
	}
	return d, nil
}

// Resume goes on with a job of a process that was started again. What it has tried before is not tried again. A namespace that
// was deleted has none.
func (s *Log) Resume(ctx context.Context, made *Disposal) error {
	selected := &headwaterv1.DeadLetterSelection{}
	if err := protojson.Unmarshal(made.Selection, selected); err != nil {
		return fmt.Errorf("the selection of job %s: %w", made.Job, err)
	}
	ns, parked, err := s.parked(ctx, made.Namespace, selected)
	if e := apierrors.From(err); e != nil && (e.Reason == apierrors.NamespaceNotFound || e.Reason == apierrors.DeadLetterNotFound) {
		return ErrJobOver
	}
	if err != nil {
		return err
	}
	if ns.Stream.Info().Incarnation.String() != made.Incarnation {
		return ErrJobOver
	}
	parked = slices.DeleteFunc(parked, func(l consumers.DeadLetter) bool { return l.LogTime >= made.Begun })
	if int64(len(parked)) > made.Left {
		parked = parked[:made.Left]
	}
	if len(parked) == 0 {
		return ErrJobOver
	}
	_, err = s.beginDisposal(ns, made, parked)
	return err
}

// ErrJobOver: nothing is left to do of a job.
var ErrJobOver = errors.New("nothing is left to do of the job")

// beginDisposal starts the job.
func (s *Log) beginDisposal(ns *Namespace, made *Disposal, parked []consumers.DeadLetter) (*disposal, error) {
	d := &disposal{s: s, ns: ns, op: consumers.OpRedrive, id: made.Job, rate: made.Rate}
	kind := "redrive"
	if made.Drop {
		d.op, kind = consumers.OpDrop, "drop"
	}
	job := &headwaterv1.Job{Id: d.id, Kind: kind, Namespace: ns.Name, Total: int64(len(parked))}
	var err error
	d.ended, err = s.jobs.Go(ns, job, made, func(ctx context.Context, progress func(int64)) (string, error) {
		d.err = d.run(ctx, parked, progress)
		if made.Drop {
			return fmt.Sprintf("%d were dropped", d.done.Load()), d.err
		}
		return fmt.Sprintf("%d of %d could be applied", d.gone.Load(), len(parked)), d.err
	})
	return d, err
}

func (d *disposal) running() bool {
	select {
	case <-d.ended:
		return false
	default:
		return true
	}
}

// run sends the control records, one after the other.
func (d *disposal) run(ctx context.Context, parked []consumers.DeadLetter, progress func(int64)) error {
	var pace *time.Ticker
	if d.rate > 0 {
		pace = time.NewTicker(time.Second / time.Duration(d.rate))
		defer pace.Stop()
	}
	for i := range parked {
		if pace != nil && i > 0 {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		progress(d.done.Load())
		gone, err := d.send(ctx, d.s.broker.Now(), &parked[i])
		if err != nil {
			return err
		}
		if gone {
			d.gone.Add(1)
		}
	}
	progress(d.done.Load())
	return nil
}

// send appends a control record, waits for it, and reports whether the letter is parked no longer.
func (d *disposal) send(ctx context.Context, now time.Time, l *consumers.DeadLetter) (gone bool, err error) {
	if l.Target != "" {
		return d.sendDelivery(ctx, l)
	}
	payload, err := consumers.EncodeControl(&consumers.Control{Op: d.op, Key: l.Key, Ref: l.Ref, By: d.id})
	if err != nil {
		return false, err
	}
	rec := &wal.Record{Kind: wal.KindControl, RoutingKey: l.Key, AcceptedAt: now.UnixMicro(), NamespaceVersion: d.ns.Config().Version, Payload: payload}
	// The letter's own partition: a record whose key could not be read is parked
	// where it lies, not where its key would.
	o, err := d.ns.Stream.Append(ctx, l.Ref.Partition, rec)
	if err != nil {
		return false, err
	}
	d.appended.Store(true)
	if err := d.ns.Stream.WaitApplied(ctx, l.Ref.Partition, o); err != nil {
		return false, err
	}
	d.done.Add(1)
	q, ok, err := d.ns.parkedQueue(ctx, l.Ref.Partition, l.Key)
	return err == nil && (!ok || q.Refs[0] != l.Ref), err
}
