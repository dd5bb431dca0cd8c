package pebblefail

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// Failure is the end of a store: the first reason holds, and its owner is told
// once. Safe for concurrent use.
type Failure struct {
	what   error
	once   sync.Once
	failed chan struct{} // closed when err is set
	stuck  chan struct{} // closed when a goroutine of Pebble has been stopped in its tracks
	halt   sync.Once
	err    error // read only after failed is closed
	onFail func(error)

	open       atomic.Bool   // Pebble is open
	background atomic.Int32  // errors of background work
	held       chan struct{} // closed when some of it waits for closing
	hold       sync.Once
	closing    chan struct{} // closed when Pebble is about to be closed
	shut       sync.Once
}

// maxBackground is after how many errors of background work the goroutine that
// meets one more has to wait until Pebble is closed. Pebble does some of it again
// at once, whatever comes of it: a flush, and reading the properties of a table. It
// can hold its lock when it tells of one, which readers need at times; so not the
// first has to wait, but each new file that is to be written: see FS.
const maxBackground = 16

// New returns the Failure of a store that has not failed. The error of one that
// has wraps what, which says so, and the reason. onFail, if not nil, is called
// once, with that error, after Err returns it. Whoever met the failure calls it,
// perhaps with locks of Pebble held: it must not block, nor use the store.
func New(what error, onFail func(error)) *Failure {
	return &Failure{
		what: what, onFail: onFail,
		failed: make(chan struct{}), stuck: make(chan struct{}), held: make(chan struct{}), closing: make(chan struct{}),
	}
}

// Fail ends the store. It never blocks: Pebble calls it with its locks held.
func (f *Failure) Fail(err error) {
	f.once.Do(func() {
		f.err = fmt.Errorf("%w: %w", f.what, err)
		close(f.failed)
		if f.onFail != nil {
			f.onFail(f.err)
		}
	})
}

// Failed returns a channel that is closed when the store has failed.
func (f *Failure) Failed() <-chan struct{} { return f.failed }

// Err returns why the store has failed, nil while it has not.
func (f *Failure) Err() error {
	select {
	case <-f.failed:
		return f.err
	default:
		return nil
	}
}

// Stuck reports whether Pebble cannot go on: then nothing may wait for it, and its
// files stay open until the process ends.
func (f *Failure) Stuck() bool {
	select {
	case <-f.stuck:
		return true
	default:
		return false
	}
}

// Guard runs do, which may reach Pebble's Fatalf or a failed write, and returns
// when it is done or the store has failed. Then do may never return: what it
// uses must not be used again.
func (f *Failure) Guard(do func() error) error {
	if err := f.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return Corrupt(err)
	case <-f.failed:
		return f.err
	}
}

// Close runs do, which closes Pebble, also in a store that has failed, but not
// where Pebble cannot go on. It returns the failure, if there is one.
func (f *Failure) Close(do func() error) error {
	f.shut.Do(func() { close(f.closing) })
	return f.whileNotStuck(do)
}

func (f *Failure) whileNotStuck(do func() error) error {
	done := make(chan error, 1)
	select {
	case <-f.stuck:
		return f.err
	default:
		go func() { done <- do() }()
	}
	select {
	case err := <-done:
		return errors.Join(f.Err(), err)
	case <-f.stuck:
		return f.err
	}
}

// GiveUp is Close of what could not be opened because of err. It returns err, with
// what goes wrong in do where that says more.
func (f *Failure) GiveUp(err error, do func() error) error {
	closeErr := f.Close(do)
	if f.Err() != nil {
		return err // it is the failure, or the failure comes of it
	}
	return errors.Join(err, closeErr)
}

// stopHere fails the store and never returns.
func (f *Failure) stopHere(err error) {
	f.Fail(err)
	f.halt.Do(func() { close(f.stuck) })
	blockForever()
}

// blockForever has a name so that a dump of goroutines tells why one stands there.
//
//go:noinline
func blockForever() { select {} }

// Corrupt makes errors.Is(err, wal.ErrCorrupt) hold for what Pebble calls
// corruption.
func Corrupt(err error) error {
	if err != nil && pebble.IsCorruptionError(err) && !errors.Is(err, wal.ErrCorrupt) {
		return fmt.Errorf("%w: %w", wal.ErrCorrupt, err)
	}
	return err
}

// Events fails the store when background work of Pebble fails or finds damage.
func (f *Failure) Events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			f.Fail(fmt.Errorf("background work: %w", Corrupt(err)))
			if f.background.Add(1) <= maxBackground {
				return
			}
			if !f.open.Load() {
				f.stopHere(err) // Open waits for it
			}
			f.hold.Do(func() { close(f.held) })
			<-f.closing
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			f.Fail(fmt.Errorf("%w: %s: %w", wal.ErrCorrupt, i.Path, i.Details))
		},
	}
}

// Logger passes on to log what Pebble says. Its Fatalf fails the store and never
// returns, because Pebble goes on as if the write had succeeded when it does.
func (f *Failure) Logger(log *slog.Logger) pebble.Logger { return logger{f, log} }

type logger struct {
	f   *Failure
	log *slog.Logger
}

func (l logger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("pebble", "message", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	l.f.stopHere(fmt.Errorf("pebble: "+format, args...))
}
