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

// pebbleLogger is Pebble's way out. Pebble calls Fatalf where it can't go on, and
// after some of its calls it would acknowledge what is not on disk if Fatalf
// returned; so it never does. The goroutine stays, with whatever locks it holds;
// everybody else waits on Broker.failed beside what they wait for.
type pebbleLogger struct {
	log   *slog.Logger
	b     *Broker // nil until the database is open
	stuck chan struct{}
	once  *sync.Once
}

func (l pebbleLogger) Infof(format string, args ...any) {}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble: " + fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("pebble: %s", fmt.Sprintf(format, args...))
	l.b.fail(err)
	l.once.Do(func() { close(l.stuck) })
	blockForever()
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
