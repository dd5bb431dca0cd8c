package proof

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/wal"
)

// verifyAll is verify of several namespaces of a server.
func (b *ledger) verifyAll(c *conn, spaces []string, began time.Time) error {
	for _, ns := range spaces {
		n, err := partitionsOf(c, ns)
		if err == nil {
			err = b.verify(c, ns, n, began)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// verify reads every counter of a namespace back and compares it with what the
// ledger says: accurate values, holds, recounts, lists and series. began is
// before the first call.
func (b *ledger) verify(c *conn, ns string, partitions int, began time.Time) error {
	want, err := b.figures(ns, partitions)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(want))
	before := time.Now()
	got := &headwaterv1.GetCountsResponse{}
	if len(names) > 0 { // a kill may come before the first call is acknowledged, and a call without names is refused
		ctx, cancel := callContext()
		defer cancel()
		got, err = c.counters().GetCounts(ctx, &headwaterv1.GetCountsRequest{Namespace: ns, Counters: names, Accuracy: headwaterv1.Count_ACCURATE})
		if err != nil {
			return fmt.Errorf("%s: %w", ns, err)
		}
	}
	// The log's time, which readers look at too, may run ahead a little.
	after := time.Now().Add(time.Second)
	var errs []error
	for _, name := range names {
		f := want[name]
		n := got.Counts[name]
		if !f.mortal && n.GetValue() != f.value {
			errs = append(errs, fmt.Errorf("%s %s is %d, and the calls come to %d", ns, name, n.GetValue(), f.value))
		}
		if most, least := f.heldAt(before.UnixMicro()), f.heldAt(after.UnixMicro()); n.GetHeld() > most || n.GetHeld() < least {
			errs = append(errs, fmt.Errorf("%s %s: %d is held, and the calls come to %d to %d", ns, name, n.GetHeld(), least, most))
		}
		errs = append(errs, recount(c, ns, name, f, began))
	}
	errs = append(errs, listed(c, ns, want))
	if c.log != nil {
		errs = append(errs, b.lettered(c, ns, want))
	}
	return errors.Join(errs...)
}

// recount compares a counter with its events and its windows with the calls.
func recount(c *conn, ns, name string, f *figure, began time.Time) error {
	ctx, cancel := callContext()
	defer cancel()
	v, err := c.counters().VerifyCount(ctx, &headwaterv1.VerifyCountRequest{Namespace: ns, Counter: name})
	if err != nil {
		return fmt.Errorf("%s %s: recount: %w", ns, name, err)
	}
	if v.Drift != 0 || v.Recounted != v.Stored.Value || !f.mortal && v.Recounted != f.value {
		return fmt.Errorf("%s %s is stored as %d and recounted as %d, drift %d; the calls come to %d", ns, name, v.Stored.Value, v.Recounted, v.Drift, f.value)
	}
	if f.mortal || name == edgeCounter { // whose windows end with it, and are held at the ends of int64
		return nil
	}
	hours, err := series(c, ns, name, eventTimes, eventTimes.Add(eventHours*time.Hour), time.Hour)
	if err != nil {
		return err
	}
	for i, w := range hours {
		if w != f.hours[i] {
			return fmt.Errorf("%s %s: hour %d of the series is %+v, and the calls come to %+v", ns, name, i, w, f.hours[i])
		}
	}
	minutes, err := series(c, ns, name, began.Add(-time.Minute).Truncate(time.Minute), time.Now().Add(2*time.Minute).Truncate(time.Minute), time.Minute)
	if err != nil {
		return err
	}
	var sum window
	for _, w := range minutes {
		sum.sum += w.sum
		sum.adds += w.adds
	}
	if sum != f.rest {
		return fmt.Errorf("%s %s: the series sums to %+v, and the calls come to %+v", ns, name, sum, f.rest)
	}
	return nil
}

func series(c *conn, ns, name string, from, to time.Time, granularity time.Duration) ([]window, error) {
	ctx, cancel := callContext()
	defer cancel()
	r, err := c.counters().GetCountSeries(ctx, &headwaterv1.GetCountSeriesRequest{
		Namespace: ns, Counter: name, Interval: &headwaterv1.TimeInterval{Start: timestamppb.New(from), End: timestamppb.New(to)}, Granularity: durationpb.New(granularity),
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s: series: %w", ns, name, err)
	}
	if n := int(to.Sub(from) / granularity); len(r.Points) != n {
		return nil, fmt.Errorf("%s %s: a series of %d points, want %d", ns, name, len(r.Points), n)
	}
	out := make([]window, len(r.Points))
	for i, p := range r.Points {
		out[i] = window{p.Sum, p.Adds}
	}
	return out, nil
}

// listed compares the list of a namespace with what must be in it.
func listed(c *conn, ns string, want map[string]*figure) error {
	got := make(map[string]int64)
	req := &headwaterv1.ListCountsRequest{Namespace: ns, PageSize: proto.Int32(7)}
	for {
		ctx, cancel := callContext()
		r, err := c.counters().ListCounts(ctx, req)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: list: %w", ns, err)
		}
		for _, n := range r.Counts {
			if _, ok := got[n.Counter]; ok {
				return fmt.Errorf("%s: %s is listed twice", ns, n.Counter)
			}
			got[n.Counter] = n.Count.Value
		}
		if req.PageToken = r.NextPageToken; req.PageToken == "" {
			break
		}
	}
	var errs []error
	for name, f := range want {
		v, ok := got[name]
		delete(got, name)
		if !f.mortal && (ok != f.exists || v != f.value) {
			errs = append(errs, fmt.Errorf("%s %s is listed: %v, as %d; the calls come to %v, %d", ns, name, ok, v, f.exists, f.value))
		}
	}
	for name := range got {
		if !strings.HasPrefix(name, foreignPrefix) {
			errs = append(errs, fmt.Errorf("%s %s is listed, and nobody has counted it", ns, name))
		}
	}
	return errors.Join(errs...)
}

// lettered compares the dead letters of a namespace with the adds that nobody
// waited for and that were refused: one for each.
func (b *ledger) lettered(c *conn, ns string, want map[string]*figure) error {
	left := make(map[letterPlace]string)
	for name, f := range want {
		for _, at := range f.refused {
			left[at] = name
		}
	}
	b.letters = len(left)
	var errs []error
	req := &headwaterv1.ListDeadLettersRequest{Namespace: ns, PageSize: proto.Int32(1000)}
	for {
		ctx, cancel := callContext()
		r, err := c.log.ListDeadLetters(ctx, req)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: dead letters: %w", ns, err)
		}
		for _, l := range r.DeadLetters {
			if b.outages && l.Reason == "token_conflict" { // another request under a token, before anyone could know that it was one
				continue
			}
			at := letterPlace{wal.Partition(l.Partition), wal.Offset(l.Offset), int(l.MutationIndex)}
			if name, ok := left[at]; !ok || name != l.Key || l.Disposition != headwaterv1.DeadLetter_REFUSED {
				errs = append(errs, fmt.Errorf("%s: a dead letter that nothing was refused for, or the second of it: %v", ns, l))
			}
			delete(left, at)
		}
		if req.PageToken = r.NextPageToken; req.PageToken == "" {
			break
		}
	}
	for at, name := range left {
		errs = append(errs, fmt.Errorf("%s %s: an add was refused at %+v, and has no dead letter", ns, name, at))
	}
	return errors.Join(errs[:min(len(errs), 10)]...)
}
