package gateway

import (
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

// The limits of a request, as the API states them.
const (
	MaxCounterName  = counter.MaxNameBytes
	MaxAdds         = counter.MaxAdds
	MaxCounts       = counter.MaxAdds // names of GetCounts
	MaxCountNames   = 2 << 20         // bytes of them
	DefaultListPage = 1000
	MaxListPage     = 10_000
	MaxSeriesPoints = counter.MaxPoints
	MinLease        = counter.MinLease
	MaxLease        = counter.MaxLease
)

func checkCounter(name string) error {
	if len(name) == 0 || len(name) > MaxCounterName {
		return badName(len(name))
	}
	if !utf8.ValidString(name) {
		return apierrors.New(apierrors.BadUTF8, "a counter's name is not valid UTF-8")
	}
	return nil
}

func badName(n int) error {
	return apierrors.New(apierrors.BadCounter, "a counter's name has %d bytes; it must have 1 to %d", n, MaxCounterName)
}

// parseEventTime returns microseconds since 1970, 0 for none.
func parseEventTime(t *timestamppb.Timestamp) (int64, error) {
	if t == nil {
		return 0, nil
	}
	if t.CheckValid() != nil || t.AsTime().UnixMicro() <= 0 {
		return 0, apierrors.New(apierrors.BadEventTime, "event_time is not a time after 1970")
	}
	return t.AsTime().UnixMicro(), nil
}

// parseAdd checks one add. out.Counter is name's bytes; own is the add's own
// token, nil for none.
func parseAdd(out *counter.Add, name string, delta int64, eventTime *timestamppb.Timestamp, ttl *durationpb.Duration, own *headwaterv1.IdempotencyToken) (err error) {
	if err = checkCounter(name); err != nil {
		return err
	}
	out.Counter = append(out.Counter[:0], name...)
	return parseRest(out, delta, eventTime, ttl, own)
}

// parseRest checks and sets everything of an add but its name.
func parseRest(out *counter.Add, delta int64, eventTime *timestamppb.Timestamp, ttl *durationpb.Duration, own *headwaterv1.IdempotencyToken) (err error) {
	out.Delta, out.Token, out.Hash = delta, wal.Token{}, wal.Hash{}
	if out.EventTime, err = parseEventTime(eventTime); err != nil {
		return err
	}
	if out.TTL, err = parseTTL(ttl); err != nil {
		return err
	}
	if own == nil {
		return nil
	}
	if out.Token, err = parseToken(own); err != nil {
		return err
	}
	return checkOwn(out)
}

// checkOwn checks an add that may have a token of its own.
func checkOwn(a *counter.Add) error {
	if a.Token.IsZero() {
		return nil
	}
	if a.Token.Nonce == (wal.Nonce{}) {
		return apierrors.New(apierrors.BadToken, "an add's token has a time and no identity; give it a nonce or a key, or leave it to the call's token")
	}
	return nil
}

// parseAdds checks the adds of a call and collects them.
func parseAdds(db *counter.DB, adds []*headwaterv1.CounterAdd) (*counter.Adds, error) {
	if len(adds) == 0 || len(adds) > MaxAdds {
		return nil, tooManyAdds(len(adds))
	}
	out := db.NewAdds()
	var a counter.Add
	for i, m := range adds {
		if err := parseAdd(&a, m.GetCounter(), m.GetDelta(), m.GetEventTime(), m.GetTtl(), m.GetToken()); err != nil {
			return nil, atAdd(err, i)
		}
		out.Add(&a)
	}
	return out, nil
}

func tooManyAdds(n int) error {
	return apierrors.New(apierrors.TooManyItems, "the call has %d adds; it takes 1 to %d", n, MaxAdds)
}

func parseBounds(b *headwaterv1.Bounds) (out counter.Bounds, err error) {
	if b == nil {
		return out, nil
	}
	out = counter.Bounds{HasFloor: b.Floor != nil, HasCeiling: b.Ceiling != nil, Floor: b.GetFloor(), Ceiling: b.GetCeiling()}
	switch b.GetOnViolation() {
	case headwaterv1.Bounds_ON_VIOLATION_UNSPECIFIED, headwaterv1.Bounds_REJECT:
	case headwaterv1.Bounds_SATURATE:
		out.Saturate = true
	default:
		return out, apierrors.New(apierrors.BadBounds, "bounds.on_violation %d is not known; use REJECT or SATURATE", b.GetOnViolation())
	}
	switch {
	case out.HasFloor && out.HasCeiling && out.Floor > out.Ceiling:
		return out, apierrors.New(apierrors.BadBounds, "bounds.floor %d is above bounds.ceiling %d", out.Floor, out.Ceiling)
	case !out.HasFloor && !out.HasCeiling && b.GetOnViolation() != headwaterv1.Bounds_ON_VIOLATION_UNSPECIFIED:
		return out, apierrors.New(apierrors.BadBounds, "bounds.on_violation without floor or ceiling; set one or both")
	}
	return out, nil
}

func parseAccuracy(a headwaterv1.Count_Accuracy) (counter.Accuracy, error) {
	switch a {
	case headwaterv1.Count_ACCURACY_UNSPECIFIED:
		return 0, nil
	case headwaterv1.Count_BEST_EFFORT:
		return counter.BestEffort, nil
	case headwaterv1.Count_EVENTUAL:
		return counter.Eventual, nil
	case headwaterv1.Count_ACCURATE:
		return counter.Accurate, nil
	}
	return 0, apierrors.New(apierrors.BadAccuracy, "accuracy %d is not known; use BEST_EFFORT, EVENTUAL or ACCURATE", a)
}

func parseLease(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, apierrors.New(apierrors.MissingField, "lease is missing; send how long to hold the amount, 1ms to %v", MaxLease)
	}
	if lease := d.AsDuration(); d.CheckValid() == nil && lease >= MinLease && lease <= MaxLease {
		return lease.Truncate(time.Microsecond), nil
	}
	return 0, apierrors.New(apierrors.BadLease, "lease is %v; it must be 1ms to %v", d.AsDuration(), MaxLease)
}

// maxGranularity keeps the arithmetic of time within its bounds.
const maxGranularity = 87600 * time.Hour

// parseSeries checks a request. events: points may be made of events, and not only of windows.
func parseSeries(req *headwaterv1.GetCountSeriesRequest, windows []time.Duration, events bool) (*counter.SeriesQuery, error) {
	if err := checkCounter(req.GetCounter()); err != nil {
		return nil, err
	}
	q := &counter.SeriesQuery{Counter: []byte(req.GetCounter())}
	var err error
	if q.From, q.To, err = parseInterval(req.GetInterval()); err != nil {
		return nil, err
	}
	g := req.GetGranularity()
	if g == nil {
		return nil, apierrors.New(apierrors.BadGranularity, "granularity is missing; send a multiple of %v", windows[0])
	}
	q.Granularity = g.AsDuration()
	fine := events && q.Granularity%counter.FinestPoint == 0
	if g.CheckValid() != nil || q.Granularity <= 0 || q.Granularity > maxGranularity || q.Granularity%windows[0] != 0 && !fine {
		return nil, apierrors.New(apierrors.BadGranularity, "granularity is %v; it must be a multiple of the smallest window that the namespace keeps, %v, or with a store of role EVENTS of %v, and at most %v", q.Granularity, windows[0], counter.FinestPoint, maxGranularity)
	}
	q.Location, err = timeZone(req.GetTimeZone())
	return q, err
}

// zones keeps the time zones that were asked for: those that exist, so that they
// are bounded. Reading one takes a file.
var zones sync.Map // of string to *time.Location

func timeZone(name string) (*time.Location, error) {
	if name == "" || name == "UTC" {
		return nil, nil
	}
	if loc, ok := zones.Load(name); ok {
		return loc.(*time.Location), nil
	}
	bad := func(err error) error {
		return apierrors.Wrap(apierrors.BadTimeZone, err, "time_zone %.64q is not known; send an IANA name such as Europe/Berlin", name)
	}
	// What LoadLocation would take besides: the machine's zone, files that are there
	// on some systems only, and zones whose seconds are not those of Unix time.
	for _, other := range []string{"Local", "localtime", "posixrules", "Factory"} {
		if name == other {
			return nil, bad(nil)
		}
	}
	first := name[0]
	if len(name) > 64 || first < 'A' || first > 'Z' || strings.ContainsFunc(name, notOfZone) {
		return nil, bad(nil)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, bad(err)
	}
	zones.Store(name, loc)
	return loc, nil
}

func notOfZone(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '/', r == '_', r == '-', r == '+':
		return false
	}
	return true
}

// listPage checks a page size; nil is the default.
func listPage(size *int32) (int, error) {
	if size == nil {
		return DefaultListPage, nil
	}
	if n := *size; n < 1 || n > MaxListPage {
		return 0, apierrors.New(apierrors.BadPageSize, "page_size is %d; it must be 1 to %d", n, MaxListPage)
	}
	return int(*size), nil
}
