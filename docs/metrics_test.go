package docs

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/headwater-db/headwater/client"
	"github.com/headwater-db/headwater/cmd/headwater/server"
)

// TestMetricsPageIsTheScrape compares docs/metrics.md with what servers export, on
// the embedded log and on Kafka: names, types and labels, both ways.
func TestMetricsPageIsTheScrape(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	poison(t, dir)
	embedded := scrape(t, server.Config{DataDir: dir, Demo: true, FreeSpaceFloor: -1})
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	kafka := scrape(t, server.Config{DataDir: t.TempDir(), Demo: true, KafkaBrokers: cluster.ListenAddrs(), ReplicationFactor: 1})

	documented := map[string]map[string]string{"embedded": {}, "kafka": {}}
	row := regexp.MustCompile("(?m)^\\| `(headwater_[a-z_]+)` \\| (\\w+) \\| ([^|]*) \\| (embedded|Kafka|both) \\| [^|]{10,} \\|$")
	for _, m := range row.FindAllStringSubmatch(readPage(t, "metrics.md"), -1) {
		labels := strings.Join(regexp.MustCompile("[a-z]+").FindAllString(m[3], -1), ",")
		if m[4] != "Kafka" {
			documented["embedded"][m[1]] = m[2] + "{" + labels + "}"
		}
		if m[4] != "embedded" {
			documented["kafka"][m[1]] = m[2] + "{" + labels + "}"
		}
	}
	delete(documented["kafka"], "headwater_dead_letters_total") // no record was planted there
	compareMetrics(t, "on the embedded log", documented["embedded"], embedded)
	compareMetrics(t, "on Kafka", documented["kafka"], kafka)
}

func compareMetrics(t *testing.T, where string, documented, scraped map[string]string) {
	t.Helper()
	if len(scraped) == 0 || len(documented) == 0 {
		t.Fatalf("%s: %d metrics are documented and %d scraped", where, len(documented), len(scraped))
	}
	names := maps.Clone(documented)
	maps.Copy(names, scraped)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if documented[name] != scraped[name] {
			t.Errorf("%s: %s is %q in metrics.md and %q in a scrape", where, name, documented[name], scraped[name])
		}
	}
}

// scrape runs a server, uses each service once, and returns type and labels of every
// metric by name.
func scrape(t *testing.T, cfg server.Config) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer hook.Close()
	cfg.Namespaces = append(cfg.Namespaces, fmt.Sprintf("namespace: hooks\nabstraction: log\ndelivery: {targets: [{name: hook, http: {url: %q}}], allow: {private_addresses: true}}\n", hook.URL))
	s, err := server.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the server: %v", err)
		}
	}()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(s.GRPCAddr(), client.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Errorf("close the client: %v", err)
		}
	}()
	if _, err := c.Log("demo-log").Fetch(ctx, "reader", client.FetchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.KV("demo-kv").Put(ctx, "id", "key", []byte("value")); err != nil {
		t.Fatal(err)
	}
	deliverOne(ctx, t, c.Log("hooks"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.AdminAddr()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return metricsIn(string(body))
}

// deliverOne writes a message and returns when it is delivered.
func deliverOne(ctx context.Context, t *testing.T, log *client.Log) {
	t.Helper()
	r, err := log.WriteMessage(ctx, client.NewMessage{Key: "k", Payload: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		m, err := log.Message(ctx, r.MessageID)
		if err != nil {
			t.Fatal(err)
		}
		if m.State == "DELIVERED" {
			return
		}
		<-again.C
	}
}

func metricsIn(text string) map[string]string {
	types, out := map[string]string{}, map[string]string{}
	sample := regexp.MustCompile(`^(headwater_[a-z_]+)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`([a-z_]+)="(?:[^"\\]|\\.)*"`)
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" && strings.HasPrefix(f[2], "headwater_") {
			types[f[2]] = f[3]
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(m[1], suffix); types[base] == "histogram" {
				name = base
			}
		}
		var labels []string
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				labels = append(labels, l[1])
			}
		}
		out[name] = types[name] + "{" + strings.Join(labels, ",") + "}"
	}
	return out
}
