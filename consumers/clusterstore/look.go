package clusterstore

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// ErrSchema: the tables of this build are not on a server, or are another's. Somebody has to make them.
var ErrSchema = errors.New("the tables of this build are not there")

// lookAgain is how long the answer of one look at a server that is away is given to others.
const lookAgain = 500 * time.Millisecond

// Look is what is known of the schema of a server. Safe for concurrent use.
type Look struct {
	seen atomic.Bool
	// turn is had by the one caller that looks, and guards what follows.
	turn   chan struct{}
	looked time.Time // when it was last looked at in vain
	failed error
}

// NewLook returns one that has seen nothing.
func NewLook() *Look { return &Look{turn: make(chan struct{}, 1)} }

// Ready returns when the schema was seen: at once where it was before. One caller at a time looks; the
// others wait no longer than they may, and share the answer of a look in vain for half a second.
func (l *Look) Ready(ctx context.Context, look func(ctx context.Context) error) error {
	if l.seen.Load() {
		return nil
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.turn }()
	if l.seen.Load() {
		return nil
	}
	if l.failed != nil && time.Since(l.looked) < lookAgain {
		return l.failed
	}
	err := look(ctx)
	if err == nil {
		l.failed = nil
		l.seen.Store(true)
		return nil
	}
	if ctx.Err() == nil { // else it is this caller's time that was over
		l.failed, l.looked = err, time.Now()
	}
	return err
}

// Seen reports whether the schema was seen.
func (l *Look) Seen() bool { return l.seen.Load() }

// Forget has the next Ready look: what was seen is not there any more.
func (l *Look) Forget() { l.seen.Store(false) }
