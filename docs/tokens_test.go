package docs

import (
	"crypto/rand"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/counter/pebblecounter"
	"github.com/headwater-db/headwater/wal"
)

// TestTokensOfCountersTakeWhatThePageSays fills a store with the tokens of calls
// that answer a count, which are the largest, and looks at its files.
func TestTokensOfCountersTakeWhatThePageSays(t *testing.T) {
	t.Parallel()
	const batches, each = 20, 10_000
	dir := t.TempDir()
	cfg := pebblecounter.Config{Dir: dir, Partitions: 4, TokenWindow: 15 * time.Minute}
	s, err := pebblecounter.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n, now := 0, time.Now().UnixMicro()
	for i := range batches {
		b := s.Begin(0)
		at := now + int64(i)*time.Second.Microseconds()
		for range each {
			e := counter.TokenEntry{
				ID: wal.TokenID(wal.NewNonce()), Offset: wal.Offset(n), LogTime: at, AcceptedAt: at - 300, Time: at - 400,
				Outcome: counter.Applied, Value: int64(n), AppliedDelta: 1,
			}
			if _, err := rand.Read(e.Hash[:]); err != nil {
				t.Fatal(err)
			}
			b.SaveToken(&e)
			n++
		}
		err := b.Commit(t.Context(), counter.State{State: consumers.State{Applied: wal.Offset(n), LogTime: at, MaxTime: at}, Folded: wal.NoOffset})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Opening it takes what is in Pebble's log into tables.
	if s, err = pebblecounter.Open(cfg); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var size int64
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".sst" {
			return err
		}
		i, err := d.Info()
		if err == nil {
			size += i.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := size / (batches * each); got < 45 || got > 70 {
		t.Errorf("a token takes %d bytes; limits.md says about 60", got)
	}
}
