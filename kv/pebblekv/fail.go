package pebblekv

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// failure is the end of a store: the first reason holds, and its owner is told
// once.
type failure struct {
	once   sync.Once
	failed chan struct{} // closed when err is set
	stuck  chan struct{} // closed when a goroutine of Pebble has been stopped in its tracks
	halt   sync.Once
	err    error // read only after failed is closed
	onFail func(error)
}

func (f *failure) init(onFail func(error)) {
	f.failed, f.stuck = make(chan struct{}), make(chan struct{})
	f.onFail = onFail
}

// fail never blocks: Pebble calls it with its locks held.
func (f *failure) fail(err error) {
	f.once.Do(func() {
		f.err = fmt.Errorf("kv store has failed: %w", err)
		close(f.failed)
		if f.onFail != nil {
			go f.onFail(f.err)
		}
	})
}

// failedErr returns why the store has failed, nil while it has not.
func (f *failure) failedErr() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}

// guard runs do, which may reach Pebble's Fatalf, and returns when it is done or
// the store has failed. Then do may never return: Fatalf must not, and is
// called with locks held that everything else would wait for.
func (f *failure) guard(do func() error) error {
	if err := f.failedErr(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return asCorrupt(err)
	case <-f.failed:
		return f.err
	}
}

// whileNotStuck runs do, which needs Pebble to be able to go on, also in a store
// that has failed. It returns the failure, if there is one.
func (f *failure) whileNotStuck(do func() error) error {
	done := make(chan error, 1)
	select {
	case <-f.stuck:
		return f.err
	default:
		go func() { done <- do() }()
	}
	select {
	case err := <-done:
		return errors.Join(f.failedErr(), err)
	case <-f.stuck:
		return f.err
	}
}

// stopHere fails the store and never returns.
func (f *failure) stopHere(err error) {
	f.fail(err)
	f.halt.Do(func() { close(f.stuck) })
	blockForever()
}

// asCorrupt makes errors.Is(err, wal.ErrCorrupt) hold for what Pebble calls
// corruption.
func asCorrupt(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, wal.ErrCorrupt) {
		return fmt.Errorf("%w: %w", wal.ErrCorrupt, err)
	}
	return err
}

// readError names what could not be read. Corruption ends the store.
func (s *Store) readError(what string, p wal.Partition, err error) error {
	err = fmt.Errorf("%s: partition %d: %w", what, p, asCorrupt(err))
	if errors.Is(err, wal.ErrCorrupt) {
		s.fail(err)
	}
	return err
}

func (s *Store) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { s.fail(fmt.Errorf("background work: %w", asCorrupt(err))) },
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			s.fail(fmt.Errorf("%w: %s: %w", wal.ErrCorrupt, i.Path, i.Details))
		},
	}
}

// pebbleLogger passes on what Pebble says. Fatalf fails the store and never
// returns, because Pebble goes on as if the write had succeeded when it does.
type pebbleLogger struct{ s *Store }

func (l pebbleLogger) Infof(format string, args ...any) {
	l.s.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.s.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.s.stopHere(fmt.Errorf("pebble: "+format, args...))
}

func blockForever() { select {} }
