package pebblekv

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/kv/ledger"
	"github.com/headwater-db/headwater/wal"
)

var update = flag.Bool("update", false, "write the golden files anew")

// everything commits one of each kind of row.
func everything(t testing.TB, s *Store) {
	b := s.Begin(1)
	id := []byte("id")
	v := wal.Version{Time: 0x0102030405, Nonce: nonceOf(7)}
	b.Put(id, v, &kv.StoredItem{Key: []byte("inline"), Value: []byte("value"), Compression: "zstd", ContentType: "text/plain"})
	b.Put(id, wal.Version{Time: 9, Class: wal.Expiring, Expiry: 99, Nonce: nonceOf(7)}, &kv.StoredItem{Key: []byte("expiring")})
	b.Put(id, wal.Version{Time: 9, Class: wal.Deleted, Nonce: nonceOf(7)}, &kv.StoredItem{Key: []byte("deleted")})
	b.Put(id, v, &kv.StoredItem{Key: []byte("upload"), Upload: kv.UploadID{0xaa}, Chunks: 2, Size: 300, SHA256: [32]byte{0xbb}})
	b.DeleteRange(id, kv.Range{Start: []byte("a"), End: []byte("b")}, wal.Version{Time: 5, Class: wal.Deleted, Nonce: nonceOf(7)}, false)
	b.DeleteRange(id, kv.Range{Start: []byte("x"), Open: true}, wal.Version{Time: 6, Class: wal.Deleted, Nonce: nonceOf(7)}, false)
	b.DeleteRecord(id, wal.Version{Time: 4, Class: wal.Deleted, Nonce: nonceOf(7)}, false)
	b.SaveToken(&kv.TokenEntry{ID: wal.TokenID{0xcc}, Hash: wal.Hash{0xdd}, Offset: 7, LogTime: 1 << 40, AcceptedAt: 3, Time: 4, Outcome: kv.Applied})
	b.SaveToken(&kv.TokenEntry{ID: wal.TokenID{0xcd}, LogTime: 1 << 40, Outcome: kv.ConditionFailed, Current: v})
	b.SaveToken(&kv.TokenEntry{ID: wal.TokenID{0xce}, LogTime: 1 << 40, Outcome: kv.Applied, DefaultTTL: 3_600_000_000})
	b.SaveToken(&kv.TokenEntry{ID: wal.TokenID{0xcf}, LogTime: 1 << 40, Outcome: kv.ConditionFailed, Current: v})
	b.SaveUpload(&kv.StoredUpload{ID: kv.UploadID{0xaa}, Record: id, Key: []byte("upload"), Expiry: 55, Committed: true, Version: v, Chunks: 2})
	b.SaveUpload(&kv.StoredUpload{ID: kv.UploadID{0xab}, Record: id, Key: []byte("k"), Expiry: 55})
	b.SaveChunk(kv.UploadID{0xaa}, 1, []byte("chunk"))
	b.SaveException(7, []byte("exception"))
	b.SaveParked(&consumers.ParkedChange{Op: consumers.ParkedBegin, Key: []byte("parked"), Head: consumers.ParkedHead{Reason: "poison", Attempts: 3, At: 8, LogTime: 9}})
	b.SaveParked(&consumers.ParkedChange{Op: consumers.ParkedAdd, Key: []byte("parked"), Ref: wal.Ref{Partition: 1, Offset: 7, Index: 2}})
	if err := b.Commit(context.Background(), kv.State{Applied: 7, LogTime: 1 << 40, MaxTime: 0x0102030405}); err != nil {
		t.Fatal(err)
	}
}

// TestFormatIsAsWrittenDown compares every row with the bytes of the first
// release: a change of the format must be meant.
func TestFormatIsAsWrittenDown(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, small(vfs.NewMem(), 2))
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	everything(t, s)
	it, err := s.DB.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for ok := it.First(); ok; ok = it.Next() {
		b.WriteString(hex.EncodeToString(it.Key()) + " " + hex.EncodeToString(it.Value()) + "\n")
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	const name = "testdata/rows.golden"
	if *update {
		if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("rows are\n%swant\n%s", b.String(), want)
	}
}

// TestUnreadableRowsAreCorruption puts rows that this package never writes, and
// expects each read to say so and the store to stop.
func TestUnreadableRowsAreCorruption(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	id, upload := []byte("r"), kv.UploadID{1}
	for name, c := range map[string]struct {
		damage func(s *Store) error
		read   func(s *Store) error
	}{
		"a chunk with another's checksum": {
			func(s *Store) error {
				return s.DB.Set(chunkKey(0, upload, 0), append([]byte{1, 2, 3, 4}, "data"...), pebble.NoSync)
			},
			func(s *Store) error { _, err := s.ReadChunk(ctx, 0, upload, 0); return err },
		},
		"a short cell": {
			func(s *Store) error { return s.DB.Set(appendItemKey(nil, 0, id, nil), []byte("short"), pebble.NoSync) },
			func(s *Store) error { _, _, _, err := s.Item(ctx, 0, id, nil, 1); return err },
		},
		"a cell with an unknown flag": {
			func(s *Store) error {
				return s.DB.Set(appendItemKey(nil, 0, id, nil), append(make([]byte, 25), 0x80), pebble.NoSync)
			},
			func(s *Store) error { _, err := s.Get(ctx, &kv.Query{ID: id}); return err },
		},
		"a merge operand without a version": {
			func(s *Store) error { return s.DB.Merge(appendItemKey(nil, 0, id, nil), []byte("x"), pebble.NoSync) },
			func(s *Store) error { _, err := s.Scan(ctx, &kv.ScanQuery{}); return err },
		},
		"a token entry of another length": {
			func(s *Store) error {
				w, c := s.DB.NewBatch(), s.DB.Tokens.NewChange(0)
				op := c.Add(w, new(wal.TokenID), 1, 1)
				op.Value[0] = 'x'
				err := errors.Join(op.Finish(), s.DB.Apply(w), w.Close())
				c.Committed()
				return err
			},
			func(s *Store) error {
				_, _, err := s.Token(ctx, 0, wal.TokenID{})
				return err
			},
		},
		"an upload of no known form": {
			func(s *Store) error { return s.DB.Set(ledger.UploadKey(0, upload), []byte("x"), pebble.NoSync) },
			func(s *Store) error {
				_, err := s.Sweep(ctx, &kv.SweepRequest{Limit: 10})
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := make(chan error, 1)
			cfg := small(vfs.NewMem(), 1)
			cfg.OnFail = func(err error) { told <- err }
			s := mustOpen(t, cfg)
			if err := c.damage(s); err != nil {
				t.Fatal(err)
			}
			if err := c.read(s); !errors.Is(err, wal.ErrCorrupt) {
				t.Fatalf("read: %v, want ErrCorrupt", err)
			}
			if err := <-told; !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("OnFail: %v", err)
			}
			if err := s.Begin(0).Commit(ctx, kv.State{}); !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("commit after it: %v", err)
			}
			if err := s.Close(); !errors.Is(err, wal.ErrCorrupt) {
				t.Errorf("close after it: %v", err)
			}
		})
	}
}

func TestTokensBeyondTheFilterBudgetAreFound(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	cfg := small(vfs.NewMem(), 1)
	cfg.TokenFilterBytes = 10_000 // for 6,000 entries or so
	s := mustOpen(t, cfg)
	const n = 12_000
	tokenID := func(i int) wal.TokenID { return wal.TokenID{byte(i), byte(i >> 8), byte(i >> 16), 1} }
	b := s.Begin(0)
	for i := range n {
		b.SaveToken(&kv.TokenEntry{ID: tokenID(i), LogTime: 5, Offset: wal.Offset(i), Outcome: kv.Applied})
	}
	if err := b.Commit(ctx, kv.State{LogTime: 5}); err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for range 2 {
		for i := 0; i < 2*n; i += step {
			if e, ok, err := s.Token(ctx, 0, tokenID(i)); err != nil || ok != (i < n) || (ok && e.Offset != wal.Offset(i)) {
				t.Fatalf("token %d: %+v %v %v", i, e, ok, err)
			}
		}
		<-s.DB.Tokens.Rebuilt()
		if used := s.DB.Tokens.FilterBytes(); used != 0 {
			t.Fatalf("%d bytes are in use after the filter was given up", used)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, cfg)
	}
	s.SetTokenWindow(768 * time.Hour)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func FuzzDecoders(f *testing.F) {
	f.Add([]byte{}, []byte{})
	s := mustOpen(f, small(vfs.NewMem(), 2))
	everything(f, s)
	it, err := s.DB.NewIter(nil)
	if err != nil {
		f.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		f.Add(bytes.Clone(it.Key()), bytes.Clone(it.Value()))
	}
	if err := errors.Join(it.Close(), s.Close()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		// Each either refuses or returns parts of its input.
		if id, _, rest, err := ledger.SplitRecordKey(k); err == nil && len(id)+len(rest) > len(k) {
			t.Error("a key is shorter than its parts")
		}
		if c, err := parseCell(v); err == nil {
			it := c.Copy(k, c.version, false)
			out := make([]byte, cellLen(&c.version, &it))
			putCell(out, &c.version, &it)
			if again, err := parseCell(out); err != nil || again.version != c.version || !bytes.Equal(again.Value, c.Value) {
				t.Errorf("cell %x: encoded again %x: %v", v, out, err)
			}
		}
		if u, err := ledger.DecodeUpload(kv.UploadID{}, v); err == nil {
			if w, err := ledger.DecodeUpload(kv.UploadID{}, ledger.EncodeUpload(&u)); err != nil || !bytes.Equal(w.Key, u.Key) {
				t.Errorf("upload %x: %v", v, err)
			}
		}
		if e, err := ledger.DecodeToken(wal.TokenID{}, v); err == nil && len(ledger.AppendToken(nil, &e)) > len(v) {
			t.Errorf("token entry %x grows", v)
		}
		if fr, err := parseFragment(k, v); err == nil && len(fr.end) > len(v) {
			t.Errorf("fragment %x", v)
		}
		if p, err := decodePlace(v); err == nil && len(v) > 0 && len(p.encode()) != len(v) {
			t.Errorf("cursor %x", v)
		}
		_, _ = parseSummary(v) // must not panic
	})
}
