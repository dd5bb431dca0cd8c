package demo

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/headwater-db/headwater/client"
)

// kinds are what is counted of a flight: a counter's name is its kind, a slash,
// and which one, "origin/ATL", "route/ATL-SAV", "hour/07".
var kinds = [...]string{"origin", "destination", "route", "hour"}

// IncrementsPerFlight is how many counters a flight increments.
const IncrementsPerFlight = len(kinds)

// trip is a row as the counters see it.
type trip struct {
	flight   int64
	departed int64             // seconds since 1970
	names    [len(kinds)]int32 // places in Flights.names
}

// names gives every counter's name a place.
type names struct {
	all   []string
	place map[string]int32
}

func (n *names) of(kind, which string) int32 {
	if i, ok := n.place[kind+"/"+which]; ok {
		return i
	}
	name := strings.Clone(kind + "/" + which)
	i := int32(len(n.all)) // MaxRows bounds it
	n.place[name] = i
	n.all = append(n.all, name)
	return i
}

func (n *names) trip(fl *Flight) trip {
	return trip{flight: fl.Flight, departed: fl.DepartedAt.Unix(), names: [...]int32{
		n.of(kinds[0], fl.Origin), n.of(kinds[1], fl.Destination),
		n.of(kinds[2], fl.Origin+"-"+fl.Destination), n.of(kinds[3], fmt.Sprintf("%02d", fl.DepartedAt.Hour())),
	}}
}

// Counts is the plain pass: what every counter is after a load, by name.
func (f *Flights) Counts() map[string]int64 {
	counts := make(map[string]int64, len(f.names.all))
	for i, n := range f.countOf(f.trips) {
		counts[f.names.all[i]] = n
	}
	return counts
}

// countOf counts trips, by the places of names.
func (f *Flights) countOf(trips []trip) []int64 {
	counts := make([]int64, len(f.names.all))
	for i := range trips {
		for _, n := range trips[i].names {
			counts[n]++
		}
	}
	return counts
}

// CounterBatch is one call of a load of counters: some flights that follow one
// another in the file.
type CounterBatch struct {
	// Token is made from the rows of the file up to and with this batch, and from
	// how they are cut: a load that is resumed, also of a longer file that begins
	// with the same rows, sends the same content under it.
	Token string
	// Flights is how many flights are in it.
	Flights int
	trips   []trip
	names   []string
}

// CounterBatches cuts the flights, in the order of the file, into calls of size
// flights each, the same ones each time.
func (f *Flights) CounterBatches(size int) []CounterBatch {
	all := make([]CounterBatch, 0, (len(f.trips)+size-1)/size)
	h := sha256.New()
	for rest := f.trips; len(rest) > 0; {
		b := rest[:min(size, len(rest))]
		rest = rest[len(b):]
		for i := range b {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(b[i].flight)))
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(b[i].departed)))
			route := f.names.all[b[i].names[2]] // origin and destination
			fmt.Fprintf(h, "%d %s", len(route), route)
		}
		all = append(all, CounterBatch{
			Token: fmt.Sprintf("headwater-demo/counter/%d/%s", size, hex.EncodeToString(h.Sum(nil)[:16])), Flights: len(b), trips: b, names: f.names.all,
		})
	}
	return all
}

// Adds appends the increments of the batch to adds: one for each counter of each
// flight, at the time of its departure.
func (b *CounterBatch) Adds(adds []client.CounterAdd) []client.CounterAdd {
	for i := range b.trips {
		at := time.Unix(b.trips[i].departed, 0).UTC()
		for _, n := range b.trips[i].names {
			adds = append(adds, client.CounterAdd{Counter: b.names[n], Delta: 1, EventTime: at})
		}
	}
	return adds
}

// Marker is the counter that says that the batch was counted: it is added to in
// the same call. A token is known for as long as the namespace keeps it; this one
// is there for good.
func (b *CounterBatch) Marker() string {
	return markers + b.Token[strings.LastIndexByte(b.Token, '/')+1:]
}

const markers = "batch/"

// Ranked is a counter of a ranking.
type Ranked struct {
	Counter string `json:"counter"`
	Count   int64  `json:"count"`
}

// topOf is how many counters of a kind a ranking names.
const topOf = 10

// top are the largest counters of a kind; equal ones in the order of names.
func top(counts map[string]int64, kind string) []Ranked {
	var all []Ranked
	for name, n := range counts {
		if strings.HasPrefix(name, kind+"/") && n != 0 {
			all = append(all, Ranked{name, n})
		}
	}
	slices.SortFunc(all, func(a, b Ranked) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), compare(a.Counter, b.Counter))
	})
	return all[:min(topOf, len(all))]
}
