// Package proof tests the promises of the whole service from outside: it has no
// code of its own, only tests and what they need.
//
//	kill_test.go    the real binary under load, killed by SIGKILL at random moments,
//	                against a book of what it said; the same on Kafka (TestEngineKill)
//	stop_test.go    SIGTERM under load, a second SIGTERM, kills while starting
//	upload_test.go  kills during the upload of a large value
//	names_test.go   kills while namespaces are made and deleted
//	model_test.go   random programs over the public API against a plain model
//	linear_test.go  conditional puts and reads checked for linearizability, and
//	                reads with `after` for what they must have seen
//	power_test.go   power loss of log and store at sync points
//	ahead_test.go   stores that are behind, level with and ahead of their log, and
//	                stores and logs that are lost or swapped
//	ties_test.go    writes of one item under one time
//	batch_test.go   batches that share tokens
//	again_test.go   copies of conditional writes that were raised above others
//	leak_test.go    nothing is left running after Close and Drain
//	delivery_test.go kills while messages are delivered, tried again and cancelled
//	workers_test.go a gateway and workers on Cassandra: one thing after the other that may happen to them
//	torture_test.go everything at once that may happen to a cluster (cluster_test.go, proxy_test.go): three brokers,
//	                Cassandra, two gateways, three workers; without the race detector, for which two cores are too few
//
// Of counters, against a ledger that folds what was acknowledged in the order of
// the log (counterbook, counterfold, counterverify, counterload):
//
//	counterkill_test.go   kills under calls of every kind in namespaces of all three
//	                      accuracies; the same on Kafka (TestEngineCountersOverKills)
//	counterloose_test.go  what a best_effort namespace may lose in them, and what not
//	counterorder_test.go  adds under bounds, clears, reservations and accurate reads
//	                      checked for linearizability, over kills and while the
//	                      process or its appliers stand still
//	counterquota_test.go  1,000 callers for a quota of 100 over kills; every call sent
//	                      three times at once and after restarts
//	counterlost_test.go   stores of counters that are lost, also under reads
//	counterpower_test.go  power loss of log and store of counters at sync points
//	flights_counter_test.go  real flights counted over kills
//
// Every test prints its seed; HEADWATER_SEED=N runs that seed again. It fixes what
// is asked of the service and when, not how the operating system interleaves it.
// HEADWATER_LONG=1 runs 200 rounds of kills and more of everything else.
//
// # What it does not show
//
// SIGKILL keeps what the operating system has buffered, so the kill tests say
// nothing about fsync; the power-loss tests do, on Pebble's crashable memory file
// system and not on a disk. Brokers are killed one at a time, and Cassandra is one node, which is stopped in good order.
package proof
