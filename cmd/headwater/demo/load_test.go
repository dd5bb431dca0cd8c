package demo

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/headwater-db/headwater/client"
)

// versions is what was acknowledged, by record and key. Safe for concurrent use.
type versions struct {
	mu sync.Mutex
	of map[[2]string]string
	n  int // batches
}

func (v *versions) acknowledged(id string, keys []string, res client.WriteResult) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.n++
	for i, k := range keys {
		v.of[[2]string{id, k}] = res.Versions[i]
	}
}

// check reads all that was acknowledged and compares its versions: an equal one
// means that nothing has written the item since.
func (v *versions) check(t *testing.T, c *client.Client) {
	t.Helper()
	ids := map[string]bool{}
	for k := range v.of {
		ids[k[0]] = true
	}
	found := 0
	for id := range ids {
		for it, err := range c.KV(namespace).Items(t.Context(), id, client.ReadOptions{OmitValues: true}) {
			if err != nil {
				t.Fatal(err)
			}
			want, ok := v.of[[2]string{id, it.Key}]
			if !ok {
				continue
			}
			if found++; it.Version != want {
				t.Fatalf("%s %s has version %s; %s was acknowledged", id, it.Key, it.Version, want)
			}
		}
	}
	if found != len(v.of) {
		t.Errorf("%d items were found of %d that were acknowledged", found, len(v.of))
	}
}

func loadAndRead(t *testing.T, c *client.Client, f *Flights) (Loaded, Report) {
	t.Helper()
	l, err := Load(t.Context(), c, f, Options{Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Read(t.Context(), c, f, Options{Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	if r.Rows != f.Rows || r.Airports != f.Airports() {
		t.Errorf("read %d rows of %d airports; the source has %d of %d", r.Rows, r.Airports, f.Rows, f.Airports())
	}
	return l, r
}

func TestEveryRowReadsBackAndASecondLoadChangesNothing(t *testing.T) {
	t.Parallel()
	c, f := serve(t), flights(t, 0)
	seen := &versions{of: map[[2]string]string{}}
	l, err := Load(t.Context(), c, f, Options{Namespace: namespace, Acknowledged: seen.acknowledged})
	if err != nil {
		t.Fatal(err)
	}
	if l.Rows != 25_000 || l.Repeated != 0 || l.Durability != client.Sync || len(seen.of) != l.Rows || seen.n != l.Batches {
		t.Errorf("loaded %+v; %d items and %d batches were acknowledged", l, len(seen.of), seen.n)
	}
	again, r := loadAndRead(t, c, f)
	if again.Repeated != again.Batches {
		t.Errorf("%d of %d batches of the second load were known", again.Repeated, again.Batches)
	}
	seen.check(t, c)
	// What the file says, counted with other tools.
	if r.Others != 0 || len(r.Busiest) != busiest || r.Busiest[0] != (AirportCount{"ORD", 1439}) || r.Late != 7904 ||
		r.WorstDelay.Flight != 4788 || r.WorstDelay.DelayMinutes != 1191 || r.totalDelayMinutes != 351481 {
		t.Errorf("the report is %+v", r)
	}
}

// A check that cannot fail proves nothing: this damages what was loaded.
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	c, f := serve(t), flights(t, 2000)
	loadAndRead(t, c, f)
	kv, a := c.KV(namespace), f.airports[3]
	victim := a.rows[len(a.rows)/2]
	expect := func(missing bool) {
		t.Helper()
		_, err := Read(t.Context(), c, f, Options{Namespace: namespace})
		m, ok := errors.AsType[*Mismatch](err)
		if !ok || m.Origin != a.code || m.Key != victim.key || (m.Got == nil) != missing {
			t.Errorf("got %v", err)
		}
	}
	put := func(key string, value []byte) {
		t.Helper()
		if _, err := kv.Put(t.Context(), a.code, key, value); err != nil {
			t.Fatal(err)
		}
	}
	put(victim.key, []byte("{}"))
	expect(false)
	if _, err := kv.Delete(t.Context(), a.code, victim.key); err != nil {
		t.Fatal(err)
	}
	expect(true)
	put(victim.key, victim.value)
	put("a", nil)
	put(victim.key+"a", []byte("beside"))
	put("zzz", []byte("behind"))
	r, err := Read(t.Context(), c, f, Options{Namespace: namespace})
	if err != nil || r.Rows != 2000 || r.Others != 3 {
		t.Errorf("with other items beside: %v, %d rows, %d others", err, r.Rows, r.Others)
	}
	// The last row of a record is missing: nothing follows that would show it.
	victim = a.rows[len(a.rows)-1]
	if _, err := kv.Delete(t.Context(), a.code, victim.key, "zzz"); err != nil {
		t.Fatal(err)
	}
	expect(true)
}

func TestALoadStopsAtTheFirstError(t *testing.T) {
	t.Parallel()
	c, f := serve(t), flights(t, 2000)
	if _, err := Load(t.Context(), c, f, Options{Namespace: "nowhere"}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("load into a namespace that is not there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Load(ctx, c, f, Options{Namespace: namespace, Progress: func(int) { cancel() }}); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled load: %v", err)
	}
	if _, err := Read(t.Context(), c, f, Options{Namespace: namespace}); err == nil {
		t.Error("half a load reads back as a whole one")
	}
	loadAndRead(t, c, f)
}

// All 200,000 rows. HEADWATER_FLIGHTS names the file.
func TestAllFlights(t *testing.T) {
	t.Parallel()
	name := os.Getenv("HEADWATER_FLIGHTS")
	if name == "" {
		t.Skip("HEADWATER_FLIGHTS does not name the file of 200,000 flights")
	}
	f, err := File(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	if f.Rows != 200_000 {
		t.Errorf("%s has %d rows, and 200,000 were expected", name, f.Rows)
	}
	l, r := loadAndRead(t, serve(t), f)
	t.Logf("loaded %d rows in %d calls, %.0f rows/s; read back %d, %.0f rows/s", l.Rows, l.Batches, l.RowsPerSec, r.Rows, r.RowsPerSec)
}
