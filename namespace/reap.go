package namespace

import (
	"context"
	"errors"
	"fmt"
)

// ReapLife removes the topics of a life that is over: after Delete, by whoever
// owned its data, once nothing reads them any more. Absent topics are not an
// error. It refuses a life that is not over, or that the registry does not know
// to be.
func (r *Registry) ReapLife(ctx context.Context, e *Entry) error {
	if r.named(e.Topic) {
		return fmt.Errorf("remove topics of namespace %s: generation %d is alive", e.Name, e.Generation)
	}
	return errors.Join(r.removeGarbage(ctx, e.Topic), r.removeGarbage(ctx, e.DeadLetterTopic), r.removeGarbage(ctx, e.DecisionsTopic),
		r.removeGarbage(ctx, e.ConsumersTopic))
}

// Reap removes every topic that is left over: of lives that are over and of
// creations that lost. It returns what it removed. Any process may call it, at
// any time and beside others: a topic is removed only once no record of the
// registry can name it again, and the topics of living namespaces are not
// touched. A process that still applies a life that is over, because it has not
// heard of the deletion yet, loses nothing by it: its reader ends with
// wal.ErrIncarnation, and it removes the store when it hears.
//
// Reap leaves the topics of a generation that a record may yet name: of a
// creation that did not get to its record, or of one that lost to a creation
// with another number of partitions. Such topics are empty. The next life of the
// name takes them or passes them by; once it has passed them, Reap removes them.
func (r *Registry) Reap(ctx context.Context) (removed []string, err error) {
	if err := r.Sync(ctx); err != nil {
		return nil, err
	}
	topics, err := r.opts.Broker.Topics(ctx)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	for _, t := range topics {
		if !r.snap.Load().garbage(t.Name) {
			continue
		}
		if rerr := r.removeGarbage(ctx, t.Name); rerr != nil {
			err = errors.Join(err, rerr)
			continue
		}
		removed = append(removed, t.Name)
	}
	return removed, err
}

// removeGarbage removes a topic that no living namespace can have.
func (r *Registry) removeGarbage(ctx context.Context, topic string) error {
	if !r.snap.Load().garbage(topic) {
		if r.named(topic) {
			return nil // the winner of the race names the same topic, or it lives
		}
		return fmt.Errorf("topic %s may still come to be used; it is left", topic)
	}
	if err := r.opts.Broker.Delete(ctx, topic); err != nil {
		return fmt.Errorf("delete topic %s: %w", topic, err)
	}
	return nil
}

func (r *Registry) named(topic string) bool {
	name, _, ok := parseTopicName(r.opts.TopicPrefix, topic)
	if !ok {
		return false
	}
	e, ok := r.Get(name)
	return ok && e.has(topic)
}
