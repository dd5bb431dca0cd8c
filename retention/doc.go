// Package retention frees what nobody can see any more: it decides when, how
// much at a time, and how far the log may be trimmed. It does not know stores or
// logs; they are handed to it as functions.
//
// # What it guarantees
//
// A Sweeper runs one target at a time, each at most Limit keys a turn, with
// pauses in between, so that sweeping never takes more than its share. A target
// that fails is tried again in its next turn and does not hold the others.
// TrimTo never passes what a store has not made durable, a parked record, the
// token window, or the retention.
//
// # What it does not
//
// Nothing here makes data invisible: what has expired is invisible to readers at
// once, swept or not. It promises no moment by which space is free.
package retention
