package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/headwater-db/headwater/wal"
)

// settings of every topic. Only Headwater trims, so the broker must not by its
// own rules; the log time is the broker's, so a record's must not be.
var settings = []struct {
	key, value string
	atLeast    bool // a larger number is as good
	optional   bool // Redpanda has no such setting: Raft stands in for it
}{
	{key: "cleanup.policy", value: "delete"},
	{key: "retention.ms", value: "-1"},
	{key: "retention.bytes", value: "-1"},
	{key: "message.timestamp.type", value: "LogAppendTime"},
	{key: "max.message.bytes", value: strconv.Itoa(maxMessageBytes), atLeast: true},
	{key: uncleanSetting, value: "false", optional: true},
	{key: minISRSetting, atLeast: true, optional: true},
}

const (
	minISRSetting  = "min.insync.replicas"
	uncleanSetting = "unclean.leader.election.enable"
)

func checkName(name string) error {
	if name == "" || len(name) > 249 || name == "." || name == ".." {
		return fmt.Errorf("topic name of %d bytes: must be 1 to 249", len(name))
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("topic name %q: must be letters, digits, '.', '_' and '-'", name)
		}
	}
	return nil
}

// createTopic returns the id of the topic that it made, or the zero id when
// there was one.
func (b *Broker) createTopic(ctx context.Context, name string, partitions int) (id wal.Incarnation, err error) {
	configs := make(map[string]*string, len(settings))
	for _, s := range settings {
		configs[s.key] = kadm.StringPtr(b.wanted(s.key, s.value))
	}
	err = b.retry(ctx, func() error {
		made, err := b.adm.CreateTopic(ctx, int32(partitions), int16(b.cfg.ReplicationFactor), configs, name)
		id = wal.Incarnation(made.ID)
		return err
	})
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return wal.Incarnation{}, nil
	}
	if errors.Is(err, kerr.InvalidReplicationFactor) {
		return id, fmt.Errorf("%w: replication factor %d: %w", wal.ErrUnavailable, b.cfg.ReplicationFactor, err)
	}
	return id, err
}

func (b *Broker) wanted(key, value string) string {
	if key == minISRSetting {
		return strconv.Itoa(b.cfg.MinISR)
	}
	return value
}

// topic returns a topic's metadata once each partition has a leader. With wait,
// the topic was made a moment ago, and not every broker may know it; nor whether
// it is of the life id, if that is not zero.
func (b *Broker) topic(ctx context.Context, name string, wait bool, id wal.Incarnation) (*kmsg.MetadataResponseTopic, error) {
	var topic *kmsg.MetadataResponseTopic
	unknown := 0
	err := b.retry(ctx, func() error {
		meta, err := b.metadata(ctx, []string{name})
		if err != nil {
			return err
		}
		topic = &meta.Topics[0]
		err = kerr.ErrorForCode(topic.ErrorCode)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			// A broker that has just started may not know it either.
			if unknown++; wait || unknown < 3 {
				return errNotYet
			}
			return wal.ErrTopicNotFound
		}
		if err != nil {
			return err
		}
		if !id.IsZero() && id != topic.TopicID {
			return errNotYet
		}
		if wal.Incarnation(topic.TopicID).IsZero() {
			return fmt.Errorf("%w: the brokers give topics no id", wal.ErrTopicSettings)
		}
		for i := range topic.Partitions {
			if err := kerr.ErrorForCode(topic.Partitions[i].ErrorCode); err != nil && topic.Partitions[i].Leader < 0 {
				return fmt.Errorf("partition %d: %w", topic.Partitions[i].Partition, err)
			}
		}
		return nil
	})
	return topic, err
}

// unknownTries is how often, with growing pauses, a topic that one broker has
// shown may be unknown to another: about twenty seconds.
const unknownTries = 25

var errNotYet = errors.New("topic is not known yet")

// described is the answer to a question for a topic's settings: those of settings
// that it has, by key.
type described struct {
	settings map[string]string
	err      error
}

// describe asks for the settings of topics, by their names.
func (b *Broker) describe(ctx context.Context, topics ...string) (map[string]described, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, topic := range topics {
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeTopic, topic
		for _, s := range settings {
			r.ConfigNames = append(r.ConfigNames, s.key)
		}
		req.Resources = append(req.Resources, r)
	}
	resp, err := req.RequestWith(ctx, b.cl)
	if err != nil {
		return nil, err
	}
	out := make(map[string]described, len(topics))
	for i := range resp.Resources {
		r := &resp.Resources[i]
		d := described{settings: make(map[string]string), err: kerr.ErrorForCode(r.ErrorCode)}
		for _, c := range r.Configs {
			if c.Value != nil {
				d.settings[c.Name] = *c.Value
			}
		}
		out[r.ResourceName] = d
	}
	return out, nil
}

// checkSettings refuses a topic that could lose acknowledged records, and returns
// its settings.
func (b *Broker) checkSettings(ctx context.Context, topic *kmsg.MetadataResponseTopic) (map[string]string, error) {
	for i := range topic.Partitions {
		if n := len(topic.Partitions[i].Replicas); n < b.cfg.ReplicationFactor && !b.cfg.AllowUnsafe {
			return nil, fmt.Errorf("%w: partition %d has %d replicas, must have at least %d",
				wal.ErrTopicSettings, topic.Partitions[i].Partition, n, b.cfg.ReplicationFactor)
		}
	}
	var have map[string]string
	unknown := 0
	err := b.retry(ctx, func() error {
		all, err := b.describe(ctx, *topic.Topic)
		if err != nil {
			return err
		}
		d, ok := all[*topic.Topic]
		if !ok {
			return errors.New("settings of a topic were asked for and not given")
		}
		if errors.Is(d.err, kerr.UnknownTopicOrPartition) {
			if unknown++; unknown < unknownTries {
				return errNotYet
			}
		}
		have = d.settings
		return d.err
	})
	if err != nil {
		return nil, fmt.Errorf("read topic settings: %w", requestError(ctx, err))
	}
	return have, b.fit(have)
}

// fit is ErrTopicSettings for settings under which acknowledged records could be
// lost.
func (b *Broker) fit(have map[string]string) error {
	for _, s := range settings {
		got, ok := have[s.key]
		if !ok && s.optional || s.key == minISRSetting && b.cfg.AllowUnsafe {
			continue
		}
		want, must := b.wanted(s.key, s.value), "be"
		good := got == want
		if s.atLeast {
			must = "be at least"
			g, err1 := strconv.ParseInt(got, 10, 64)
			w, err2 := strconv.ParseInt(want, 10, 64)
			good = err1 == nil && err2 == nil && g >= w
		}
		if !good {
			return fmt.Errorf("%w: %s is %q, must %s %q", wal.ErrTopicSettings, s.key, got, must, want)
		}
	}
	return nil
}
