package gateway

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	"github.com/headwater-db/headwater/api/apierrors"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/counter"
	"github.com/headwater-db/headwater/wal"
)

func TestReservationIDsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var n wal.TokenID
		copy(n[:], rapid.SliceOfN(rapid.Byte(), len(n), len(n)).Draw(t, "nonce"))
		name := rapid.StringN(1, 200, MaxCounterName).Filter(func(s string) bool { return checkCounter(s) == nil }).Draw(t, "name")
		id := reservationID(n, name)
		got, of, err := parseReservationID(id)
		if err != nil || got != n || of != name || len(id) > maxReservationID {
			t.Fatalf("%q: %v %q %v", id, got, of, err)
		}
		// One character of it mistyped, left out, or put in.
		i := rapid.IntRange(0, len(id)-1).Draw(t, "at")
		c := rapid.SampledFrom([]string{"", "A", "_", "0", "=", "\n", "+"}).Draw(t, "as")
		for _, bad := range []string{id[:i] + c + id[i+1:], id[:i] + c + id[i:]} {
			if _, _, err := parseReservationID(bad); bad != id && reasonOf(err) != apierrors.BadReservationID {
				t.Fatalf("%q in place of %q: %v", bad, id, err)
			}
		}
	})
	longest := reservationID(wal.TokenID(wal.NewNonce()), strings.Repeat("x", MaxCounterName))
	if _, _, err := parseReservationID(longest); err != nil {
		t.Errorf("the longest name: %v", err)
	}
	for what, id := range map[string]string{
		"a longer one": reservationID(wal.TokenID(wal.NewNonce()), strings.Repeat("x", MaxCounterName+1)), "no name": reservationID(wal.TokenID(wal.NewNonce()), ""),
		"no UTF-8": reservationID(wal.TokenID(wal.NewNonce()), "\xff"), "padded": base64.URLEncoding.EncodeToString([]byte(longest)),
	} {
		if _, _, err := parseReservationID(id); reasonOf(err) != apierrors.BadReservationID {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzParseReservationID(f *testing.F) {
	f.Add(reservationID(wal.TokenID(wal.NewNonce()), "quota"))
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		n, name, err := parseReservationID(id)
		if err == nil && (reservationID(n, name) != id || checkCounter(name) != nil) {
			t.Fatalf("%q is read as %v %q, which is %q", id, n, name, reservationID(n, name))
		}
	})
}

// TestLimitsOfCountersAtTheirEdges tries one at, and one above each limit.
func TestLimitsOfCountersAtTheirEdges(t *testing.T) {
	t.Parallel()
	add := func(name string, ttl *durationpb.Duration, at *timestamppb.Timestamp) error {
		var a counter.Add
		return parseAdd(&a, name, 1, at, ttl, nil)
	}
	lease := func(d time.Duration) error { _, err := parseLease(durationpb.New(d)); return err }
	page := func(n int32) error { _, err := listPage(&n); return err }
	zone := func(name string) error { _, err := timeZone(name); return err }
	for _, c := range []struct {
		what   string
		err    error
		reason string
	}{
		{"name", add(strings.Repeat("x", MaxCounterName), nil, nil), ""},
		{"longer name", add(strings.Repeat("x", MaxCounterName+1), nil, nil), apierrors.BadCounter},
		{"no UTF-8", add("\xff", nil, nil), apierrors.BadUTF8},
		{"ttl", add("a", durationpb.New(MaxTTL), nil), ""},
		{"longer ttl", add("a", durationpb.New(MaxTTL+1), nil), apierrors.BadTTL},
		{"shorter ttl", add("a", durationpb.New(time.Millisecond-1), nil), apierrors.BadTTL},
		{"first event", add("a", nil, timestamppb.New(time.UnixMicro(1))), ""},
		{"earlier event", add("a", nil, timestamppb.New(time.UnixMicro(0))), apierrors.BadEventTime},
		{"event that is no time", add("a", nil, &timestamppb.Timestamp{Nanos: -1}), apierrors.BadEventTime},
		{"shortest lease", lease(MinLease), ""},
		{"shorter lease", lease(MinLease - 1), apierrors.BadLease},
		{"longest lease", lease(MaxLease), ""},
		{"longer lease", lease(MaxLease + 1), apierrors.BadLease},
		{"page of none", page(0), apierrors.BadPageSize},
		{"largest page", page(MaxListPage), ""},
		{"larger page", page(MaxListPage + 1), apierrors.BadPageSize},
		{"negative page", page(-1), apierrors.BadPageSize},
		{"UTC", zone("UTC"), ""},
		{"Etc", zone("Etc/GMT+12"), ""},
		{"three parts", zone("America/Argentina/Buenos_Aires"), ""},
		{"Local", zone("Local"), apierrors.BadTimeZone},
		{"leap seconds", zone("right/UTC"), apierrors.BadTimeZone},
		{"absolute path", zone("/usr/share/zoneinfo/UTC"), apierrors.BadTimeZone},
		{"path", zone("../zoneinfo/UTC"), apierrors.BadTimeZone},
		{"long", zone("A" + strings.Repeat("a", 64)), apierrors.BadTimeZone},
		{"space", zone("Europe/ Berlin"), apierrors.BadTimeZone},
	} {
		if got := reasonOf(c.err); got != c.reason {
			t.Errorf("%s: %q, want %q: %v", c.what, got, c.reason, c.err)
		}
	}
}

func TestAnAddTakesItsOwnToken(t *testing.T) {
	t.Parallel()
	own := &headwaterv1.IdempotencyToken{Identity: &headwaterv1.IdempotencyToken_Key{Key: "k"}}
	var a counter.Add
	if err := parseAdd(&a, "a", 1, timestamppb.New(time.UnixMicro(5)), durationpb.New(time.Millisecond), own); err != nil || a.Token.Nonce != wal.NonceOfKey("k") {
		t.Errorf("%+v, %v", a, err)
	}
	// The memory of one add does not reach the next.
	if err := parseAdd(&a, "a", 1, nil, nil, nil); err != nil || !a.Token.IsZero() || a.Hash != (wal.Hash{}) || a.EventTime != 0 || a.TTL != 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestErrorsOfCountersSayWhich(t *testing.T) {
	t.Parallel()
	e := fromDomain(&counter.AddError{Index: 7, Err: wal.ErrTokenReused})
	if e.Reason != apierrors.TokenReused || e.Metadata["add"] != "7" || !strings.HasPrefix(e.Message, "adds[7]: ") {
		t.Errorf("%v %v", e, e.Metadata)
	}
	e = fromDomain(&counter.InsufficientError{Value: -1 << 63, Held: 1, Wanted: 3})
	if e.Reason != apierrors.Insufficient || e.Metadata["available"] != "-9223372036854775809" {
		t.Errorf("%v %v", e, e.Metadata)
	}
	for state, want := range map[counter.ReservationState]string{counter.Settled: "SETTLED", counter.Cancelled: "CANCELLED", counter.Expired: "EXPIRED"} {
		if e := fromDomain(&counter.EndedError{State: state}); e.Reason != apierrors.ReservationEnded || e.Metadata["state"] != want {
			t.Errorf("%v %v", e, e.Metadata)
		}
	}
	for _, err := range []error{
		counter.ErrClosed, wal.ErrTooOld, wal.ErrTokensFull, counter.ErrOverflow, counter.ErrNoReservation, counter.ErrTooManyReservations,
		counter.ErrNotAccurate, counter.ErrGranularity, counter.ErrTooManyPoints, counter.ErrReloading, &counter.TooMuchError{}, &counter.DriftError{},
	} {
		if e := fromDomain(err); e.Reason == apierrors.Internal {
			t.Errorf("%v has no reason", err)
		}
	}
	if e := fromDomain(&counter.MissingEventsError{Offset: 3}); e.Reason != apierrors.Corrupt {
		t.Errorf("%v", e)
	}
}
