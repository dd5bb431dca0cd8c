// Package deliverykafka brings messages to a topic of a Kafka cluster.
//
// # What it guarantees
//
// A message is a record: its key, its payload as the value, its headers, and headwater-id, headwater-token (the
// base64 of its nonce). It is delivered when all in-sync replicas have it. The messages of a partition of the log are
// produced in their order by an idempotent producer, so those of a key arrive in order, in the partition that Kafka's
// own clients would choose for it. A message is produced at least once, always under one id.
//
// # What it does not
//
// It makes no topic. Records of one that does not exist, and those that the cluster will never take, are given up.
package deliverykafka
