package demo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/headwater-db/headwater/client"
)

func compare(a, b string) int { return cmp.Compare(a, b) }

// busiest is how many airports a report names.
const busiest = 5

// Report is what was found in the store. Everything in it but the rate is
// computed from the values that were read.
type Report struct {
	// Rows were read back, each equal to its source; Airports are their records.
	Rows     int `json:"rows"`
	Airports int `json:"airports"`
	// Others are items of the same records that this load did not write.
	Others     int     `json:"otherItems"`
	Seconds    float64 `json:"seconds"`
	RowsPerSec float64 `json:"rowsPerSecond"`

	First             time.Time      `json:"firstDeparture"`
	Last              time.Time      `json:"lastDeparture"`
	Busiest           []AirportCount `json:"busiestOrigins"`
	AverageDelay      float64        `json:"averageDelayMinutes"`
	Late              int            `json:"lateFlights"` // by 15 minutes or more, as the agency counts
	WorstDelay        Flight         `json:"worstDelay"`
	totalDelayMinutes int64
}

// AirportCount is how many flights left an airport.
type AirportCount struct {
	Origin  string `json:"origin"`
	Flights int    `json:"flights"`
}

// Mismatch is a row that is not in the store as it was loaded.
type Mismatch struct {
	Origin, Key string
	// Want is the source; Got is nil when the row is missing.
	Want, Got []byte
}

func (m *Mismatch) Error() string {
	if m.Got == nil {
		return fmt.Sprintf("row %s of %s is missing", m.Key, m.Origin)
	}
	return fmt.Sprintf("row %s of %s reads back as %q and not as %q", m.Key, m.Origin, m.Got, m.Want)
}

// Read reads every record of the flights and compares every row with its source:
// *Mismatch for the first that differs or is missing. Rows of the report is what
// was counted in the store, which is Flights.Rows when there is no error.
func Read(ctx context.Context, c *client.Client, f *Flights, o Options) (Report, error) {
	o = o.withDefaults()
	var mu sync.Mutex // guards out and done
	var out Report
	done := 0
	start := time.Now()
	err := each(ctx, o.Workers, len(f.airports), func(ctx context.Context, i int) error {
		one, err := readAirport(ctx, c.KV(o.Namespace), &f.airports[i])
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		out.add(one)
		done += one.Rows
		if o.Progress != nil {
			o.Progress(done)
		}
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	if out.Rows != f.Rows {
		return Report{}, fmt.Errorf("%d rows were read back, and the source has %d", out.Rows, f.Rows)
	}
	out.Seconds = time.Since(start).Seconds()
	out.RowsPerSec = float64(out.Rows) / out.Seconds
	out.AverageDelay = float64(out.totalDelayMinutes) / float64(out.Rows)
	slices.SortFunc(out.Busiest, func(a, b AirportCount) int {
		return cmp.Or(cmp.Compare(b.Flights, a.Flights), compare(a.Origin, b.Origin))
	})
	out.Busiest = out.Busiest[:min(busiest, len(out.Busiest))]
	return out, nil
}

// readAirport walks a record and its source side by side: both are in the order of
// keys.
func readAirport(ctx context.Context, kv *client.KV, a *airport) (Report, error) {
	r := Report{}
	want := a.rows
	for it, err := range kv.Items(ctx, a.code, client.ReadOptions{Range: &client.Range{}}) {
		if err != nil {
			return Report{}, fmt.Errorf("read the flights of %s: %w", a.code, err)
		}
		if len(want) == 0 || it.Key < want[0].key {
			r.Others++
			continue
		}
		if it.Key > want[0].key {
			return Report{}, &Mismatch{Origin: a.code, Key: want[0].key, Want: want[0].value}
		}
		if !bytes.Equal(it.Value, want[0].value) {
			return Report{}, &Mismatch{Origin: a.code, Key: it.Key, Want: want[0].value, Got: append([]byte{}, it.Value...)}
		}
		want = want[1:]
		var fl Flight
		if err := json.Unmarshal(it.Value, &fl); err != nil {
			return Report{}, fmt.Errorf("decode flight %s of %s: %w", it.Key, a.code, err)
		}
		r.take(&fl)
	}
	if len(want) > 0 {
		return Report{}, &Mismatch{Origin: a.code, Key: want[0].key, Want: want[0].value}
	}
	if r.Rows == 0 {
		return Report{}, errors.New("a record without rows") // Flights makes none
	}
	r.Airports, r.Busiest = 1, []AirportCount{{a.code, r.Rows}}
	return r, nil
}

// late is from how many minutes the agency counts a flight as late.
const late = 15

// take counts one flight.
func (r *Report) take(f *Flight) {
	if r.Rows == 0 {
		r.First, r.Last, r.WorstDelay = f.DepartedAt, f.DepartedAt, *f
	}
	r.Rows++
	r.totalDelayMinutes += int64(f.DelayMinutes)
	if f.DelayMinutes >= late {
		r.Late++
	}
	r.span(f.DepartedAt, f.DepartedAt)
	r.worse(f)
}

// add counts the flights of another airport.
func (r *Report) add(o Report) {
	if r.Rows == 0 {
		r.First, r.Last, r.WorstDelay = o.First, o.Last, o.WorstDelay
	}
	r.Rows += o.Rows
	r.Airports += o.Airports
	r.Others += o.Others
	r.Late += o.Late
	r.totalDelayMinutes += o.totalDelayMinutes
	r.Busiest = append(r.Busiest, o.Busiest...)
	r.span(o.First, o.Last)
	r.worse(&o.WorstDelay)
}

func (r *Report) span(first, last time.Time) {
	if first.Before(r.First) {
		r.First = first
	}
	if last.After(r.Last) {
		r.Last = last
	}
}

// worse keeps the longest delay; of equal ones that of the first row.
func (r *Report) worse(f *Flight) {
	if w := &r.WorstDelay; f.DelayMinutes > w.DelayMinutes || f.DelayMinutes == w.DelayMinutes && f.Flight < w.Flight {
		*w = *f
	}
}
