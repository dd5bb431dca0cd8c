package pebbletokens

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal"
)

func TestFormatIsAsWrittenDown(t *testing.T) {
	t.Parallel()
	s := load(t, vfs.NewMem(), 0, nil0)
	defer s.close()
	s.tab.SetWindow(8 * time.Second)
	c, w := s.tab.NewChange(1), s.db.NewBatch()
	n := wal.TokenID{0xaa, 15: 0xbb}
	op := c.Add(w, &n, 0x0102030405060708, 2)
	copy(op.Value, "v!")
	state, err := c.AppendState([]byte{0xff})
	if err := errors.Join(err, op.Finish(), s.db.Apply(w, pebble.NoSync), w.Close()); err != nil {
		t.Fatal(err)
	}
	c.Committed()
	it, err := s.db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	it.First()
	got := hex.EncodeToString(it.Key()) + " " + hex.EncodeToString(it.Value()) + " " + hex.EncodeToString(state)
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	const want = "74" + "0001" + "0102030405000000" + "14" + "aa0000000000000000000000000000bb" + " 7621 " +
		"ff" + "0001" + "0102030405000000" + "14" + "0000000000000001"
	if got != want {
		t.Errorf("rows are\n%s, want\n%s", got, want)
	}
}

// nil0 is for tables whose entries are not read back.
func nil0(error) {}

func TestAnEntryIsFoundOnceItsBatchIsApplied(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), 0)
	defer s.close()
	c, w := s.tab.NewChange(0), s.db.NewBatch()
	add(t, c, w, 1, 5, "one")
	add(t, c, w, 2, 5, "")
	if got := s.find(1); got != nil {
		t.Errorf("before it is applied: %q", got)
	}
	s.apply(c, w)
	if got := s.find(1); !slices.Equal(got, []string{"one"}) {
		t.Errorf("the first entry: %q", got)
	}
	if got := s.find(2); !slices.Equal(got, []string{""}) {
		t.Errorf("the empty entry: %q", got)
	}
	if got := s.find(3); got != nil {
		t.Errorf("an identity never added: %q", got)
	}
	err := s.tab.Lookup(1, identity(1), func(v []byte) error { return fmt.Errorf("found %q", v) })
	if err != nil {
		t.Errorf("in another partition: %v", err)
	}
	if s.tab.Live(0) != 2 || s.tab.Live(1) != 0 {
		t.Errorf("%d and %d live", s.tab.Live(0), s.tab.Live(1))
	}
}

func TestAnIdentityOfTwoBucketsIsFoundInBoth(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), 0)
	defer s.close()
	s.commit(func(c *Change, w *pebble.Batch) {
		add(t, c, w, 1, 5, "overwritten")
		add(t, c, w, 1, 6, "early")
		add(t, c, w, 1, 1<<40, "late")
		s.tab.SetWindow(time.Hour)
		add(t, c, w, 1, 1<<40, "of another width")
	})
	if got := s.find(1); !slices.Equal(got, []string{"early", "late", "of another width"}) {
		t.Errorf("found %q", got)
	}
	failed := errors.New("not that one")
	calls := 0
	err := s.tab.Lookup(0, identity(1), func([]byte) error { calls++; return failed })
	if !errors.Is(err, failed) || calls != 1 {
		t.Errorf("an error of found: %v after %d calls", err, calls)
	}
}

func TestADiscardedChangeLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), 0)
	defer s.close()
	c, w := s.tab.NewChange(0), s.db.NewBatch()
	add(t, c, w, 1, 5, "one")
	s.saveState(c, w)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	c.Discard()
	c.Discard()
	if got := s.find(1); got != nil || s.tab.Live(0) != 0 {
		t.Errorf("found %q, %d live", got, s.tab.Live(0))
	}
	w = s.db.NewBatch()
	add(t, c, w, 1, 5, "again")
	s.apply(c, w)
	c.Discard()
	if got := s.find(1); !slices.Equal(got, []string{"again"}) || s.tab.Live(0) != 1 {
		t.Errorf("after the change was used again: %q, %d live", got, s.tab.Live(0))
	}
}

func TestReopenedTableFindsEverything(t *testing.T) {
	t.Parallel()
	const n = 3*firstSegment + 30 // three buckets of two segments each
	fs := vfs.NewMem()
	s := open(t, fs, 0)
	s.commit(func(c *Change, w *pebble.Batch) {
		for i := range n {
			add(t, c, w, i, int64(i%3)*second, fmt.Sprint(i))
		}
	})
	s.close()
	s = load(t, fs, 0, func(err error) { t.Error(err) })
	defer s.close()
	step := 1
	if testing.Short() {
		step = 5 // looks into all three buckets
	}
	check := func(when string) {
		for i := 0; i < n; i += step {
			if got := s.find(i); !slices.Equal(got, []string{fmt.Sprint(i)}) {
				t.Fatalf("%s: entry %d: %q", when, i, got)
			}
		}
		for i := 0; i < n; i += step {
			if got := s.find(n + i); got != nil {
				t.Fatalf("%s: an identity never added: %q", when, got)
			}
		}
		if s.tab.Live(0) != n {
			t.Errorf("%s: %d live, want %d", when, s.tab.Live(0), n)
		}
	}
	check("before anything is read back")
	if s.tab.FilterBytes() != 0 {
		t.Errorf("filters of %d bytes before anything is read back", s.tab.FilterBytes())
	}
	s.tab.Rebuild()
	check("while it is read back")
	<-s.tab.Rebuilt()
	check("after it is read back")
	for _, b := range s.tab.parts[0].list() {
		if !b.filter.complete.Load() {
			t.Errorf("the filter of bucket %d is not complete", b.id.start)
		}
	}
}

// TestFilterNeverSaysNoOfWhatItHas also bounds how often it says yes of what it
// does not have.
func TestFilterNeverSaysNoOfWhatItHas(t *testing.T) {
	t.Parallel()
	s := load(t, vfs.NewMem(), 0, nil0)
	defer s.close()
	b := s.tab.newBucket(bucketID{})
	b.filter.complete.Store(true)
	const n = 21 * firstSegment // 1, 4 and 16 firstSegments: full
	hash := func(i int) uint64 { n := identity(i); return idHash(&n) }
	wrong := 0
	for i := range n {
		b.filter.add(hash(i))
		if !b.filter.mayHave(hash(i)) {
			t.Fatalf("identity %d of %d is not in the filter", i, n)
		}
	}
	for i := range n {
		if !b.filter.mayHave(hash(i)) {
			t.Fatalf("identity %d of %d is not in the filter any more", i, n)
		}
		if b.filter.mayHave(hash(n + i)) {
			wrong++
		}
	}
	if wrong > n/50 {
		t.Errorf("%d of %d identities that were never added look as if they were", wrong, n)
	}
	if used := s.tab.FilterBytes(); used != n*filterBitsPerEntry/8 {
		t.Errorf("%d bytes for %d entries", used, n)
	}
}

func TestEntriesBeyondTheBudgetAreFound(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() {
		step = 7
	}
	for _, bytes := range []int64{-1, firstSegment * 2} {
		fs := vfs.NewMem()
		const n = 3 * firstSegment
		s := open(t, fs, bytes)
		s.commit(func(c *Change, w *pebble.Batch) {
			for i := range n {
				add(t, c, w, i, 5, "")
			}
		})
		for range 2 {
			<-s.tab.Rebuilt()
			for i := 0; i < 2*n; i += step {
				if got := s.find(i); (got != nil) != (i < n) {
					t.Fatalf("identity %d of %d: %q", i, n, got)
				}
			}
			if s.tab.FilterBytes() != 0 {
				t.Errorf("%d bytes are in use after the filter was given up", s.tab.FilterBytes())
			}
			s.close()
			s = open(t, fs, bytes)
		}
		s.close()
	}
}

func TestUnreadableEntriesAreToldAndLookUpsStayRight(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, fs, 0)
	s.commit(func(c *Change, w *pebble.Batch) { add(t, c, w, 1, 5, "one") })
	if err := s.db.Set(appendBucket(nil, 't', 0, bucketOf(5, uint8(s.tab.exp.Load()))), nil, pebble.NoSync); err != nil {
		t.Fatal(err)
	}
	s.close()
	told := make(chan error, 2)
	s = load(t, fs, 0, func(err error) { told <- err })
	defer s.close()
	s.tab.Rebuild()
	<-s.tab.Rebuilt()
	if err := <-told; !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("OnError: %v", err)
	}
	if got := s.find(1); !slices.Equal(got, []string{"one"}) {
		t.Errorf("found %q", got)
	}
}

func TestNewRefusesWhatItIsNotFor(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, 0, math.MaxUint16 + 2} {
		if _, err := New(Config{Partitions: n, OnError: nil0}); err == nil {
			t.Errorf("%d partitions: no error", n)
		}
	}
	if _, err := New(Config{Partitions: 1}); err == nil {
		t.Error("nobody to tell of errors: no error")
	}
}

func TestCloseComesAtAnyTime(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, fs, 0)
	s.commit(func(c *Change, w *pebble.Batch) {
		for i := range firstSegment {
			add(t, c, w, i, 5, "")
		}
	})
	s.close()
	s = open(t, fs, 0)
	s.tab.Close() // while it reads back
	s.close()
	s = load(t, fs, 0, nil0)
	s.close() // without a Rebuild
	<-s.tab.Rebuilt()
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 9, 'x'})
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 51, 0, 0, 0, 0, 0, 0, 0, 9})
	t1, err := New(Config{Partitions: 1, OnError: nil0})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		rest, err := t1.Load(0, b)
		if err != nil {
			if !errors.Is(err, wal.ErrCorrupt) {
				t.Error(err)
			}
			return
		}
		again, err := t1.NewChange(0).AppendState(nil)
		if err != nil || string(again)+string(rest) != string(b) {
			t.Errorf("%x is encoded as %x, then %x: %v", b, again, rest, err)
		}
	})
}

func TestOrderIsByIdentityAndOfOneByIndex(t *testing.T) {
	t.Parallel()
	var o Order
	for range 2 {
		for i, b := range []byte{9, 3, 9, 1, 3} {
			o.Add(&wal.TokenID{b}, i)
		}
		if got := slices.Collect(o.Sorted()); !slices.Equal(got, []int{3, 1, 4, 0, 2}) {
			t.Errorf("order %v", got)
		}
		for range o.Sorted() {
			break
		}
		o.Reset()
	}
}
