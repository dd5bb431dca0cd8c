package demo

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
)

// The sample counted from its bytes with nothing of this package.
func naive(t *testing.T, rows int) map[string]int64 {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	all, err := csv.NewReader(z).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, r := range all[1 : rows+1] {
		counts["origin/"+r[2]]++
		counts["destination/"+r[3]]++
		counts["route/"+r[2]+"-"+r[3]]++
		counts["hour/"+r[1][11:13]]++
	}
	return counts
}

func TestThePlainPassIsWhatTheFileSays(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{1, 1000, 25_000} {
		f, want := flights(t, rows), naive(t, rows)
		if got := f.Counts(); !maps.Equal(got, want) {
			t.Errorf("%d rows: %d counters, and %d were expected, or their values differ", rows, len(got), len(want))
		}
		sent := map[string]int64{}
		n := 0
		for _, b := range f.CounterBatches(300) {
			n += b.Flights
			for _, a := range b.Adds(nil) {
				sent[a.Counter] += a.Delta
			}
		}
		if n != rows || !maps.Equal(sent, want) {
			t.Errorf("the batches of %d rows have %d flights, or add up to something else", rows, n)
		}
	}
	f := flights(t, 0)
	if top := top(f.Counts(), "origin"); len(top) != topOf || top[0] != (Ranked{"origin/ORD", 1439}) {
		t.Errorf("the largest origins are %v", top)
	}
	at := time.Date(2001, 1, 1, 0, 1, 0, 0, time.UTC)
	want := []client.CounterAdd{
		{Counter: "origin/ANC", Delta: 1, EventTime: at}, {Counter: "destination/LAX", Delta: 1, EventTime: at},
		{Counter: "route/ANC-LAX", Delta: 1, EventTime: at}, {Counter: "hour/00", Delta: 1, EventTime: at},
	}
	got := f.CounterBatches(1)[0].Adds(nil)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("the first flight adds %+v, and not %+v", got[i], want[i])
		}
	}
}

func TestTopTenAreInTheOrderOfCountsThenNames(t *testing.T) {
	t.Parallel()
	got := top(map[string]int64{"a/1": 2, "a/2": 3, "a/0": 2, "b/1": 9, "a/9": 0, "aa/1": 7}, "a")
	want := []Ranked{{"a/2", 3}, {"a/0", 2}, {"a/1", 2}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A load that is resumed must send the same, and what is not the same must not
// have a token that is known.
func TestCounterTokensNameTheirContent(t *testing.T) {
	t.Parallel()
	content := map[string]string{}
	put := func(f *Flights, size int) (tokens []string) {
		for _, b := range f.CounterBatches(size) {
			var c strings.Builder
			for _, a := range b.Adds(nil) {
				c.WriteString(a.Counter + a.EventTime.String())
			}
			if was, ok := content[b.Token]; ok && was != c.String() {
				t.Fatalf("token %s goes with two batches", b.Token)
			}
			if len(b.Token) > 128 || len(b.Marker()) != len(markers)+32 {
				t.Fatalf("token %s, marker %s", b.Token, b.Marker())
			}
			content[b.Token] = c.String()
			tokens = append(tokens, b.Token)
		}
		return tokens
	}
	long, short := put(flights(t, 1000), 250), put(flights(t, 600), 250)
	if long[0] != short[0] || long[1] != short[1] || long[2] == short[2] {
		t.Errorf("a longer file does not begin with the tokens of a shorter one, or goes on with them: %v, %v", long, short)
	}
	put(flights(t, 1000), 500) // ends where batches of 250 end
	swapped := strings.Join(header, ",") + "\n1,2001-01-01T00:01:00Z,A,B,1,1\n0,2001-01-01T00:01:00Z,A,C,1,1\n"
	straight := strings.Join(header, ",") + "\n0,2001-01-01T00:01:00Z,A,C,1,1\n1,2001-01-01T00:01:00Z,A,B,1,1\n"
	for _, text := range []string{swapped, straight} {
		name := filepath.Join(t.TempDir(), "f.csv")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := File(name, 0)
		if err != nil {
			t.Fatal(err)
		}
		put(f, 1)
		put(f, 2)
	}
}
