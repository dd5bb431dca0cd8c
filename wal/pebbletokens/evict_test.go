package pebbletokens

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// evict is a commit of its own.
func (s *store) evict(horizon int64) (buckets int, entries int64) {
	s.t.Helper()
	s.commit(func(c *Change, w *pebble.Batch) {
		var err error
		if buckets, entries, err = c.Evict(w, horizon); err != nil {
			s.t.Fatal(err)
		}
	})
	return buckets, entries
}

func TestWholeBucketsBeforeTheHorizonAreEvicted(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, fs, 0)
	s.tab.SetWindow(1)
	s.commit(func(c *Change, w *pebble.Batch) {
		add(t, c, w, 0, 0, "first")
		add(t, c, w, 1, second-1, "first")
		add(t, c, w, 2, second, "second")
		add(t, c, w, 3, -1, "before 1970")
	})
	used := s.tab.FilterBytes()
	if b, e := s.evict(second - 1); b != 1 || e != 1 {
		t.Errorf("%d buckets of %d entries are evicted before the end of the first", b, e)
	}
	if b, e := s.evict(second); b != 1 || e != 2 {
		t.Errorf("%d buckets of %d entries are evicted at the end of the first", b, e)
	}
	check := func() {
		for i, want := range [][]string{nil, nil, {"second"}, nil} {
			if got := s.find(i); !slices.Equal(got, want) {
				t.Errorf("entry %d: %q, want %q", i, got, want)
			}
		}
		if s.rows() != 1 || s.tab.Live(0) != 1 || len(s.tab.parts[0].list()) != 1 {
			t.Errorf("%d rows, %d live, %d buckets", s.rows(), s.tab.Live(0), len(s.tab.parts[0].list()))
		}
	}
	check()
	if now := s.tab.FilterBytes(); now != used/3 {
		t.Errorf("filters of %d bytes after, %d before", now, used)
	}
	s.close()
	s = open(t, fs, 0)
	defer s.close()
	check()
}

func TestABucketOfAnOpenChangeStays(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, fs, 0)
	open1, w := s.tab.NewChange(0), s.db.NewBatch()
	add(t, open1, w, 1, 5, "late")
	if b, _ := s.evict(1 << 60); b != 0 {
		t.Errorf("%d buckets are evicted under an open change", b)
	}
	s.apply(open1, w)
	if got := s.find(1); !slices.Equal(got, []string{"late"}) {
		t.Errorf("found %q", got)
	}
	if b, e := s.evict(1 << 60); b != 1 || e != 1 {
		t.Errorf("%d buckets of %d entries are evicted after it", b, e)
	}
	s.close()
}

// TestAnAddBesideAnEvictionIsNotLostFromTheList fills a change for a bucket that
// is just being evicted, and ends the two in both orders.
func TestAnAddBesideAnEvictionIsNotLostFromTheList(t *testing.T) {
	t.Parallel()
	for _, discard := range []bool{false, true} {
		fs := vfs.NewMem()
		s := open(t, fs, 0)
		s.commit(func(c *Change, w *pebble.Batch) { add(t, c, w, 1, 5, "old") })
		sweep, sw := s.tab.NewChange(0), s.db.NewBatch()
		if b, _, err := sweep.Evict(sw, 1<<60); b != 1 || err != nil {
			t.Fatal(b, err)
		}
		if got := s.find(1); !slices.Equal(got, []string{"old"}) {
			t.Errorf("before the eviction is applied: %q", got)
		}
		other := s.tab.NewChange(0)
		if b, _, err := other.Evict(sw, 1<<60); b != 0 || err != nil {
			t.Errorf("evicted a second time: %d, %v", b, err)
		}
		c, w := s.tab.NewChange(0), s.db.NewBatch()
		add(t, c, w, 2, 5, "new")
		if discard {
			if err := sw.Close(); err != nil {
				t.Fatal(err)
			}
			sweep.Discard()
		} else {
			s.apply(sweep, sw)
		}
		s.apply(c, w)
		for range 2 {
			if got := s.find(2); len(got) == 0 || got[0] != "new" {
				t.Errorf("discard %v: the new entry: %q", discard, got)
			}
			if got := s.find(1); (len(got) > 0) != discard {
				t.Errorf("discard %v: the old entry: %q", discard, got)
			}
			s.close()
			s = open(t, fs, 0)
		}
		if s.evict(1 << 60); s.rows() != 0 || s.tab.Live(0) != 0 || s.tab.FilterBytes() != 0 {
			t.Errorf("discard %v: %d rows, %d live, %d bytes after all is evicted", discard, s.rows(), s.tab.Live(0), s.tab.FilterBytes())
		}
		s.close()
	}
}
