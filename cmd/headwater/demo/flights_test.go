package demo

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The column flight is the number of the row. Without it in the key, rows would
// overwrite each other: that is why it is there, and this is how many would.
func TestSampleIsWhatSourceSays(t *testing.T) {
	t.Parallel()
	f := flights(t, 0)
	if f.Rows != 25_000 {
		t.Errorf("the sample has %d rows; SOURCE.md and the help say 25,000", f.Rows)
	}
	keys, trips := map[string]bool{}, map[string]bool{}
	for _, a := range f.airports {
		for i, r := range a.rows {
			keys[a.code+"|"+r.key] = true
			if i > 0 && r.key <= a.rows[i-1].key {
				t.Fatalf("%s: key %s follows %s", a.code, r.key, a.rows[i-1].key)
			}
			var fl Flight
			if err := json.Unmarshal(r.value, &fl); err != nil {
				t.Fatal(err)
			}
			if fl.Origin != a.code || fl.Key() != r.key {
				t.Fatalf("the value %s is under %s, %s", r.value, a.code, r.key)
			}
			trips[fl.Origin+fl.Destination+fl.DepartedAt.String()] = true
		}
	}
	if len(keys) != f.Rows {
		t.Errorf("%d rows make %d keys", f.Rows, len(keys))
	}
	if len(trips) >= f.Rows {
		t.Errorf("departure, origin and destination tell all %d rows apart; the sample should have some that repeat", f.Rows)
	}
	source, err := os.ReadFile("SOURCE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"25,000", "Bureau of Transportation Statistics", "public domain"} {
		if !bytes.Contains(source, []byte(want)) {
			t.Errorf("SOURCE.md does not say %q", want)
		}
	}
}

func TestFirstRowsAreTheFirst(t *testing.T) {
	t.Parallel()
	f := flights(t, 3)
	var got []string
	for _, a := range f.airports {
		for _, r := range a.rows {
			got = append(got, a.code+" "+r.key+" "+string(r.value))
		}
	}
	want := []string{
		`ANC 2001-01-01T00:01:00Z/0000000000 {"flight":0,"departedAt":"2001-01-01T00:01:00Z","origin":"ANC","destination":"LAX","distanceMiles":2345,"delayMinutes":-13}`,
		`ATL 2001-01-01T00:01:00Z/0000000001 {"flight":1,"departedAt":"2001-01-01T00:01:00Z","origin":"ATL","destination":"SAV","distanceMiles":215,"delayMinutes":19}`,
		`ATL 2001-01-01T00:01:00Z/0000000002 {"flight":2,"departedAt":"2001-01-01T00:01:00Z","origin":"ATL","destination":"TPA","distanceMiles":406,"delayMinutes":18}`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	t.Parallel()
	head := strings.Join(header, ",") + "\n"
	row := "0,2001-01-01T00:01:00Z,ANC,LAX,2345,-13\n"
	var cut bytes.Buffer
	z := gzip.NewWriter(&cut)
	if _, err := z.Write([]byte(head + strings.Repeat(row, 100))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "read the header"},
		{"another header", "a,b,c,d,e,f\n" + row, "the header is"},
		{"no rows", head, "there are no rows"},
		{"a column too few", head + "0,2001-01-01T00:01:00Z,ANC,LAX,2345\n", "wrong number of fields"},
		{"a delay that is not a number", head + row + "1,2001-01-01T00:01:00Z,ANC,LAX,2345,late\n", "row 1"},
		{"a time that is none", head + "1,yesterday,ANC,LAX,2345,0\n", "row 0"},
		{"no origin", head + "1,2001-01-01T00:01:00Z,,LAX,2345,0\n", "origin is empty"},
		{"a row twice", head + row + row, "must tell rows apart"},
		{"a gzip file cut short", cut.String()[:cut.Len()-20], "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "flights.csv")
			if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := File(name, 0)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v; want an error with %q", err, c.want)
			}
		})
	}
}

// The same token with other content is refused by the server, so that loads of
// other rows, or cut otherwise, must not share one.
func TestTokensNameTheirBatch(t *testing.T) {
	t.Parallel()
	content := map[string]string{}
	for _, rows := range []int{999, 1000} {
		for _, size := range []int{7, 500} {
			for range 2 { // the same load again makes the same tokens
				for _, b := range flights(t, rows).batches(size) {
					var c strings.Builder
					for _, r := range b.rows {
						c.WriteString(b.id + r.key + string(r.value))
					}
					if was, ok := content[b.token]; ok && was != c.String() {
						t.Fatalf("token %s goes with two batches", b.token)
					}
					content[b.token] = c.String()
					if len(b.token) > 128 {
						t.Fatalf("token %s has %d bytes; at most 128 are taken", b.token, len(b.token))
					}
				}
			}
		}
	}
	want := 0
	for _, rows := range []int{999, 1000} {
		for _, size := range []int{7, 500} {
			want += len(flights(t, rows).batches(size))
		}
	}
	if len(content) != want {
		t.Errorf("%d batches have %d tokens", want, len(content))
	}
}

func TestCountsHaveCommas(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 200000: "200,000", 1234567: "1,234,567", -1: "-1", -25000: "-25,000"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}
