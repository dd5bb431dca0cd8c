package pebblelog

import (
	"context"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/headwater-db/headwater/wal"
)

// reader implements wal.Reader. While it catches up it keeps one Pebble iterator;
// at the end it drops it, so that a reader that waits pins nothing, and is given
// what comes from the partition's tail.
type reader struct {
	t  *topic
	ps *partition

	mu     sync.Mutex // between Next and a Close by the broker
	next   wal.Offset
	iter   *pebble.Iterator
	sees   wal.Offset // the durable end when iter was made: it holds all below
	closed bool
	gone   chan struct{} // closed by close

	entries []wal.Entry
	arena   []byte
}

// Next implements wal.Reader.
func (r *reader) Next(ctx context.Context) ([]wal.Entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if r.closed {
			return nil, fmt.Errorf("read topic %s partition %d: %w", r.t.info.Name, r.ps.p, wal.ErrClosed)
		}
		if r.t.deleted.Load() {
			return nil, r.t.errDeleted()
		}
		if err := r.ps.readable(r.next); err != nil {
			return nil, err
		}
		end := r.ps.durableEnd()
		if r.next < end {
			if entries := r.ps.takeTail(r.next); entries != nil {
				r.drop()
				r.next = entries[len(entries)-1].Offset + 1
				return entries, nil
			}
			entries, err := r.read(end)
			if err != nil {
				r.drop()
			}
			return entries, err
		}
		r.drop()
		r.ps.followed.Store(true)
		grown := r.ps.grownPast(r.next)
		if grown == nil {
			continue
		}
		r.mu.Unlock()
		select {
		case <-grown:
		case <-r.gone:
		case <-r.t.gone:
		case <-ctx.Done():
		}
		r.mu.Lock()
	}
}

// read returns records from r.next up to end, which is durable and above r.next.
func (r *reader) read(end wal.Offset) ([]wal.Entry, error) {
	r.entries = r.entries[:0]
	if cap(r.arena) > 2*readBytes {
		r.arena = nil
	}
	r.arena = r.arena[:0]
	size, at := 0, r.next
	for at < end && size < readBytes {
		fresh := false
		if r.iter == nil {
			if err := r.open(at); err != nil {
				return nil, r.ps.corrupt(at, err)
			}
			fresh = true
		}
		if !r.iter.Valid() {
			if err := r.iter.Error(); err != nil {
				return nil, r.ps.corrupt(at, err)
			}
			if at < r.sees || fresh {
				return nil, r.missing(at, "record is missing")
			}
			r.drop() // it was made before these records were
			continue
		}
		o, ok := offsetOfKey(r.iter.Key())
		if !ok || o != at {
			return nil, r.missing(at, fmt.Sprintf("record is missing, the next one is %d", o))
		}
		v, err := r.iter.ValueAndErr()
		if err != nil {
			return nil, r.ps.corrupt(at, err)
		}
		logTime, data, err := readFrame(v, r.ps.seed, r.iter.Key()[offsetInKey:])
		if err != nil {
			return nil, r.ps.corrupt(at, err)
		}
		r.entries = append(r.entries, wal.Entry{Partition: r.ps.p, Offset: at, LogTime: logTime, Data: r.keep(data)})
		size += len(data) + entryOverhead
		at++
		r.iter.Next()
	}
	r.next = at
	return r.entries, nil
}

// missing says why offset at is not there: trimmed a moment ago, or damage.
func (r *reader) missing(at wal.Offset, detail string) error {
	if err := r.ps.readable(at); err != nil {
		return err
	}
	if r.t.deleted.Load() {
		return r.t.errDeleted()
	}
	return r.ps.corruptf(at, "%s", detail)
}

func (r *reader) open(at wal.Offset) error {
	sees := r.ps.durableEnd() // before the iterator, which then holds at least these
	iter, err := r.t.b.db.NewIter(&pebble.IterOptions{
		LowerBound: recordKey(r.t.id, r.ps.p, at),
		UpperBound: partitionEnd(r.t.id, r.ps.p),
	})
	if err != nil {
		return err
	}
	r.iter, r.sees = iter, sees
	iter.First()
	return nil
}

// keep copies data into memory that lives until the next call of Next. A full
// chunk is left to the entries that point into it.
func (r *reader) keep(data []byte) []byte {
	if cap(r.arena)-len(r.arena) < len(data) {
		r.arena = make([]byte, 0, max(len(data), min(2*cap(r.arena), readBytes), 4096))
	}
	at := len(r.arena)
	r.arena = append(r.arena, data...)
	return r.arena[at:len(r.arena):len(r.arena)]
}

// drop closes the iterator. Its error, if any, was returned where it was met.
func (r *reader) drop() {
	if r.iter != nil {
		if err := r.iter.Close(); err != nil {
			r.t.b.log.Debug("close log iterator", "topic", r.t.info.Name, "partition", r.ps.p, "error", err)
		}
		r.iter = nil
	}
}

// Close implements wal.Reader.
func (r *reader) Close() error {
	r.t.b.forget(r)
	r.close()
	return nil
}

func (r *reader) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		close(r.gone)
		r.drop()
		r.ps.unfollow()
	}
}
