// Package deliveryremote is delivery.Owner of partitions that another process holds, and
// that process's answers.
//
// What is guaranteed of an answer is said in package remote.
package deliveryremote
