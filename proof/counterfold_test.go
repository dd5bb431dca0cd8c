package proof

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// stroke is what an acknowledged call did to one counter.
type stroke struct {
	counter string
	offset  wal.Offset
	index   int
	from    *tally
	add     *headwaterv1.CounterAdd // of an add that nobody waited for
	at      letterPlace             // then: where its record is
}

// letterPlace is what a dead letter is about.
type letterPlace struct {
	part   wal.Partition
	offset wal.Offset
	index  int // of the add in its record
}

// window sums what fell into it.
type window struct{ sum, adds int64 }

// hold is a reservation.
type hold struct {
	amount, expires int64
	over            string // how it ended, empty while it has not
}

// figure is what a counter must be.
type figure struct {
	exists bool
	value  int64
	hours  [eventHours]window // of adds with a time of their own
	rest   window             // of all others
	holds  map[string]*hold
	mortal bool  // it has a time to live
	dies   int64 // then: when, by log time
	// refused are adds that nobody waited for and that were not taken, or not all
	// of them.
	refused []letterPlace
}

// heldAt is what is held at a log time.
func (f *figure) heldAt(t int64) (sum int64) {
	for _, h := range f.holds {
		if h.over == "" && h.expires > t {
			sum += h.amount
		}
	}
	return sum
}

// add decides an add as the documentation says, in numbers without ends.
func (f *figure) add(a *headwaterv1.CounterAdd, bounds ...*headwaterv1.Bounds) (applied int64, v headwaterv1.AddAndGetCountResponse_Violation, overflow bool) {
	value := big.NewInt(f.value)
	sum := new(big.Int).Add(value, big.NewInt(a.Delta))
	for _, b := range bounds {
		var edge *int64
		up := sum.Cmp(value)
		switch {
		case b == nil:
		case b.Ceiling != nil && up > 0 && sum.Cmp(big.NewInt(*b.Ceiling)) > 0:
			edge, v = b.Ceiling, headwaterv1.AddAndGetCountResponse_CEILING
		case b.Floor != nil && up < 0 && sum.Cmp(big.NewInt(*b.Floor)) < 0:
			edge, v = b.Floor, headwaterv1.AddAndGetCountResponse_FLOOR
		}
		if edge == nil {
			continue
		}
		if sum = big.NewInt(*edge); sum.Cmp(value) != up || b.OnViolation != headwaterv1.Bounds_SATURATE {
			sum = value // beyond the bound already: nothing further, and nothing back
		}
	}
	if !sum.IsInt64() {
		return 0, 0, true
	}
	applied = new(big.Int).Sub(sum, value).Int64()
	if v != headwaterv1.AddAndGetCountResponse_NONE && applied == 0 {
		return 0, v, false // rejected, or saturated away
	}
	f.exists, f.value = true, sum.Int64()
	w := &f.rest
	if a.EventTime != nil {
		w = &f.hours[int(a.EventTime.AsTime().Sub(eventTimes).Hours())]
	}
	w.sum += applied
	w.adds++
	return applied, v, false
}

// strokes are what the acknowledged calls of a namespace did, counter by counter
// in the order of the log.
func (b *ledger) strokes(ns string, partitions int) (all []stroke, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	put := func(w *tally, counter string, index int, add *headwaterv1.CounterAdd, places map[wal.Partition]int) {
		p, o, err := w.where(counter, partitions)
		if err != nil {
			errs = append(errs, err)
			return
		}
		all = append(all, stroke{counter: counter, offset: o, index: index, from: w, add: add, at: letterPlace{p, o, places[p]}})
		if places != nil {
			places[p]++
		}
	}
	for _, w := range b.calls {
		switch {
		case !w.settled || w.first.outcome != acked || w.ns != ns:
		case w.adds != nil:
			places := make(map[wal.Partition]int)
			for i, a := range w.adds.Adds {
				put(w, a.Counter, i, a, places)
			}
		case w.add != nil:
			put(w, w.add.Counter, 0, &headwaterv1.CounterAdd{Counter: w.add.Counter, Delta: w.add.Delta, EventTime: w.add.EventTime}, nil)
		default:
			put(w, w.counter, 0, nil, nil)
		}
	}
	slices.SortFunc(all, func(x, y stroke) int {
		return cmp.Or(strings.Compare(x.counter, y.counter), cmp.Compare(x.offset, y.offset), cmp.Compare(x.index, y.index))
	})
	return all, errors.Join(errs[:min(len(errs), 10)]...)
}

// figures folds the acknowledged calls of a namespace in the order of the log: what
// every counter must be. Each answer that told a count is checked against what the
// calls before it in the log come to.
func (b *ledger) figures(ns string, partitions int) (map[string]*figure, error) {
	all, err := b.strokes(ns, partitions)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*figure)
	own := make(map[string]*tally) // calls by the adds' own tokens
	var errs []error
	for i := range all {
		s := &all[i]
		f := out[s.counter]
		if f == nil {
			f = &figure{holds: make(map[string]*hold)}
			out[s.counter] = f
		}
		if i > 0 && all[i-1].counter == s.counter && all[i-1].offset == s.offset && all[i-1].from != s.from {
			errs = append(errs, fmt.Errorf("%v and %v have one position", all[i-1].from, s.from))
		}
		if s.add != nil {
			if t := s.add.Token; t != nil {
				if own[string(t.GetNonce())] != nil {
					continue // counted by an earlier call or add
				}
				own[string(t.GetNonce())] = s.from
			}
			if _, v, overflow := f.add(s.add, standing[ns]); overflow || v != headwaterv1.AddAndGetCountResponse_NONE {
				f.refused = append(f.refused, s.at)
			}
			continue
		}
		if err := f.decide(s.from, standing[ns]); err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs[:min(len(errs), 10)]...)
}

// decide does a call that told what it did, and compares.
func (f *figure) decide(w *tally, standing *headwaterv1.Bounds) error {
	a := &w.first
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%v: %v: %s", w, a, fmt.Sprintf(format, args...))
	}
	if f.mortal && f.dies <= a.at {
		*f = figure{holds: f.holds}
	}
	switch {
	case w.get != nil:
		was := f.exists
		applied, v, overflow := f.add(&headwaterv1.CounterAdd{Delta: w.get.Delta, EventTime: w.get.EventTime}, w.get.Bounds, standing)
		if overflow || applied != a.delta || v != a.violation {
			return wrong("of %d it must apply %d, with %v (overflow %v)", w.get.Delta, applied, v, overflow)
		}
		if !was && f.exists && w.get.Ttl != nil {
			f.mortal, f.dies = true, a.at+w.get.Ttl.AsDuration().Microseconds()
		}
	case w.clear != nil:
		f.value = 0
		return nil // which tells no count
	case w.reserve != nil:
		if have := f.value - f.heldAt(a.at); w.reserve.Amount > have {
			return wrong("granted, and %d was there", have)
		}
		if want := a.at + w.reserve.Lease.AsDuration().Microseconds(); a.expires != want {
			return wrong("it ends at %d, and not %d", a.expires, want)
		}
		f.exists = true
		f.holds[a.reservation] = &hold{amount: w.reserve.Amount, expires: a.expires}
	case w.settle != nil:
		h := f.holds[w.settle.ReservationId]
		if h == nil || h.over != "" || h.expires <= a.at {
			return wrong("settled a reservation that was not held: %+v", h)
		}
		amount := h.amount
		if w.settle.Amount != nil {
			amount = *w.settle.Amount
		}
		f.value -= amount
		f.rest.sum -= amount
		f.rest.adds++
		h.over = "settled"
	case w.cancel != nil:
		h := f.holds[w.cancel.ReservationId]
		if h == nil || h.over == "settled" {
			return wrong("cancelled a reservation that was not held: %+v", h)
		}
		h.over = "cancelled"
	}
	if f.value != a.value || f.heldAt(a.at) != a.held {
		return wrong("the calls before it come to a value of %d with %d held", f.value, f.heldAt(a.at))
	}
	return nil
}
