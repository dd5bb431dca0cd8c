// Package counterremote is counter.Owner of partitions that another process holds, and
// that process's answers.
//
// What is guaranteed of an answer is said in package remote. The counts of one partition
// are as of one state of the owner, which comes with them.
package counterremote
