package pebblelog

import (
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// Close implements wal.Broker. After a failure it may leave Pebble as it is: a
// goroutine that stands in Fatalf holds locks that closing needs. The directory
// then stays locked until the process ends.
func (b *Broker) Close() error {
	if !b.closing.CompareAndSwap(false, true) {
		<-b.closedCh
		return b.closeErr
	}
	defer close(b.closedCh)
	b.queue.stop(wal.ErrClosed)
	close(b.stopping)
	b.mu.Lock()
	b.closed = true
	readers := b.readers
	b.readers = map[*reader]struct{}{}
	b.mu.Unlock()
	for r := range readers {
		r.close()
	}
	b.closeErr = b.shut()
	return b.closeErr
}

func (b *Broker) shut() error {
	done := make(chan error, 1)
	go func() {
		b.loops.Wait()
		b.ops.Wait()
		var err error
		if b.failure() == nil {
			err = b.saveEnds()
		}
		err = errors.Join(err, b.db.Close())
		done <- errors.Join(err, b.lock.Close())
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("close log in %s: %w", b.cfg.Dir, err)
		}
		return nil
	case <-b.stuck:
		return fmt.Errorf("close log in %s: %w", b.cfg.Dir, b.failure())
	}
}
