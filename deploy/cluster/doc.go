// Command cluster starts a Headwater cluster on this machine without Docker: three Kafka brokers and Cassandra (package
// deploy/engines), a gateway and two workers, each a process of its own.
//
//	go run ./deploy/cluster up      start what is not running, and return when the gateway answers
//	go run ./deploy/cluster down    stop the processes and the engines, and remove all data
//
// # What it guarantees
//
// up returns when every namespace can be written and read, or says what did not start and where its log is. down stops what up
// has started, and nothing else: a process that another program runs under a remembered id is left alone.
//
// # What it does not
//
// It is for trying things out: the brokers and Cassandra share this machine's disk and processors, and hold one copy that counts.
package main
