// Package consumers has what the appliers of all abstractions share. A Runner
// reads a namespace's partitions, hands their records to an Applier in order, and
// tells the namespace's progress. A Parking sets keys aside whose records cannot be
// applied, and a DeadLetterLog tells people of them. A Ledger is what every store
// keeps of a partition beside its data: how far it is, tokens, parked queues and
// exceptions.
//
// # What it guarantees
//
// Records of a partition reach the applier in offset order, each at least once
// and, because the applier resumes from the position that its store saved with
// the effect, none again whose effect is saved. A transient error holds its
// partition, and only that, and is tried again without an end. An error that
// cannot pass (a record of an unknown version, damage, another incarnation, a
// trimmed or missing range) stops its partition with the reason. A batch that is
// being applied at shutdown is finished.
//
// An applier that flushes a Parking before it saves or tells what it applied loses
// no dead letter: each is durable first. The records of a parked key keep their
// order, also when they are redriven.
//
// # What it does not
//
// It decides nothing about records: what is refused or parked, and when, is the
// applier's to say. It owns no store and no log. It does not choose where to
// resume: the store does.
package consumers
