package namespace

import (
	"strconv"
	"strings"
)

// DefaultTopicPrefix begins the name of every topic unless Options says
// otherwise.
const DefaultTopicPrefix = "headwater"

// SystemTopic holds the registry under the default prefix: one partition, never
// trimmed. See SystemTopicName.
const SystemTopic = DefaultTopicPrefix + systemSuffix

const systemSuffix = ".system.namespaces.1"

// SystemTopicName is the topic of the registry under a prefix.
func SystemTopicName(prefix string) string { return prefix + systemSuffix }

// deadLetters stands in the place of the abstraction in the name of a
// namespace's dead-letter topic.
const deadLetters = "dlq"

// decisions stands there in the name of a namespace's decisions topic.
const decisions = "decisions"

// TopicName is the topic of one life of a namespace.
func TopicName(prefix string, a Abstraction, name string, generation uint64) string {
	return prefix + "." + string(a) + "." + name + "." + strconv.FormatUint(generation, 10)
}

// DeadLetterTopicName is the dead-letter topic of one life of a namespace. It has
// one partition.
func DeadLetterTopicName(prefix, name string, generation uint64) string {
	return TopicName(prefix, deadLetters, name, generation)
}

// DecisionsTopicName is the decisions topic of one life of a namespace, which has as many
// partitions as its log. Only a log that several processes share has one: who opens the
// namespace makes it.
func DecisionsTopicName(prefix, name string, generation uint64) string {
	return TopicName(prefix, decisions, name, generation)
}

// consumersTopic stands there in the name of the topic of a namespace's consumers.
const consumersTopic = "consumers"

// ConsumersTopicName is the topic that keeps how far the named consumers of one life of a namespace are; it has as many
// partitions as its log. It is made with the first consumer.
func ConsumersTopicName(prefix, name string, generation uint64) string {
	return TopicName(prefix, consumersTopic, name, generation)
}

// parseTopicName reads what TopicName wrote with the same prefix. ok is false for
// any other topic, the registry's own among them.
func parseTopicName(prefix, topic string) (name string, generation uint64, ok bool) {
	rest, ok := strings.CutPrefix(topic, prefix+".")
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 3 {
		return "", 0, false
	}
	switch parts[0] {
	case string(KV), string(Counter), string(TimeSeries), string(Log), deadLetters, decisions, consumersTopic:
	default:
		return "", 0, false
	}
	g, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil || g == 0 || strconv.FormatUint(g, 10) != parts[2] || !nameRE.MatchString(parts[1]) {
		return "", 0, false
	}
	return parts[1], g, true
}
