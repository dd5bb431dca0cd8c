// Package kafkalog is the log (wal.Broker, wal.Log) on a Kafka cluster. See
// DESIGN.md.
package kafkalog
