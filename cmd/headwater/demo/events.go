package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
)

// EventOptions say how flights are written as events.
type EventOptions struct {
	// Namespace is a namespace of abstraction timeseries.
	Namespace string
	// Batch is the number of events of a call; 0: 1,000.
	Batch int
	// Workers is how many calls are under way at once; 0: 8.
	Workers int
	// Progress, when set, is told how many events are done, of Flights.Rows. It may be
	// called from several goroutines.
	Progress func(done int)
}

// leg is a row as its event has it.
type leg struct {
	flight                     int64
	departed                   int64 // seconds since 1970
	origin, destination, route string
	distance, delay            int
}

// leg is a row whose strings are those of the names of its counters.
func (n *names) leg(fl *Flight, t trip) leg {
	name := func(i int) string { return strings.TrimPrefix(n.all[t.names[i]], kinds[i]+"/") }
	return leg{fl.Flight, t.departed, name(0), name(1), name(2), fl.DistanceMiles, fl.DelayMinutes}
}

// event is a flight as an event of its route. Its id is the row's number, so that it is one
// event however often it is written.
func (l *leg) event() client.Event {
	at := time.Unix(l.departed, 0).UTC()
	return client.Event{Series: l.route, Time: at, ID: strconv.FormatInt(l.flight, 10), Items: map[string]any{
		"origin": l.origin, "destination": l.destination, "hour": at.Hour(), "distance_miles": l.distance, "delay_minutes": l.delay,
	}}
}

// Recorded is what a load of events did.
type Recorded struct {
	Events int `json:"events"`
	Calls  int `json:"calls"`
	// Repeated calls were there already, under the same token.
	Repeated     int               `json:"repeatedCalls"`
	Durability   client.Durability `json:"durability"`
	Seconds      float64           `json:"seconds"`
	EventsPerSec float64           `json:"eventsPerSecond"`
}

// RecordFlights writes every flight as an event. An error means that not every flight is known to
// be there; calling it again completes the load.
func RecordFlights(ctx context.Context, c *client.Client, f *Flights, o EventOptions) (Recorded, error) {
	if o.Batch == 0 {
		o.Batch = 1_000
	}
	if o.Workers == 0 {
		o.Workers = 8
	}
	n := c.TimeSeries(o.Namespace)
	calls := slices.Collect(slices.Chunk(f.legs, o.Batch))
	out := Recorded{Events: f.Rows, Calls: len(calls)}
	t := tally{progress: o.Progress}
	start := time.Now()
	err := each(ctx, o.Workers, len(calls), func(ctx context.Context, i int) error {
		events := make([]client.Event, len(calls[i]))
		for j := range events {
			events[j] = calls[i][j].event()
		}
		res, err := n.Write(ctx, events, client.Token{Key: fmt.Sprintf("headwater-demo/%s/%d/%d", f.hash, o.Batch, i)})
		if err != nil {
			return fmt.Errorf("write flights as events, call %d of %d: %w", i+1, len(calls), err)
		}
		if len(res.Refused) > 0 {
			return fmt.Errorf("write flights as events: %s does not accept %d of them: %s", o.Namespace, len(res.Refused), res.Refused[0].Message)
		}
		t.sent(len(events), res.WriteResult)
		return nil
	})
	if err != nil {
		return Recorded{}, err
	}
	out.Durability, out.Repeated = t.durability, t.repeated
	out.Seconds = time.Since(start).Seconds()
	out.EventsPerSec = float64(f.Rows) / out.Seconds
	return out, nil
}

// EventReport is what the events add up to.
type EventReport struct {
	// Others are events of the same time that are not of these flights. Where there are
	// any, nothing is compared.
	Others int `json:"otherEvents"`
	// Hours are the flights that departed in each hour of the day, and their average delay.
	Hours []HourDelay `json:"hours"`
	// Worst are the ten routes that lost most minutes.
	Worst []RouteDelay `json:"worstRoutes"`
}

// HourDelay is an hour of the day.
type HourDelay struct {
	Hour    int     `json:"hour"`
	Flights int     `json:"flights"`
	Average float64 `json:"averageDelayMinutes"`
}

// RouteDelay is a route.
type RouteDelay struct {
	Route   string `json:"route"`
	Flights int    `json:"flights"`
	Minutes int    `json:"delayMinutes"`
}

// worstRoutes is how many routes are told.
const worstRoutes = 10

// ReadDelays works the delays out by the API, and compares them with a plain pass over the
// file.
func ReadDelays(ctx context.Context, c *client.Client, f *Flights, o EventOptions) (EventReport, error) {
	n := c.TimeSeries(o.Namespace)
	first, last := f.legs[0].departed, f.legs[0].departed
	for i := range f.legs {
		first, last = min(first, f.legs[i].departed), max(last, f.legs[i].departed)
	}
	sums := []*headwaterv1.EventAggregation{
		{Name: "flights", Op: headwaterv1.EventAggregation_COUNT},
		{Name: "minutes", Op: headwaterv1.EventAggregation_SUM, Key: "delay_minutes"},
		{Name: "average", Op: headwaterv1.EventAggregation_AVG, Key: "delay_minutes"},
	}
	by := func(key string) (client.Aggregates, error) {
		res, err := n.Aggregate(ctx, client.AggregateOptions{
			Start: time.Unix(first, 0), End: time.Unix(last+1, 0), GroupBy: []string{key}, Aggregations: sums, Limit: 100_000,
		})
		if err != nil {
			return res, fmt.Errorf("work out delays by %s: %w", key, err)
		}
		return res, nil
	}
	hours, err := by("hour")
	if err != nil {
		return EventReport{}, err
	}
	routes, err := by("time_series_id")
	if err != nil {
		return EventReport{}, err
	}
	r := EventReport{Others: -f.Rows}
	for i := range hours.Groups {
		g := &hours.Groups[i]
		hour, err := strconv.Atoi(g.Labels["hour"])
		if err != nil {
			continue // another's event
		}
		r.Hours = append(r.Hours, HourDelay{hour, int(g.Values["flights"]), g.Values["average"]})
	}
	slices.SortFunc(r.Hours, func(a, b HourDelay) int { return a.Hour - b.Hour })
	for i := range routes.Groups {
		g := &routes.Groups[i]
		r.Others += int(g.Values["flights"])
		r.Worst = append(r.Worst, RouteDelay{g.Labels["time_series_id"], int(g.Values["flights"]), int(g.Values["minutes"])})
	}
	slices.SortFunc(r.Worst, worse)
	if r.Others == 0 {
		err = f.compareDelays(&r)
	} else if r.Others < 0 {
		err = fmt.Errorf("%s lacks %d events of the file", o.Namespace, -r.Others)
	}
	r.Worst = r.Worst[:min(worstRoutes, len(r.Worst))]
	return r, err
}

func worse(a, b RouteDelay) int {
	if a.Minutes != b.Minutes {
		return b.Minutes - a.Minutes
	}
	return strings.Compare(a.Route, b.Route)
}

// compareDelays compares every hour and every route with a plain pass over the file.
func (f *Flights) compareDelays(r *EventReport) error {
	hours := make(map[int]*RouteDelay)
	routes := make(map[string]*RouteDelay)
	for i := range f.legs {
		l := &f.legs[i]
		h := time.Unix(l.departed, 0).UTC().Hour()
		if hours[h] == nil {
			hours[h] = &RouteDelay{}
		}
		if routes[l.route] == nil {
			routes[l.route] = &RouteDelay{Route: l.route}
		}
		for _, x := range []*RouteDelay{hours[h], routes[l.route]} {
			x.Flights++
			x.Minutes += l.delay
		}
	}
	if len(r.Hours) != len(hours) || len(r.Worst) != len(routes) {
		return fmt.Errorf("there are %d hours and %d routes; a plain pass over the file finds %d and %d", len(r.Hours), len(r.Worst), len(hours), len(routes))
	}
	for _, h := range r.Hours {
		w := hours[h.Hour]
		if w == nil || w.Flights != h.Flights || math.Abs(h.Average-float64(w.Minutes)/float64(w.Flights)) > 1e-9 {
			return fmt.Errorf("hour %d has %d flights with a delay of %v; a plain pass over the file finds %+v", h.Hour, h.Flights, h.Average, w)
		}
	}
	for _, got := range r.Worst {
		if w := routes[got.Route]; w == nil || *w != got {
			return fmt.Errorf("route %s is %+v; a plain pass over the file finds %+v", got.Route, got, w)
		}
	}
	return nil
}

// events is what the command prints of the events.
type events struct {
	Namespace string      `json:"namespace"`
	Recorded  Recorded    `json:"recorded"`
	Report    EventReport `json:"readBack"`
}

// text adds the lines about the events.
func (e *events) text(line func(name, format string, a ...any)) {
	l, p := &e.Recorded, &e.Report
	line("events", "%s in %s calls, %s events/s, acknowledged as %s", count(l.Events), count(l.Calls), count(int(l.EventsPerSec)), l.Durability)
	if l.Repeated > 0 {
		line("", "%s of the calls were known by their tokens, and changed nothing", count(l.Repeated))
	}
	hours := make([]string, len(p.Hours))
	for i, h := range p.Hours {
		hours[i] = fmt.Sprintf("%02d %.0f", h.Hour, h.Average)
	}
	line("delay", "by hour of departure, in minutes on average: %s", strings.Join(hours, ", "))
	worst := make([]string, len(p.Worst))
	for i, w := range p.Worst {
		worst[i] = fmt.Sprintf("%s %s (%s flights)", w.Route, count(w.Minutes), count(w.Flights))
	}
	line("worst", "routes by minutes lost: %s", strings.Join(worst, ", "))
	if p.Others > 0 {
		line("", "%s more events are in the namespace, which are not of this file: nothing was compared", count(p.Others))
	} else {
		line("", "every hour and every route equals a plain pass over the file")
	}
	if len(p.Worst) > 0 {
		line("look", "headwater ts read %s %s --since 2001-01-01T00:00:00Z --limit 10", e.Namespace, p.Worst[0].Route)
	}
}

// absentSeries words that there is no namespace to write events to.
func absentSeries(namespace string, err error) error {
	if !errors.Is(err, client.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w; restart `headwater dev`, which makes demo-timeseries, or make it: printf '%s' | headwater namespace apply -f -",
		err, strings.ReplaceAll("namespace: "+namespace+"\nabstraction: timeseries\n", "\n", `\n`))
}
