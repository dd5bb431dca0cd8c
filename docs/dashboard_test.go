package docs

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/api/apierrors"
)

// TestDashboardAndRulesAreOfOurMetrics: each metric of a panel or an alert rule is on metrics.md, with the
// labels that the query has, and each runbook is a heading that exists.
func TestDashboardAndRulesAreOfOurMetrics(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"up": "job instance role"}
	for _, m := range regexp.MustCompile("(?m)^\\| `(headwater_[a-z_]+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(readPage(t, "metrics.md"), -1) {
		labels[m[1]] = strings.Join(regexp.MustCompile("[a-z]+").FindAllString(m[3], -1), " ")
		if m[2] == "histogram" {
			labels[m[1]+"_bucket"] = labels[m[1]] + " le"
		}
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	read(t, "../deploy/grafana/dashboards/headwater.json", func(b []byte) error { return json.Unmarshal(b, &dashboard) })
	queries := make(map[string]string) // by where they are
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			queries["panel "+p.Title+": "+q.Expr] = q.Expr
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations struct{ Summary, Description, Runbook string }
			}
		}
	}
	read(t, "../deploy/prometheus/rules.yml", func(b []byte) error { return yaml.Unmarshal(b, &rules) })
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			queries["alert "+r.Alert] = r.Expr
			checkRunbook(t, r.Alert, r.Annotations.Runbook)
			if r.Annotations.Summary == "" || r.Annotations.Description == "" {
				t.Errorf("alert %s does not say what happened and what it means", r.Alert)
			}
		}
	}
	if len(queries) < 20 {
		t.Fatalf("%d queries", len(queries))
	}
	known := make(map[string]bool)
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		known[apierrors.CodeName(c)] = true
	}
	for where, q := range queries {
		names := regexp.MustCompile(`\b(headwater_[a-z_]+|up)\b`).FindAllString(q, -1)
		if len(names) == 0 {
			t.Errorf("%s is of no metric of ours", where)
		}
		has := ""
		for _, name := range names {
			l, ok := labels[name]
			if !ok {
				t.Errorf("%s: metrics.md has no %s", where, name)
			}
			has += " " + l + " "
		}
		for _, m := range regexp.MustCompile(`code!?="([^"]*)"`).FindAllStringSubmatch(q, -1) {
			if !known[m[1]] {
				t.Errorf("%s: no request has the code %s", where, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`(?:by|ignoring|on) \(([a-z, ]+)\)|([a-z]+)[!=]=?~?"`).FindAllStringSubmatch(q, -1) {
			for _, l := range regexp.MustCompile("[a-z]+").FindAllString(m[1]+" "+m[2], -1) {
				if !strings.Contains(has, " "+l+" ") {
					t.Errorf("%s: none of %v has a label %s", where, names, l)
				}
			}
		}
	}
}

func read(t *testing.T, path string, parse func(b []byte) error) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = parse(b)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// checkRunbook fails unless a page has the heading that a runbook names.
func checkRunbook(t *testing.T, alert, runbook string) {
	t.Helper()
	page, anchor, _ := strings.Cut(runbook, "#")
	b, err := os.ReadFile("../" + page)
	if err != nil {
		t.Errorf("alert %s: %v", alert, err)
		return
	}
	if anchor == "" {
		return
	}
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(b), -1) {
		if strings.ReplaceAll(strings.ToLower(h[1]), " ", "-") == anchor {
			return
		}
	}
	t.Errorf("alert %s: %s has no heading %s", alert, page, anchor)
}
