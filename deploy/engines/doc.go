// Command engines starts the real servers that tests run against, on this machine and without
// Docker: Kafka and Cassandra from their Maven Central jars on the machine's own Java, and ClickHouse's
// engine from its npm package behind a bridge of ours (chbridge).
//
//	go run ./deploy/engines up [ENGINE...]      start and wait until ready; all engines when none is named
//	go run ./deploy/engines down [ENGINE...]    kill and remove the data; all engines when none is named
//	go run ./deploy/engines status              what runs, and whether it answers; exit code 1 when something doesn't
//	go run ./deploy/engines fetch [ENGINE...]   download only
//	go run ./deploy/engines kill ENGINE N       kill -9 process N of an engine
//	go run ./deploy/engines stop ENGINE N       end it by SIGTERM
//	go run ./deploy/engines restart ENGINE N    kill -9 process N if it runs, start it on the data it left, wait until it serves again
//
// Engines:
//
//	kafka    one broker, replication factor 1, 768 MiB of heap, from port 19092
//	kafka3   three brokers, replication factor 3, min ISR 2, 512 MiB of heap each, from port 19192
//	clickhouse   ClickHouse's engine 26.5 behind chbridge, HTTP on port 19292, the native protocol on 19293
//	cassandra    one node of Cassandra 5.0, 1 GiB of heap, CQL on port 19392, its own traffic on 19393 and 19394
//
// # What it guarantees
//
// Everything listens on 127.0.0.1 only. `up` returns 0 when a real client has created a topic with
// the engine's full replication, produced with acks=all, read the record back and deleted the topic, or
// has made a table, written a row and read it back (of ClickHouse by both protocols);
// an engine that is already up is left as it is. Downloads are verified against the registry's
// checksums and kept in .engines/cache, named after the dependency list, so that a second start needs
// no registry. Data, configuration and server logs live in .engines/run/<engine>; `down` removes them.
// A process is only ever signalled when its command line names that folder, so a recycled
// process id is not touched.
//
// # What a test gets
//
// .engines/env is rewritten after every change and can be sourced by a shell:
//
//	HEADWATER_TEST_KAFKA            host:port
//	HEADWATER_TEST_KAFKA3           host:port,host:port,host:port       in the order of broker ids 0, 1, 2
//	HEADWATER_TEST_KAFKA3_PROXIED   address=target,...                  by broker; KAFKA_PROXIED likewise; see below
//	HEADWATER_TEST_KAFKA3_PIDS      pid,pid,pid                         as of when the file was written
//	HEADWATER_TEST_KAFKA3_KILL      a command line; run it by `sh -c "$HEADWATER_TEST_KAFKA3_KILL N"`
//	HEADWATER_TEST_KAFKA3_RESTART   the same; its last line of output is the broker's new process id
//	HEADWATER_TEST_CLICKHOUSE           http://host:port/database
//	HEADWATER_TEST_CLICKHOUSE_NATIVE    clickhouse://host:port/database
//	HEADWATER_TEST_CLICKHOUSE_KILL      a command line
//	HEADWATER_TEST_CLICKHOUSE_RESTART   a command line; its last line of output is the new process id
//	HEADWATER_TEST_CASSANDRA            host:port
//	HEADWATER_TEST_CASSANDRA_STOP       a command line: SIGTERM, since one node that is killed loses what it acknowledged last
//	HEADWATER_TEST_CASSANDRA_RESTART    as of ClickHouse
//
// N is 0, 1 or 2: the place in the two lists and the Kafka node id. A test that kills a broker by its
// process id restarts it before it ends; the next test process then still sees the old process id in its environment,
// so a kill through HEADWATER_TEST_KAFKA3_KILL, which looks the id up, is the safer way.
//
// PROXIED is for tests that cut the network between one client and the brokers. A client that comes to a target is told that
// the brokers are at the addresses: a proxy of the test listens there and leads to the targets. Nothing listens there otherwise.
//
// # What it does not do
//
// It is no way to run either for anything but tests: no authentication, no disk flush per record, small heaps,
// every replica on the same disk. It does not supervise: what dies stays dead until restart.
// Two commands at once on the same folder are not coordinated. It needs a Unix system.
package main
