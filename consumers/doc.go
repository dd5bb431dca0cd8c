// Package consumers drives appliers over the log: a Runner reads a namespace's
// partitions, hands their records to an Applier in order, and tells the
// namespace's progress.
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
// # What it does not
//
// It decides nothing about records: refusing and parking are the applier's. It
// owns no store and no log. It does not choose where to resume: the store does.
package consumers
