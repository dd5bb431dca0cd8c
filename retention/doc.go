// Package retention frees what nobody can see any more: it decides when, how
// much at a time, and how far the log may be trimmed. It does not know stores or
// logs; they are handed to it as functions.
//
// # What it guarantees
//
// A Sweeper gives every target turns of its own: each at most Limit keys and
// Deadline long, with pauses in between that are the target's own. A target that
// is slow, hangs until its deadline, or fails, holds no other; one that fails is
// tried again after pauses that grow. The turns of all targets together begin at
// Rate at most, so that sweeping never takes more than its share. There is one
// goroutine a target.
//
// TrimTo never passes what a store has not made durable, a parked record, the
// token window, or the retention.
//
// # What it does not
//
// A turn that does not heed its context holds its own target for as long as it
// likes, and Remove of that target and the end of Run with it.
//
// Nothing here makes data invisible: what has expired is invisible to readers at
// once, swept or not. It promises no moment by which space is free.
package retention
