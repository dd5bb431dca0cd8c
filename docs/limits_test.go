package docs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/api/apierrors"
	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/gateway"
	"github.com/headwater-db/headwater/kv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries"
	"github.com/headwater-db/headwater/wal"
	"github.com/headwater-db/headwater/wal/durable"
)

// limits are the rows of limits.md whose numbers are constants, and how the page
// must word them.
var limits = map[string]string{
	"record id":                          fmt.Sprintf("1 to %s bytes of UTF-8", comma(kv.MaxIDBytes)),
	"item key":                           fmt.Sprintf("0 to %s bytes", comma(kv.MaxKeyBytes)),
	"value in a put":                     bytesOf(gateway.MaxInlineValue) + ", or the namespace's `limits.max_value`",
	"value by upload":                    bytesOf(client.MaxValueBytes) + ", or the namespace's `limits.max_value`",
	"chunk of an upload":                 "1 byte to " + bytesOf(gateway.MaxChunk) + ", of which there are at most " + comma(int64(kv.MaxValueBytes/gateway.MinChunk)),
	"an upload is given up after":        fmt.Sprintf("%.0f h", kv.UploadLease.Hours()),
	"items of a put":                     fmt.Sprintf("1 to %s", comma(gateway.MaxItems)),
	"keys of a `match_keys`":             "1 to " + comma(gateway.MaxItems),
	"items of a page":                    "`item_limit`, 1 to " + comma(gateway.MaxItemLimit),
	"shards of a scan":                   "1 to " + comma(gateway.MaxShards),
	"positions that a read waits for":    comma(gateway.MaxAfter),
	"namespaces":                         comma(namespace.MaxNamespaces),
	"versions of a namespace":            comma(namespace.MaxVersions),
	"id of a time series":                fmt.Sprintf("1 to %s bytes of UTF-8", comma(timeseries.MaxSeriesBytes)),
	"events of a call":                   "1 to " + comma(gateway.MaxEvents),
	"id of an event":                     fmt.Sprintf("0 to %d bytes of UTF-8", timeseries.MaxIDBytes),
	"items of an event":                  fmt.Sprintf("1 to %d, with keys of 1 to %d bytes of UTF-8, each once", gateway.MaxEventItems, gateway.MaxEventItemKey),
	"string or bytes of an item":         bytesOf(gateway.MaxEventItemValue),
	"page of events":                     "1 to " + comma(gateway.MaxEventPage) + ", " + comma(gateway.DefaultEventPage) + " unless asked, and as of a page",
	"filters of a read of events":        comma(gateway.MaxEventFilters),
	"time slices that a read looks at":   comma(timeseries.MaxSlices),
	"content type":                       fmt.Sprintf("%d bytes of visible ASCII", gateway.MaxContentType),
	"time to live":                       fmt.Sprintf("1 ms to %s h", comma(int64(gateway.MaxTTL/time.Hour))),
	"token key":                          fmt.Sprintf("1 to %d bytes of UTF-8", gateway.MaxTokenKeyBytes),
	"page":                               bytesOf(gateway.MinPageBytes) + " to " + bytesOf(gateway.MaxPageBytes) + ", " + bytesOf(gateway.DefaultPage) + " unless asked",
	"key of a message":                   comma(gateway.MaxLogKey) + " bytes of UTF-8",
	"name of a consumer":                 fmt.Sprintf(`1 to %d letters, digits, "-", "_" and "."`, gateway.MaxConsumerName),
	"messages of a fetch":                "1 to " + comma(gateway.MaxFetch) + ", " + comma(gateway.DefaultFetch) + " unless asked, and " + bytesOf(gateway.MaxPageBytes),
	"wait of a fetch":                    fmt.Sprintf("0 to %.0f s", gateway.MaxFetchWait.Seconds()),
	"messages in flight of a consumer":   "1 to " + comma(durable.MaxInFlight) + ", " + comma(durable.DefaultInFlight) + " unless asked",
	"acknowledgements of a call":         "1 to " + comma(gateway.MaxFetch),
	"consumers of a namespace":           comma(durable.MaxConsumers),
	"counter name":                       fmt.Sprintf("1 to %s bytes of UTF-8", comma(gateway.MaxCounterName)),
	"adds of a call":                     "1 to " + comma(gateway.MaxAdds),
	"counters of a read":                 "1 to " + comma(gateway.MaxCounts),
	"page of a list of counters":         "1 to " + comma(gateway.MaxListPage) + " names, " + comma(gateway.DefaultListPage) + " unless asked, and " + bytesOf(gateway.MaxPageBytes),
	"points of a series":                 comma(gateway.MaxSeriesPoints),
	"page of a list of dead letters":     "1 to " + comma(gateway.MaxLetterPage) + ", " + comma(gateway.DefaultLetterPage) + " unless asked, and " + bytesOf(gateway.MaxPageBytes),
	"ids of a selection of dead letters": comma(gateway.MaxLetterIDs),
	"dead letters of a namespace": "`dead_letters.max_bytes`, " + bytesOf(defaults("kv").DeadLetters.MaxBytes) +
		fmt.Sprintf(", and `dead_letters.retention`, %.0f h", defaults("kv").DeadLetters.Retention.Hours()),
	"items of a batch of puts":            comma(gateway.MaxBatchItems) + ", in 1 to 1,000 puts",
	"names of a read of counters":         bytesOf(gateway.MaxCountNames) + " in all",
	"answer":                              bytesOf(gateway.MaxAnswerBytes),
	"lease of a reservation":              fmt.Sprintf("1 ms to %.0f h", gateway.MaxLease.Hours()),
	"reservations that a partition holds": comma(counter.MaxReservations),
	"request message":                     bytesOf(gateway.MaxRequestBytes),
	"deadline over HTTP":                  fmt.Sprintf("1 ms to %.0f s, %.0f s unless asked; streams have none unless asked", gateway.MaxTimeout.Seconds(), gateway.DefaultTimeout.Seconds()),
	"namespace document":                  bytesOf(namespace.MaxDocumentBytes),
	"tokens remembered for a namespace":   "`tokens.max_live`, " + comma(defaults("kv").Tokens.MaxLive),
	"mutations of a partition that are acknowledged and not applied": comma(wal.DefaultMaxUnapplied),
	"log of a namespace": "`log.max_bytes`, " + bytesOf(defaults("kv").MaxLogBytes),
	"token time": fmt.Sprintf("%.0f m into the past, %.0f s into the future, or as the namespace says",
		defaults("kv").Tokens.MaxDriftPast.Minutes(), defaults("kv").Tokens.MaxDriftFuture.Seconds()),
}

// defaults is the configuration of a document that sets nothing.
func defaults(abstraction string) *namespace.Config {
	d, err := namespace.Parse("namespace: a\nabstraction: "+abstraction+"\n", namespace.Defaults{})
	if err != nil {
		panic(err)
	}
	return d.Config
}

func comma(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func bytesOf(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size && n%u.size == 0 {
			return fmt.Sprintf("%d %s", n/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}

func TestLimitsPageHasTheNumbersOfTheCode(t *testing.T) {
	t.Parallel()
	rows := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \| ([^|]*HW-[^|]*) \|$`).FindAllStringSubmatch(readPage(t, "limits.md"), -1) {
		rows[m[1]] = m[2]
	}
	for name, want := range limits {
		if rows[name] != want {
			t.Errorf("limits.md says %q of %q; the code says %q", rows[name], name, want)
		}
	}
}

// TestNamedErrorsExist finds every code of the pages in the table.
func TestNamedErrorsExist(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		for _, id := range regexp.MustCompile(`HW-\d{4}`).FindAllString(readPage(t, page), -1) {
			if _, ok := apierrors.Lookup(id); !ok {
				t.Errorf("%s names %s, which is no code", page, id)
			}
		}
	}
}

// TestYAMLOfThePagesIsValid reads every namespace document.
func TestYAMLOfThePagesIsValid(t *testing.T) {
	t.Parallel()
	n := 0
	for _, page := range pages(t) {
		for _, b := range blocksOf(t, page) {
			if b.words[0] != "yaml" {
				continue
			}
			n++
			if _, err := namespace.Parse(strings.Join(b.lines, "\n"), namespace.Defaults{}); err != nil {
				t.Errorf("%s: %v", b.where(), err)
			}
		}
	}
	if n == 0 {
		t.Error("no page has a document")
	}
}

// TestDocumentOfThePageIsTheDefaults: the page says that what is not set has the
// value that the document shows.
func TestDocumentOfThePageIsTheDefaults(t *testing.T) {
	t.Parallel()
	for _, b := range blocksOf(t, "namespaces.md") {
		if b.words[0] != "yaml" {
			continue
		}
		d, err := namespace.Parse(strings.Join(b.lines, "\n"), namespace.Defaults{})
		if err != nil {
			t.Fatal(err)
		}
		want := *defaults("kv")
		want.Name, want.Description, want.Owners = d.Config.Name, d.Config.Description, d.Config.Owners
		changes, err := namespace.Diff(&want, d.Config)
		if err != nil || len(changes) > 0 {
			t.Errorf("the document differs from the defaults: %v, %v", changes, err)
		}
		return
	}
	t.Error("namespaces.md has no document")
}
