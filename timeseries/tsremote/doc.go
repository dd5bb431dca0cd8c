// Package tsremote is timeseries.Owner of partitions that another process holds, and that
// process's answers.
//
// What is guaranteed of an answer is said in package remote. A deadline of a page is kept
// by the owner's own clock, from the time at which the question arrives. The groups of an
// aggregate come in parts and are merged here: what an owner takes for them is bounded by
// timeseries.MaxGroupBytes for each question, and what is taken here for the whole call.
package tsremote
