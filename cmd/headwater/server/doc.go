// Package server puts a Headwater process together: the log, the registry, the
// namespaces with their stores and runners, the sweeper, and the listeners. It
// is the only place that names a backend.
//
// # What it guarantees
//
// One process holds a data directory at a time. The process is ready when it
// can keep what it acknowledges: the log is open, the registry is read, and the
// embedded stores have everything that the log held at start. On SIGTERM it
// finishes what it has in hand.
//
// # What it does not
//
// It does not restart itself: when the log or a store has failed it stays up,
// not ready, and says why on /readyz and in Status.
package server
