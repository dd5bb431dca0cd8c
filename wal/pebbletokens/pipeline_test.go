package pebbletokens

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/headwater-db/headwater/wal/pebblefail/failtest"
)

// TestCommitsInTheBackgroundLoseNoEntry fills one change while the batch of the
// one before is applied in another goroutine and others look up; every so often
// a change evicts. Power fails at random: what is then there has every entry up to
// its last commit, and counts them right.
func TestCommitsInTheBackgroundLoseNoEntry(t *testing.T) {
	t.Parallel()
	const (
		perCommit = 20
		kept      = 3 // buckets
	)
	commits := 200
	if testing.Short() {
		commits = 120 // six buckets, of which three are evicted
	}
	logTime := func(commit int) int64 { return int64(commit) * second / 20 }
	// evicted is the first commit that is not gone after a commit.
	horizon := func(commit int) int64 { return logTime(commit)&^(second-1) - kept*second }
	rng := rand.New(rand.NewPCG(1, 2))
	fs := failtest.NewMemory()
	s := open(t, fs, 20_000) // for three buckets: not enough at times
	defer s.close()
	s.tab.SetWindow(1)

	type filled struct {
		commit int
		c      *Change
		w      *pebble.Batch
	}
	work, free := make(chan filled), make(chan *Change, 2)
	free <- s.tab.NewChange(0)
	free <- s.tab.NewChange(0)
	var done atomic.Int64 // commits that are applied
	done.Store(-1)
	var wg sync.WaitGroup
	wg.Go(func() {
		for f := range work {
			mode := pebble.NoSync
			if f.commit%7 == 0 {
				mode = pebble.Sync
			}
			state, err := f.c.AppendState(nil)
			if err != nil {
				t.Error(err)
			}
			if err := f.w.Set(stateKey, state, nil); err != nil {
				t.Error(err)
			}
			if err := f.w.Set([]byte("commit"), binary.BigEndian.AppendUint32(nil, uint32(f.commit)), nil); err != nil {
				t.Error(err)
			}
			if err := s.db.Apply(f.w, mode); err != nil {
				t.Error(err)
			}
			f.c.Committed()
			done.Store(int64(f.commit))
			free <- f.c
		}
	})
	stop := make(chan struct{})
	for g := range 2 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(g)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				last := int(done.Load())
				if last < 0 {
					continue
				}
				commit := last - rng.IntN(min(last+1, 20)) // of a bucket that stays
				found := 0
				err := s.tab.Lookup(0, identity(commit*perCommit+rng.IntN(perCommit)), func([]byte) error { found++; return nil })
				if err != nil || found != 1 {
					t.Errorf("commit %d of %d: found %d times, %v", commit, last, found, err)
					return
				}
				s.tab.Live(0)
			}
		})
	}
	crashes := 0
	for commit := range commits {
		c, w := <-free, s.db.NewBatch()
		for i := range perCommit {
			add(t, c, w, commit*perCommit+i, logTime(commit), "")
		}
		if _, _, err := c.Evict(w, horizon(commit)); err != nil {
			t.Fatal(err)
		}
		work <- filled{commit, c, w}
		if rng.IntN(10) == 0 {
			crashes++
			clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			checkCrash(t, clone, perCommit, logTime, horizon)
		}
	}
	close(work)
	close(stop)
	wg.Wait()
	if crashes == 0 {
		t.Error("no crash was tried")
	}
}

func checkCrash(t *testing.T, fs vfs.FS, perCommit int, logTime, horizon func(int) int64) {
	t.Helper()
	s := open(t, fs, 0)
	defer s.close()
	b := s.get([]byte("commit"))
	if b == nil {
		return
	}
	last := int(binary.BigEndian.Uint32(b))
	live := 0
	for commit := range last + 1 {
		gone := logTime(commit)&^(second-1)+second <= horizon(last)
		for i := range perCommit {
			if got := s.find(commit*perCommit + i); (got == nil) != gone {
				t.Fatalf("after a crash as of commit %d: entry %d of commit %d: %q, evicted %v", last, i, commit, got, gone)
			}
		}
		if !gone {
			live += perCommit
		}
	}
	if s.tab.Live(0) != int64(live) || s.rows() != live {
		t.Fatalf("after a crash as of commit %d: %d live of %d, want %d", last, s.tab.Live(0), s.rows(), live)
	}
}

// TestAFilterThatIsGivenUpNeverSaysNo asks filters for what is in them just as
// they are given up.
func TestAFilterThatIsGivenUpNeverSaysNo(t *testing.T) {
	t.Parallel()
	s := load(t, vfs.NewMem(), 0, nil0)
	defer s.close()
	n := identity(1)
	h := idHash(&n)
	var current atomic.Pointer[filter]
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				f := current.Load()
				for i := 0; f != nil && i < 100; i++ {
					if !f.mayHave(h) {
						t.Error("a filter says no of what was added")
						return
					}
				}
			}
		})
	}
	for i := 0; i < 20_000 && !t.Failed(); i++ {
		b := s.tab.newBucket(bucketID{})
		b.filter.complete.Store(true)
		b.filter.add(h)
		current.Store(&b.filter)
		for range i % 64 { // so that readers are at any place
			b.filter.mayHave(h)
		}
		b.filter.drop()
	}
	close(stop)
	wg.Wait()
}

// TestRebuildBesideCommits adds to loaded buckets, and to new ones, while they
// are read back.
func TestRebuildBesideCommits(t *testing.T) {
	t.Parallel()
	n := 20_000
	if testing.Short() {
		n = 6_000
	}
	fs := vfs.NewMem()
	s := open(t, fs, 0)
	s.commit(func(c *Change, w *pebble.Batch) {
		for i := range n {
			add(t, c, w, i, 5, fmt.Sprint(i))
		}
	})
	s.close()
	s = open(t, fs, 0)
	defer s.close()
	for from := n; from < 2*n; from += 100 {
		s.commit(func(c *Change, w *pebble.Batch) {
			for i := from; i < from+100; i++ {
				add(t, c, w, i, 5+int64(i%2)<<40, fmt.Sprint(i))
			}
		})
		for _, i := range []int{from, from + 99, from - n} {
			if got := s.find(i); !slices.Equal(got, []string{fmt.Sprint(i)}) {
				t.Fatalf("entry %d: %q", i, got)
			}
		}
	}
	<-s.tab.Rebuilt()
	for i := range 2 * n {
		if got := s.find(i); !slices.Equal(got, []string{fmt.Sprint(i)}) {
			t.Fatalf("entry %d after it is read back: %q", i, got)
		}
	}
}
