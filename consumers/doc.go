// Package consumers has what all abstractions do alike between the log and their
// stores.
//
// A Runner reads the partitions of a namespace and hands their records, in order,
// to a Loop, which is the applier of one store. The Loop asks the abstraction's
// Machine what is the abstraction's own. A Parking sets keys aside whose records
// cannot be applied, and a DeadLetterLog tells people of them. A Ledger is what
// every store keeps of a partition beside its data: how far it is, tokens, parked
// queues and exceptions. A Front is the other side, where calls come in: it claims
// their tokens and waits for what was decided; an Owner is all that it knows of the
// appliers.
//
// A store that follows another (State.Follows) does what that one decided: it reads
// its exceptions, never passes it, and takes its place when a control record says so.
//
// # What it guarantees
//
// Records of a partition reach the applier in offset order, each at least once
// and, because the applier resumes from the position that its store saved with
// the effect, none again whose effect is saved. A transient error holds its
// partition, and only that, and is tried again without an end. An error that
// cannot pass (a record of an unknown version, damage, another incarnation, a
// trimmed or missing range) stops its partition with the reason. A batch that is
// being applied at shutdown is finished, for Config.Finish at most.
//
// An applier that flushes a Parking before it saves or tells what it applied loses
// no dead letter: each is durable first, all of a batch together. The records of a
// parked key keep their order, also when they are redriven. A DeadLetterLog is the
// topic of a namespace's letters: what a replay puts again is not written again; it
// is read page by page, and what it keeps in memory does not grow with it.
//
// # What it does not
//
// It knows no payload: what a record does is the Machine's to say. It owns no store
// and no log. It does not choose where to resume: the store does. It makes no store
// follow, and compares none: the process does, with what is here.
package consumers
