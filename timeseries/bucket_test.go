package timeseries

import (
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

func zoneOf(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// TestBucketsWhereTheClockChanges names the bucket of moments around changes of the clock.
func TestBucketsWhereTheClockChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		zone          string
		length        time.Duration
		at, begin     string
		next          string
		whatIsItAbout string
	}{
		{"UTC", 24 * time.Hour, "2001-01-01T23:59:59Z", "2001-01-01T00:00:00Z", "2001-01-02T00:00:00Z", "a day"},
		{"UTC", 24 * time.Hour, "1969-12-31T23:59:59Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z", "before 1970"},
		{"America/New_York", 24 * time.Hour, "2001-04-01T12:00:00-04:00", "2001-04-01T00:00:00-05:00", "2001-04-02T00:00:00-04:00", "a day of 23 hours"},
		{"America/New_York", 24 * time.Hour, "2001-10-28T23:30:00-05:00", "2001-10-28T00:00:00-04:00", "2001-10-29T00:00:00-05:00", "a day of 25 hours"},
		{"America/New_York", time.Hour, "2001-10-28T01:30:00-04:00", "2001-10-28T01:00:00-04:00", "2001-10-28T01:00:00-05:00", "the first one o'clock"},
		{"America/New_York", time.Hour, "2001-10-28T01:30:00-05:00", "2001-10-28T01:00:00-05:00", "2001-10-28T02:00:00-05:00", "the second one o'clock"},
		{"America/New_York", 3 * time.Hour, "2001-10-28T01:30:00-05:00", "2001-10-28T00:00:00-04:00", "2001-10-28T03:00:00-05:00", "a bucket that goes on"},
		{"America/New_York", 2 * time.Hour, "2001-04-01T03:30:00-04:00", "2001-04-01T03:00:00-04:00", "2001-04-01T04:00:00-04:00", "two o'clock was leapt over"},
		{"America/New_York", 30 * time.Minute, "2001-04-01T03:10:00-04:00", "2001-04-01T03:00:00-04:00", "2001-04-01T03:30:00-04:00", "behind the leap"},
		{"Asia/Kolkata", time.Hour, "2001-04-01T03:10:00+05:30", "2001-04-01T03:00:00+05:30", "2001-04-01T04:00:00+05:30", "half an hour beside UTC"},
		{"Europe/London", 6 * time.Hour, "2001-01-05T07:00:00Z", "2001-01-05T06:00:00Z", "2001-01-05T12:00:00Z", "the clock of 1970 was another"},
		{"America/Sao_Paulo", 24 * time.Hour, "2018-11-04T12:00:00-02:00", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00", "a day without a midnight"},
		{"Pacific/Apia", 24 * time.Hour, "2011-12-31T12:00:00+14:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00", "behind a day that was leapt over"},
		{"America/New_York", 100 * 365 * 24 * time.Hour, "2001-07-01T00:00:00-04:00", "1970-01-01T00:00:00-05:00", "2069-12-07T00:00:00-05:00", "many changes in one"},
	} {
		parse := func(s string) int64 {
			at, err := time.Parse(time.RFC3339, s)
			if err != nil {
				t.Fatal(err)
			}
			return at.UnixMicro()
		}
		b := NewBuckets(c.length, zoneOf(t, c.zone))
		begin := b.Of(parse(c.at))
		if begin != parse(c.begin) {
			t.Errorf("%s: the bucket of %s begins at %s", c.whatIsItAbout, c.at, time.UnixMicro(begin).In(b.zone).Format(time.RFC3339))
		}
		if next := b.Next(begin); next != parse(c.next) {
			t.Errorf("%s: behind the bucket of %s comes %s", c.whatIsItAbout, c.at, time.UnixMicro(next).In(b.zone).Format(time.RFC3339))
		}
	}
}

// TestBucketsHaveNoGaps: every moment is in the bucket that begins last before it, in
// whatever order moments are asked for.
func TestBucketsHaveNoGaps(t *testing.T) {
	t.Parallel()
	zones := []string{"UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca", "America/Sao_Paulo", "Asia/Manila"}
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		length := rapid.SampledFrom([]time.Duration{time.Minute, 7 * time.Minute, time.Hour, 5 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 9999 * time.Hour}).Draw(t, "length")
		b := NewBuckets(length, zone)
		at := rapid.Int64Range(-3e15, 3e15).Draw(t, "at")
		begin := b.Of(at)
		next := b.Next(begin)
		fresh := NewBuckets(length, zone)
		if begin > at || next <= at || fresh.Of(at) != begin || b.Of(begin) != begin || b.Of(next) != next || b.Of(next-1) != begin {
			t.Fatalf("%d is in the bucket from %d to %d; another asked gives %d; %d begins in %d, %d in %d, %d in %d",
				at, begin, next, fresh.Of(at), begin, b.Of(begin), next, b.Of(next), next-1, b.Of(next-1))
		}
	})
}
