package main

import "os"

// heapFloor is how much the heap of a server may grow between two collections,
// beside what lives in it. Most of a server's memory is outside the Go heap, in
// Pebble's cache and memtables, so that the ten MiB that live in it would be
// collected fifty times a second under load, a sixth of the CPU of a put.
const heapFloor = 64 << 20

// holdHeap has the collector count heapFloor as live until release is called. It
// costs addresses and no memory, because nothing writes to it. GOGC and
// GOMEMLIMIT, when the operator sets one, are taken as they are.
func holdHeap() (release func()) {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if _, ok := os.LookupEnv(name); ok {
			return func() {}
		}
	}
	held = make([]byte, heapFloor)
	return func() { held = nil }
}

// held is a variable of the package, so that it is reachable.
var held []byte
