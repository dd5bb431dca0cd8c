package pebblefail

// Arm does what Open does once Pebble is open.
func (g *FS) Arm() { g.f.open.Store(true) }

// Held is closed when work in the background waits for Pebble to be closed.
func (f *Failure) Held() <-chan struct{} { return f.held }
