// Package remote asks the process that holds a partition, where that is another one.
//
// A gateway has a Client for each namespace: it finds the owner of a partition by its
// claim, sends it questions (Ask), and is told by it how far it has applied (Follow), so
// that a wal.Progress here is that of the owner. Owner is consumers.Owner on top of it;
// what an abstraction asks beside that it adds itself, as package kv/kvremote does. A
// worker has a Server, which answers for the namespaces that it holds.
//
// # What it guarantees
//
// An answer is of the process whose claim was the newest that the caller knew, and, where
// that process knows of a newer one, an error. Each question carries the position that must
// be applied before it is answered, so a new owner that is behind the old one waits, and
// nothing that was seen before is missing. A question that meets the wrong owner is sent
// once more, to the owner that is known then. What cannot be asked is
// consumers.ErrOwnerAway. A Client's progress never goes back.
//
// Only processes that know the cluster's secret are answered.
//
// # What it does not
//
// It keeps no answer, and asks again nothing that failed on its way. It does not encrypt:
// the listener belongs on a network of the cluster's own.
package remote
