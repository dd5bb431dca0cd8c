package pebblelog

import (
	"errors"
	"fmt"

	"github.com/headwater-db/headwater/wal"
)

// Close implements wal.Broker. After a failure it returns that, and may leave Pebble as it is: a
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
	err := b.fault.Close(func() error {
		b.loops.Wait()
		b.ops.Wait()
		var err error
		if b.fault.Err() == nil {
			err = b.saveEnds()
		}
		return errors.Join(err, b.db.Close(), b.lock.Close())
	})
	if err != nil {
		return fmt.Errorf("close log in %s: %w", b.cfg.Dir, err)
	}
	return nil
}
