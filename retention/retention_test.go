package retention_test

import (
	"testing"

	"github.com/headwater-db/headwater/retention"
)

func TestTrimNeverPassesWhatIsNeeded(t *testing.T) {
	t.Parallel()
	free := retention.Floor{Durable: 100, Window: 100, Parked: retention.Unparked, Retention: 100}
	for name, c := range map[string]struct {
		change func(*retention.Floor)
		start  int64
		to     int64
		by     string
	}{
		"nothing in the way but the store": {func(*retention.Floor) {}, 10, 100, "store"},
		"the store is behind":              {func(f *retention.Floor) { f.Durable = 40 }, 10, 40, "store"},
		"a token window":                   {func(f *retention.Floor) { f.Window = 60 }, 10, 60, "tokens"},
		"a parked record":                  {func(f *retention.Floor) { f.Parked = 30; f.Window = 60 }, 10, 30, "parked"},
		"the retention":                    {func(f *retention.Floor) { f.Retention = 20; f.Parked = 30 }, 10, 20, "retention"},
		"a store that knows nothing":       {func(f *retention.Floor) { f.Durable = -1 }, 10, 10, "store"},
		"never below the start":            {func(f *retention.Floor) { f.Parked = 5 }, 10, 10, "parked"},
	} {
		f := free
		c.change(&f)
		if to, by := f.TrimTo(c.start); to != c.to || by != c.by {
			t.Errorf("%s: trim to %d, blocked by %s; want %d, %s", name, to, by, c.to, c.by)
		}
	}
}
