package kvtest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/wal"
)

// concurrent: each commit writes the same round to all items of a record, in
// turns over a delete of what was there, so that a reader that sees two rounds,
// or none, saw half a commit.
func concurrent(t *testing.T, h Harness) {
	const rounds, items, readers = 300, 8, 4
	p := open(t, h, 1)
	write := func(round int64) error {
		b := p.s.Begin(0)
		defer b.Abort()
		id, time := []byte("r"), round*10
		switch round % 3 {
		case 1:
			b.DeleteRecord(id, deleted(time-1), true)
		case 2:
			b.DeleteRange(id, keysBetween(0, items), deleted(time-1), round%2 == 0)
		}
		for i := range items {
			b.Put(id, at(time), &kv.StoredItem{Key: []byte(key(i)), Value: fmt.Append(nil, round)})
		}
		e := entry(int(round), round*minute/100)
		b.SaveToken(&e)
		return b.Commit(bg, kv.State{Applied: wal.Offset(round), LogTime: round * minute / 100, MaxTime: time})
	}
	if err := write(1); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for n := range readers {
		wg.Go(func() {
			var last int64
			for {
				select {
				case <-done:
					return
				default:
				}
				st, err := p.s.State(bg, 0)
				if err != nil {
					t.Errorf("state: %v", err)
					return
				}
				if _, ok, err := p.s.Token(bg, 0, tokenID(int(st.Applied))); err != nil || !ok {
					t.Errorf("the token of commit %d, which has returned, is not found: %v", st.Applied, err)
					return
				}
				var got []kv.StoredItem
				switch n {
				case 0:
					it, _, ok, err := p.s.Item(bg, 0, []byte("r"), []byte(key(3)), 1)
					if err != nil || !ok {
						t.Errorf("item: %v, %v", ok, err)
						return
					}
					got = []kv.StoredItem{it}
				case 1:
					page, err := p.s.Get(bg, &kv.Query{ID: []byte("r"), HasKeys: true, Keys: [][]byte{[]byte(key(1)), []byte(key(7))}, MaxBytes: plenty})
					if err != nil || len(page.Items) != 2 {
						t.Errorf("two keys: %+v, %v", page, err)
						return
					}
					got = page.Items
				case 2:
					page, err := p.s.Get(bg, &kv.Query{ID: []byte("r"), MaxBytes: plenty, Descending: true})
					if err != nil || len(page.Items) != items {
						t.Errorf("record: %+v, %v", page, err)
						return
					}
					got = page.Items
				case 3:
					page, err := p.s.Scan(bg, &kv.ScanQuery{MaxBytes: plenty})
					if err != nil || len(page.Records) != 1 || len(page.Records[0].Items) != items {
						t.Errorf("scan: %+v, %v", page, err)
						return
					}
					got = page.Records[0].Items
				}
				for i := range got {
					if got[i].Version != got[0].Version {
						t.Errorf("reader %d sees commits %d and %d at once", n, got[0].Version.Time/10, got[i].Version.Time/10)
						return
					}
				}
				round := got[0].Version.Time / 10
				if round < last || round < int64(st.Applied) {
					t.Errorf("reader %d sees commit %d after %d and %d", n, round, last, st.Applied)
					return
				}
				last = round
			}
		})
	}
	for round := int64(2); round <= rounds; round++ {
		if err := write(round); err != nil {
			t.Errorf("commit: %v", err)
			break
		}
		if round%20 == 0 {
			req := kv.SweepRequest{LogTime: round * minute / 100, Horizon: round*10 - 50, Limit: 1000}
			if req.Horizon > req.LogTime {
				t.Fatal("the test's clock is off")
			}
			if _, err := p.s.Sweep(bg, &req); err != nil {
				t.Errorf("sweep: %v", err)
			}
			if _, err := p.s.Sync(bg); err != nil {
				t.Errorf("sync: %v", err)
			}
		}
	}
	close(done)
	wg.Wait()
}
