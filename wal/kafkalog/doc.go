// Package kafkalog is the log (wal.Broker, wal.Log) on a Kafka cluster, through
// franz-go. How it works is in DESIGN.md.
//
// # What it guarantees
//
// A record acknowledged by a Sync append is on every in-sync replica of its
// partition, at least Config.MinISR of them: any one broker of a three-replica
// topic can be lost. Kafka does not fsync before it acknowledges, so losing all
// replicas at once, by power for instance, can lose records: it is replicated
// memory. An append whose context ends while it is in flight is ErrUnknown at
// once, and may land later. A full queue, a long outage and a closed broker
// refuse with ErrNotAppended before anything is handed over.
//
// A Buffered append is sent as a durable one is, and lost with the process until
// the brokers have acknowledged it: Config.BufferedLoss bounds how much that is.
//
// A topic whose settings could lose records is not opened (ErrTopicSettings
// names the setting). A topic that is deleted, made again or given more
// partitions behind a Log's back ends that Log: ErrIncarnation or
// ErrPartitionCount from every later call, within Config.CheckInterval, and no
// acknowledgement by another life is passed on as one of this.
//
// Readers see nothing above the high watermark, in offset order, without gaps: a
// gap is ErrCorrupt. They wait through outages, and hold a bounded amount.
//
// Broker restarts and lost leaders are ridden out. Broker.Health is
// ErrUnavailable while no broker answers, and nil again afterwards. ErrFailed is
// for good: the brokers answered that they no longer know what they had
// acknowledged.
//
// # What it does not
//
// With Config.AllowUnsafe, for development, a topic may have one replica, or
// require one in-sync replica: an acknowledged record may then be lost with one
// broker. Guarantee says so (wal.Unreplicated) by the replicas and the settings
// that the topic really has. Others can change both while the topic is open; the
// change is seen within Config.CheckInterval while the brokers answer, and
// acknowledgements until then are told by what was. A topic that is given
// settings that Open would refuse is used on, and an error is logged.
//
// Result.LogTime is 0: franz-go does not pass on what the broker stamped. Readers
// have it. Several processes may append to one topic; which of them may is not
// decided here. The ends of a partition and what is trimmed are asked for by the
// topic's name, as Kafka has it: bounds are checked against the topic's id
// afterwards, a trim only before, so a topic that is made again within those
// milliseconds would be trimmed.
//
// Brokers before Kafka 4 take records by the topic's name. There a record can
// get into a topic that was made again; its append is ErrUnknown, never
// acknowledged, unless other writers have already filled the new life past the
// old one's end before the next look.
//
// # Concurrency
//
// Everything but a Reader may be used concurrently. Logs of one Broker share one
// producing client, hence one queue (Config.QueueBytes) and one connection per
// Kafka broker. A topic's readers share another client. Close of a reader waits
// for its client only where it was the last of a second reader on a partition.
//
// # Tests
//
// They run on kfake, in memory. With HEADWATER_TEST_KAFKA and
// HEADWATER_TEST_KAFKA3 (deploy/engines) the contract also runs on real brokers,
// and one broker of three is killed while records are written; these take about
// two minutes. HEADWATER_REQUIRE_ENGINES=kafka,kafka3 turns their skips into
// failures.
package kafkalog
