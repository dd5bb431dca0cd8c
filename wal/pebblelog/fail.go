package pebblelog

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// failState remembers why the log stopped for good.
type failState struct {
	once sync.Once
	err  error // set before Broker.failed is closed
}

// fail stops the log for good: nothing is acknowledged after it, and only a
// restart, which reads back what is on disk, makes it whole.
func (b *Broker) fail(cause error) {
	b.fault.once.Do(func() {
		b.fault.err = fmt.Errorf("%w: %w", wal.ErrFailed, cause)
		close(b.failed)
		b.queue.fail(b.fault.err)
		b.log.Error("log has stopped for good; restart to read back what is on disk", "error", cause)
		if b.cfg.OnFail != nil {
			go b.cfg.OnFail(b.fault.err)
		}
	})
}

// failure returns why the log stopped for good, or nil.
func (b *Broker) failure() error {
	select {
	case <-b.failed:
		return b.fault.err
	default:
		return nil
	}
}

// stop is fail for a goroutine that is in the middle of Pebble: it never returns.
// The goroutine keeps whatever locks it holds; everybody else waits on
// Broker.failed or Broker.stuck beside what they wait for.
func (b *Broker) stop(cause error) {
	b.fail(cause)
	b.stuckOnce.Do(func() { close(b.stuck) })
	blockForever()
}

func (b *Broker) isStuck() bool {
	select {
	case <-b.stuck:
		return true
	default:
		return false
	}
}

// pebbleLogger is Pebble's way out. Pebble calls Fatalf where it can't go on, and
// after some of its calls it would acknowledge what is not on disk if Fatalf
// returned; so it never does.
type pebbleLogger struct {
	log   *slog.Logger
	fatal func(error) // does not return
}

func (l pebbleLogger) Infof(format string, args ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("pebble: %s", fmt.Sprintf(format, args...)))
}

// blockForever has a name so that a goroutine dump tells why it stands there.
//
//go:noinline
func blockForever() { select {} }

// events stops the log when Pebble's background work meets an error: a flush that
// can't write today is a memtable that can't leave memory, and a file that is
// corrupt now is a read that fails later.
func (b *Broker) events() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) { b.fail(fmt.Errorf("background work: %w", err)) },
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			b.log.Error("log file is corrupt", "file", info.Path, "error", info.Details)
		},
	}
}
