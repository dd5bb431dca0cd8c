package decisions

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/pebblelog"
)

// decisions is a topic of two partitions.
func decisions(t *testing.T) wal.Log {
	t.Helper()
	b, err := pebblelog.Open(pebblelog.Config{FS: vfs.NewMem(), Dir: "log", FreeSpaceFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := b.Create(t.Context(), wal.TopicSpec{Name: "headwater.decisions.a.1", Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func claimed(t *testing.T, l wal.Log, p wal.Partition, c Claim) Claim {
	t.Helper()
	c, err := Append(t.Context(), l, p, c)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func follow(t *testing.T, l wal.Log) *Book {
	t.Helper()
	b := Follow(l, slog.New(slog.DiscardHandler))
	t.Cleanup(b.Close)
	return b
}

func synced(t *testing.T, b *Book, p wal.Partition) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Sync(ctx, p); err != nil {
		t.Fatal(err)
	}
}

// TestTheNewestClaimCounts: whoever reads the topic, and from when on, sees the newest claim of each
// partition, and epochs that rise.
func TestTheNewestClaimCounts(t *testing.T) {
	t.Parallel()
	l := decisions(t)
	early := follow(t, l)
	synced(t, early, 0)
	if c, ok := early.Holder(0); ok {
		t.Fatalf("nobody has claimed it, and %+v holds it", c)
	}
	changed := early.Changed()
	first := claimed(t, l, 0, Claim{Process: "a", Home: "home", Address: "127.0.0.1:1"})
	<-changed
	if _, err := l.Barrier(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	second := claimed(t, l, 0, Claim{Process: "b"})
	if second.Epoch <= first.Epoch {
		t.Errorf("epoch %d follows %d", second.Epoch, first.Epoch)
	}
	other := claimed(t, l, 1, Claim{Process: "a", Home: "home", Address: "127.0.0.1:1"})
	late := follow(t, l)
	for _, b := range []*Book{early, late} {
		synced(t, b, 0)
		synced(t, b, 1)
		if c, ok := b.Holder(0); !ok || c != second {
			t.Errorf("partition 0 is held by %+v, want %+v", c, second)
		}
		if c, ok := b.Holder(1); !ok || c != other {
			t.Errorf("partition 1 is held by %+v, want %+v", c, other)
		}
		if err := b.Err(); err != nil {
			t.Error(err)
		}
	}
}

// TestOldClaimsAreFreed: however often a partition is claimed, its topic stays small, and the newest
// claim is found.
func TestOldClaimsAreFreed(t *testing.T) {
	t.Parallel()
	l := decisions(t)
	b := follow(t, l)
	var last Claim
	for range 3 * manyEntries {
		last = claimed(t, l, 0, Claim{Process: "p"})
		synced(t, b, 0)
		if err := b.Free(t.Context(), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	bounds, err := l.Bounds(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := bounds.End - bounds.Start; n > manyEntries+1 {
		t.Errorf("%d entries are left", n)
	}
	for _, b := range []*Book{b, follow(t, l)} {
		synced(t, b, 0)
		if c, ok := b.Holder(0); !ok || c != last {
			t.Errorf("it is held by %+v, want %+v", c, last)
		}
	}
}

// TestWhatCannotBeReadIsSaid: a claim of a newer version is not guessed at.
func TestWhatCannotBeReadIsSaid(t *testing.T) {
	t.Parallel()
	l := decisions(t)
	r := l.Append(t.Context(), wal.Sync, []wal.NewEntry{{Partition: 0, Data: wal.AppendRecord(nil, &wal.Record{Kind: wal.KindClaim, Payload: []byte{claimVersion + 1}})}})
	if r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	b := follow(t, l)
	for b.Err() == nil {
		select {
		case <-t.Context().Done():
			t.Fatal("nothing is said")
		case <-time.After(time.Millisecond):
		}
	}
	if err := b.Err(); !errors.Is(err, wal.ErrUnknownVersion) {
		t.Errorf("it says %v", err)
	}
	if _, err := Append(t.Context(), l, 0, Claim{Address: string(bytes.Repeat([]byte("x"), maxField+1))}); err == nil {
		t.Error("an address of 513 bytes was taken")
	}
}

func FuzzDecode(f *testing.F) {
	c := Claim{Process: "p", Home: "h", Address: "127.0.0.1:7082"}
	b, err := c.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decode(b)
		if err != nil {
			if !errors.Is(err, wal.ErrMalformed) && !errors.Is(err, wal.ErrUnknownVersion) {
				t.Error(err)
			}
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if d, err := decode(again); err != nil || d != c {
			t.Errorf("%+v became %+v, %v", c, d, err)
		}
	})
}

// unheard is a log whose first append is durable and not told to be.
type unheard struct {
	wal.Log
	appends int
}

func (l *unheard) Append(ctx context.Context, d wal.Durability, entries []wal.NewEntry) []wal.Result {
	rs := l.Log.Append(ctx, d, entries)
	if l.appends++; l.appends == 1 {
		rs[0] = wal.Result{Offset: wal.NoOffset, Err: wal.ErrUnknown}
	}
	return rs
}

// TestAClaimThatIsNotHeardOfIsMadeAgain: who has claimed knows by which epoch, and holds the partition.
func TestAClaimThatIsNotHeardOfIsMadeAgain(t *testing.T) {
	t.Parallel()
	l := decisions(t)
	c := claimed(t, &unheard{Log: l}, 1, Claim{Process: "a"})
	b := follow(t, l)
	synced(t, b, 1)
	if got, ok := b.Holder(1); !ok || got.Epoch != c.Epoch || c.Epoch != 1 {
		t.Errorf("claimed as %+v, held by %+v", c, got)
	}
}
