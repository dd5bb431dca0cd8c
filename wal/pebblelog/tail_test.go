package pebblelog

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/headwater-db/headwater/wal"
)

// awaitFollowed waits until a reader waits at the end of ps.
func awaitFollowed(t *testing.T, ps *partition) {
	t.Helper()
	for !ps.followed.Load() {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func tailOf(ps *partition) (entries, bytes int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.tail.entries), ps.tail.bytes
}

// TestAFollowerIsGivenWhatItsWritersWrote: readers that keep up, readers that do
// not, and readers that come and go get every record, once and in order, whether
// it comes from memory or from the store.
func TestAFollowerIsGivenWhatItsWritersWrote(t *testing.T) {
	b := mustOpen(t, small(vfs.NewMem()))
	defer closeBroker(t, b)
	l := mustCreate(t, b, "t", 2)
	const writers, each = 4, 300
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				size := 8 + i%500
				if i%97 == 0 {
					size = tailRecordBytes + 1 // never kept
				}
				data := make([]byte, size)
				binary.BigEndian.PutUint64(data, uint64(w*each+i))
				for p := range wal.Partition(2) {
					if r := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: p, Data: data}})[0]; r.Err != nil {
						t.Error(r.Err)
						return
					}
				}
				clear(data) // the log has no more business with it
			}
		})
	}
	read := func(p wal.Partition, reopen int) {
		var seen []wal.Entry
		var at wal.Offset
		for at < writers*each {
			rd, err := l.Read(t.Context(), p, at)
			if err != nil {
				t.Error(err)
				return
			}
			for n := 0; at < writers*each && (reopen == 0 || n < reopen); n++ {
				entries, err := rd.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				for i := range entries {
					e := &entries[i]
					if e.Offset != at || e.Partition != p {
						t.Errorf("partition %d offset %d came, want partition %d offset %d", e.Partition, e.Offset, p, at)
						return
					}
					seen = append(seen, wal.Entry{Offset: at, LogTime: e.LogTime, Data: append([]byte(nil), e.Data[:8]...)})
					at++
				}
			}
			if err := rd.Close(); err != nil {
				t.Error(err)
			}
		}
		// What the store has is what was read.
		rd, err := l.Read(t.Context(), p, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() {
			if err := rd.Close(); err != nil {
				t.Error(err)
			}
		}()
		for len(seen) > 0 {
			entries, err := rd.Next(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			for i := range entries {
				if e := &entries[i]; e.LogTime != seen[i].LogTime || string(e.Data[:8]) != string(seen[i].Data) {
					t.Errorf("offset %d was read as %x at %d, the store has %x at %d", e.Offset, seen[i].Data, seen[i].LogTime, e.Data[:8], e.LogTime)
					return
				}
			}
			seen = seen[len(entries):]
		}
	}
	for p := range wal.Partition(2) {
		for _, reopen := range []int{0, 0, 7} {
			wg.Go(func() { read(p, reopen) })
		}
	}
	wg.Wait()
}

// TestATailIsBounded: it is there for a reader that waits, handed over once, and
// let go of when its reader is slow or gone.
func TestATailIsBounded(t *testing.T) {
	b := mustOpen(t, small(vfs.NewMem()))
	defer closeBroker(t, b)
	l := mustCreate(t, b, "t", 1)
	ps := l.(*topic).parts[0]
	write := func(n, size int) {
		t.Helper()
		for range n {
			if r := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Data: make([]byte, size)}})[0]; r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	write(3, 10)
	if n, _ := tailOf(ps); n != 0 {
		t.Errorf("%d records are kept that nobody follows", n)
	}
	rd, err := l.Read(t.Context(), 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	wait := func() (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := rd.Next(ctx); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}()
		awaitFollowed(t, ps)
		return func() { cancel(); <-done }
	}
	wait()() // it has come to the end
	write(5, 10)
	if n, _ := tailOf(ps); n != 5 {
		t.Fatalf("%d records are kept for the reader, want 5", n)
	}
	if entries, err := rd.Next(t.Context()); err != nil || len(entries) != 5 || rd.(*reader).iter != nil {
		t.Errorf("%d records, %v; want 5, without an iterator", len(entries), err)
	}
	if n, size := tailOf(ps); n != 0 || size != 0 {
		t.Errorf("%d records, %d bytes are kept after they were read", n, size)
	}
	for range 40 {
		write(1, tailBytes/10)
		if _, size := tailOf(ps); size > tailBytes {
			t.Fatalf("%d bytes are kept for a slow reader", size)
		}
	}
	for at := wal.Offset(8); at < 48; {
		entries, err := rd.Next(t.Context())
		if err != nil || entries[0].Offset != at {
			t.Fatalf("offset %d, %v; want %d", entries[0].Offset, err, at)
		}
		at += wal.Offset(len(entries))
	}
	write(1, 10)
	if err := rd.Close(); err != nil {
		t.Fatal(err)
	}
	if n, _ := tailOf(ps); n != 0 || ps.followed.Load() {
		t.Errorf("%d records are kept for a reader that has gone", n)
	}
}

// TestATailOfWhatIsNoLongerThere: trimmed and deleted records are not given from
// memory, and a topic made anew has none of another's.
func TestATailOfWhatIsNoLongerThere(t *testing.T) {
	b := mustOpen(t, small(vfs.NewMem()))
	defer closeBroker(t, b)
	follow := func(l wal.Log) wal.Reader {
		t.Helper()
		rd, err := l.Read(t.Context(), 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if _, err := rd.Next(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
		ps := l.(*topic).parts[0]
		awaitFollowed(t, ps)
		cancel()
		<-done
		mustAppend(t, l, 0, "0", "1", "2", "3", "4", "5")
		if n, _ := tailOf(ps); n != 6 {
			t.Fatalf("%d records are kept, want 6", n)
		}
		return rd
	}
	l := mustCreate(t, b, "t", 1)
	rd := follow(l)
	if err := l.Trim(t.Context(), 0, 3); err != nil {
		t.Fatal(err)
	}
	var trimmed *wal.TrimmedError
	if entries, err := rd.Next(t.Context()); !errors.As(err, &trimmed) {
		t.Errorf("%d trimmed records are read, %v", len(entries), err)
	}
	if got, err := readRange(t.Context(), l, 0, 3, 6); err != nil || !slices.Equal(got, []string{"3", "4", "5"}) {
		t.Errorf("behind the trim %q is read, %v", got, err)
	}
	mustAppend(t, l, 0, "6")
	if got, err := readRange(t.Context(), l, 0, 3, 7); err != nil || !slices.Equal(got, []string{"3", "4", "5", "6"}) {
		t.Errorf("behind the trim %q is read, %v", got, err)
	}
	if err := rd.Close(); err != nil {
		t.Error(err)
	}

	l = mustCreate(t, b, "deleted", 1)
	rd = follow(l)
	if err := b.Delete(t.Context(), "deleted"); err != nil {
		t.Fatal(err)
	}
	again := mustCreate(t, b, "deleted", 1)
	mustAppend(t, again, 0, "new")
	if entries, err := rd.Next(t.Context()); !errors.Is(err, wal.ErrIncarnation) {
		t.Errorf("%d records of a deleted topic are read, %v", len(entries), err)
	}
	if got, err := readAll(t.Context(), again, 0); err != nil || !slices.Equal(got, []string{"new"}) {
		t.Errorf("a topic made anew has %q, %v", got, err)
	}
	if err := rd.Close(); err != nil {
		t.Error(err)
	}
}

// TestAFollowerSeesNothingOfAFailedSync waits at the end while a sync fails, and
// is given nothing of it, nor of what comes behind it.
func TestAFollowerSeesNothingOfAFailedSync(t *testing.T) {
	if !inChild(t) { // what failed is never closed
		return
	}
	var armed atomic.Bool
	b := mustOpen(t, small(faultFS(vfs.NewMem(), func(op errorfs.Op) error {
		if armed.Load() && isSync(op) && isWAL(op) {
			return syscall.EIO
		}
		return nil
	})))
	l := mustCreate(t, b, "t", 1)
	mustAppend(t, l, 0, "0")
	ps := l.(*topic).parts[0]
	rd, err := l.Read(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	read := make(chan int, 1)
	go func() {
		entries, _ := rd.Next(ctx) // the error of ctx, or of the log
		read <- len(entries)
	}()
	awaitFollowed(t, ps)
	armed.Store(true)
	for _, data := range []string{"1", "2"} {
		if _, err := appendOne(t.Context(), l, 0, data); err == nil {
			t.Errorf("record %s is acknowledged", data)
		}
	}
	if n, _ := tailOf(ps); n != 0 || ps.durableEnd() != 1 {
		t.Errorf("%d records are kept, and the end is %d, after a sync that failed", n, ps.durableEnd())
	}
	cancel()
	if n := <-read; n != 0 {
		t.Errorf("a reader was given %d records of a sync that failed", n)
	}
}
