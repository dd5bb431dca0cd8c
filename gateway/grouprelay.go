package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/delivery"
)

// GroupRelay appends the parts of groups to the logs of their namespaces, each once: a delivery.Forwarder of one
// partition of GroupsNamespace. A group whose first part is there has all of them in the end: parts were checked
// before the group was taken, and what cannot be appended is tried again for as long as it takes.
type GroupRelay struct {
	topic wal.Incarnation
	to    func(ctx context.Context, name string) (*Namespace, error)
}

// inLog is a partition of a life of a namespace.
type inLog struct {
	life wal.Incarnation
	p    wal.Partition
}

// NewGroupRelay returns a relay of a partition of topic. to returns a namespace of a name; a
// *delivery.PermanentError says that there is none, another one passes.
func NewGroupRelay(topic wal.Incarnation, to func(ctx context.Context, name string) (*Namespace, error)) *GroupRelay {
	return &GroupRelay{topic: topic, to: to}
}

// groupStep is what one call to the log of a namespace appends.
type groupStep struct {
	ns *Namespace
	as []wal.Appending
	of []int // the group of each
}

// Forward implements delivery.Forwarder. The parts of a group are appended in their order; those of several groups
// share calls to the log where that keeps it.
func (r *GroupRelay) Forward(ctx context.Context, ms []*delivery.Attempt) (n int, err error) {
	c := &groupsCall{
		r: r, chain: make(map[inLog]wal.SourcePlace), lastStep: make(map[string]int), spaces: make(map[string]*Namespace),
	}
	for _, m := range ms {
		if err = c.add(ctx, m); err != nil {
			break // those before it go on
		}
	}
	n, failed := c.append(ctx)
	if failed != nil {
		return n, failed
	}
	return n, err
}

// groupsCall is a Forward on its way.
type groupsCall struct {
	r        *GroupRelay
	chain    map[inLog]wal.SourcePlace // what is about to be appended last
	steps    []*groupStep
	lastStep map[string]int        // of a namespace
	spaces   map[string]*Namespace // nil: it does not exist
	left     []int                 // parts that are not appended, of each group
}

// add takes the parts of a group. After an error none of them is taken.
func (c *groupsCall) add(ctx context.Context, m *delivery.Attempt) error {
	g, err := delivery.DecodeGroup(m.Payload)
	if err != nil {
		return &delivery.PermanentError{Err: err}
	}
	recs := make([]*wal.Record, len(g.Parts))
	for i := range g.Parts {
		p := &g.Parts[i]
		ns, err := c.space(ctx, p.Namespace)
		if err != nil {
			return err
		}
		if ns == nil || ns.Stream.Info().Incarnation != p.Life { // it was deleted, and so is what the part would have written
			continue
		}
		recs[i] = &wal.Record{}
		if err := wal.DecodeRecord(p.Record, recs[i]); err != nil {
			return &delivery.PermanentError{Err: err}
		}
		refresh(ns, &recs[i].Token)
	}
	of, at := len(c.left), 0
	c.left = append(c.left, 0)
	for i, rec := range recs {
		if rec == nil {
			continue
		}
		ns := c.spaces[g.Parts[i].Namespace]
		j, ok := c.lastStep[ns.Name]
		if !ok || j < at {
			j = len(c.steps)
			c.steps = append(c.steps, &groupStep{ns: ns})
			c.lastStep[ns.Name] = j
		}
		at = j
		p := ns.Stream.PartitionOf(rec.RoutingKey)
		src, in := m.Source, inLog{ns.Stream.Info().Incarnation, p}
		src.Topic, src.Place, src.After = c.r.topic, g.Place(m.Source.Place, i), c.chain[in]
		rec.Origin = src.Encode()
		c.chain[in] = src.Place
		step := c.steps[j]
		step.as = append(step.as, wal.Appending{Partition: p, Record: rec, Weight: 1})
		step.of = append(step.of, of)
		c.left[of]++
	}
	return nil
}

// space returns a namespace that takes records; nil: it does not exist.
func (c *groupsCall) space(ctx context.Context, name string) (*Namespace, error) {
	ns, ok := c.spaces[name]
	if !ok {
		var err error
		if ns, err = c.r.to(ctx, name); err != nil {
			if _, gone := errors.AsType[*delivery.PermanentError](err); !gone {
				return nil, err
			}
			ns = nil
		}
		c.spaces[name] = ns
	}
	if ns == nil {
		return nil, nil
	}
	return ns, ns.logFull()
}

// append appends the steps one after the other, up to the first that fails, and returns how many groups, from the
// first on, are appended whole.
func (c *groupsCall) append(ctx context.Context) (n int, err error) {
	for _, step := range c.steps {
		step.ns.Stream.AppendAll(ctx, step.as)
		for i := range step.as {
			a := &step.as[i]
			if a.Err == nil {
				c.left[step.of[i]]--
			} else if err == nil {
				err = a.Err
			}
		}
		if err != nil {
			break
		}
	}
	for n < len(c.left) && c.left[n] == 0 {
		n++
	}
	return n, err
}

// refresh gives an old write the time of now. A store may have forgotten deletes that are newer than it: they are
// kept for a token window.
func refresh(ns *Namespace, t *wal.Token) {
	clock, now := ns.clock()
	if at := now().UnixMicro(); t.GenerationTime < at-ns.Config().Tokens.Window.Microseconds()/2 {
		t.GenerationTime = clock.Next(now())
	}
}

// clock is what times of writes of the namespace are made by, and the clock of its log.
func (n *Namespace) clock() (*wal.Clock, func() time.Time) {
	switch {
	case n.KV != nil:
		return n.KV.Clock, n.KV.Now
	case n.Counter != nil:
		return n.Counter.Clock, n.Counter.Now
	case n.TimeSeries != nil:
		return n.TimeSeries.Clock, n.TimeSeries.Now
	}
	return n.Messages.Clock, n.Messages.Now
}
