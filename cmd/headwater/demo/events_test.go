package demo

import (
	"strings"
	"testing"
	"time"

	"github.com/headwater-db/headwater/client"
)

var eventsIn = EventOptions{Namespace: "demo-timeseries"}

// TestEventsAddUpToTheFile: every hour and route equals the file, a second load changes
// nothing, a larger one adds to it, and a load beside which there are other events says so.
func TestEventsAddUpToTheFile(t *testing.T) {
	t.Parallel()
	c := serve(t)
	for _, rows := range []int{600, 0, 0} {
		f := flights(t, rows)
		l, err := RecordFlights(t.Context(), c, f, eventsIn)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ReadDelays(t.Context(), c, f, eventsIn)
		if err != nil {
			t.Fatal(err)
		}
		if l.Events != f.Rows || r.Others != 0 || len(r.Worst) != worstRoutes {
			t.Errorf("%d rows: %+v, %d others, %d routes", f.Rows, l, r.Others, len(r.Worst))
		}
		if rows == 0 && (len(r.Hours) != 23 || r.Worst[0].Minutes < r.Worst[9].Minutes) {
			t.Errorf("%d hours, the worst routes are %v", len(r.Hours), r.Worst)
		}
	}
	f := flights(t, 600)
	if r, err := ReadDelays(t.Context(), c, f, eventsIn); err != nil || r.Others <= 0 {
		t.Errorf("a part of the file: %d others, %v", r.Others, err)
	}
	// An event of the file that is not there is found.
	f.legs = append(f.legs, leg{flight: 1 << 40, departed: f.legs[0].departed, origin: "X", destination: "Y", route: "X-Y"})
	f.Rows = 25_001
	if _, err := ReadDelays(t.Context(), c, f, eventsIn); err == nil || !strings.Contains(err.Error(), "lacks 1") && !strings.Contains(err.Error(), "lacks") {
		t.Errorf("a missing event: %v", err)
	}
}

// TestADelayThatDiffersIsFound: one event too many of a route in place of another.
func TestADelayThatDiffersIsFound(t *testing.T) {
	t.Parallel()
	c, f := serve(t), flights(t, 100)
	if _, err := RecordFlights(t.Context(), c, f, eventsIn); err != nil {
		t.Fatal(err)
	}
	l := &f.legs[50]
	if _, err := c.TimeSeries(eventsIn.Namespace).Write(t.Context(), []client.Event{{
		Series: l.route, Time: time.Unix(l.departed, 0), ID: "another", Items: map[string]any{"hour": time.Unix(l.departed, 0).UTC().Hour(), "delay_minutes": l.delay + 1},
	}}, client.Token{}); err != nil {
		t.Fatal(err)
	}
	f.legs, f.Rows = append(f.legs, *l), f.Rows+1 // as many as there are
	if _, err := ReadDelays(t.Context(), c, f, eventsIn); err == nil || !strings.Contains(err.Error(), "plain pass") {
		t.Errorf("a delay that differs by a minute: %v", err)
	}
}
