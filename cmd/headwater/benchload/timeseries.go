package benchload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/headwater-db/headwater/client"
)

// newestEvents is how many events a call of ts-read asks for.
const newestEvents = 100

// event is one of four items. With value bytes of 100 it has some 200 bytes.
func (r *run) event(series string, at time.Time, n uint64) client.Event {
	return client.Event{Series: series, Time: at, Items: map[string]any{
		"delay": int64(n % 240), "distance": 100 + float64(n%30_000)/10, "origin": "A" + strconv.FormatUint(n%300, 10), "note": r.note,
	}}
}

// writeEvents writes events of random series in one call. Their ids are the server's, so each
// is new.
func (r *run) writeEvents(ctx context.Context, _, _ int) (int, error) {
	events := make([]client.Event, r.o.BatchItems)
	first := r.seq.Add(uint64(len(events))) - uint64(len(events))
	now := time.Now()
	for i := range events {
		n := first + uint64(i)
		events[i] = r.event(r.o.Prefix+strconv.Itoa(rand.IntN(r.o.Records)), now, n)
	}
	res, err := r.c.TimeSeries(r.o.Namespace).Write(ctx, events, client.Token{})
	return len(events), r.wrote(res.WriteResult, err)
}

// fillSeries writes the events of the one series that is read, a second apart.
func (r *run) fillSeries(ctx context.Context) error {
	r.newest = time.Now().Add(-time.Minute).Truncate(time.Second)
	first := r.newest.Add(-time.Duration(r.o.Records-1) * time.Second)
	for from := 0; from < r.o.Records; from += client.MaxEvents {
		events := make([]client.Event, min(client.MaxEvents, r.o.Records-from))
		for i := range events {
			events[i] = r.event(r.o.Prefix+"series", first.Add(time.Duration(from+i)*time.Second), uint64(from+i))
		}
		if _, err := r.c.TimeSeries(r.o.Namespace).Write(ctx, events, client.Token{}); err != nil {
			return fmt.Errorf("write what will be read: %w", err)
		}
	}
	return nil
}

// readNewest reads the newest events of the series.
func (r *run) readNewest(ctx context.Context, _, _ int) (int, error) {
	o := client.ReadEventsOptions{Start: r.newest.Add(-time.Duration(r.o.Records) * time.Second), End: r.newest.Add(time.Second), Limit: newestEvents, PageSize: newestEvents}
	n := 0
	for _, err := range r.c.TimeSeries(r.o.Namespace).Read(ctx, r.o.Prefix+"series", o) {
		if err != nil {
			return n, err
		}
		n++
	}
	if want := min(newestEvents, r.o.Records); n != want {
		return n, fmt.Errorf("%d events were read, not %d", n, want)
	}
	return n, nil
}

// noteOf is the text of so many bytes that an event has.
func noteOf(valueBytes int) string { return strings.Repeat("n", valueBytes) }
