package namespace

import (
	"strconv"
	"strings"
)

// SystemTopic holds the registry: one partition, never trimmed.
const SystemTopic = "headwater.system.namespaces.1"

// deadLetters stands in the place of the abstraction in the name of a
// namespace's dead-letter topic.
const deadLetters = "dlq"

// TopicName is the topic of one life of a namespace.
func TopicName(a Abstraction, name string, generation uint64) string {
	return "headwater." + string(a) + "." + name + "." + strconv.FormatUint(generation, 10)
}

// DeadLetterTopicName is the dead-letter topic of one life of a namespace. It has
// one partition.
func DeadLetterTopicName(name string, generation uint64) string {
	return TopicName(deadLetters, name, generation)
}

// parseTopicName reads what TopicName wrote. ok is false for any other topic,
// the registry's own among them.
func parseTopicName(topic string) (name string, generation uint64, ok bool) {
	parts := strings.Split(topic, ".")
	if len(parts) != 4 || parts[0] != "headwater" {
		return "", 0, false
	}
	switch parts[1] {
	case string(KV), string(Counter), string(TimeSeries), string(Log), deadLetters:
	default:
		return "", 0, false
	}
	g, err := strconv.ParseUint(parts[3], 10, 64)
	if err != nil || g == 0 || strconv.FormatUint(g, 10) != parts[3] || !nameRE.MatchString(parts[2]) {
		return "", 0, false
	}
	return parts[2], g, true
}
