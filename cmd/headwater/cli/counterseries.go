package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func counterSeriesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "series NAMESPACE COUNTER",
		Short: "Print what was added to a counter over time",
		Long:  "Print what was added to a counter in windows of time, by event times: a sparkline and a table.\nWindows without adds are there, with zeros.",
		Args:  Args(cobra.ExactArgs(2)),
	}
	f := cmd.Flags()
	since := f.String("since", "24h", "beginning: a time such as 2026-01-31T12:00:00Z, or how long ago, such as 90m")
	until := f.String("until", "", "end, not included (default now)")
	granularity := f.Duration("granularity", time.Hour, "length of a window, a multiple of the smallest that the namespace keeps")
	zone := f.String("time-zone", "", "windows of whole days are days of this zone, such as Europe/Berlin (default UTC)")
	how, positions := accuracyFlag(cmd, "namespace"), afterFlag(cmd)
	cmd.RunE = verb(once, func(s *session, a []string) error {
		name, err := s.counter(a[1])
		if err != nil {
			return err
		}
		if *granularity <= 0 {
			return usagef("--granularity %v: it must be above zero", *granularity)
		}
		o := client.SeriesOptions{Granularity: *granularity, TimeZone: *zone, After: *positions}
		if o.Accuracy, err = accuracy(*how); err != nil {
			return err
		}
		if o.Since, err = moment("--since", *since); err != nil {
			return err
		}
		if o.Until, err = moment("--until", *until); err != nil {
			return err
		}
		series, err := s.Counter(a[0]).Series(s.ctx, name, o)
		if err != nil {
			return notAccurate(err, o.Accuracy)
		}
		return s.series(name, &series)
	})
	return cmd
}

func (s *session) series(name string, series *client.CountSeries) error {
	if s.json {
		for _, p := range series.Points {
			if err := s.line(struct {
				Counter string    `json:"counter"`
				Start   time.Time `json:"start"`
				Sum     int64     `json:"sum"`
				Adds    int64     `json:"adds"`
			}{s.cellText(name), p.Start, p.Sum, p.Adds}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(series.Points) == 0 {
		return nil
	}
	if err := s.printf("%s\n\n", sparkline(series.Points)); err != nil {
		return err
	}
	out := s.rows("START", "SUM", "ADDS")
	for _, p := range series.Points {
		if err := out.add(p.Start.UTC().Format(time.RFC3339), strconv.FormatInt(p.Sum, 10), strconv.FormatInt(p.Adds, 10)); err != nil {
			return err
		}
	}
	return out.flush()
}

// maxSparks is how wide a sparkline gets; above it, several windows share a
// spark.
const maxSparks = 96

var sparks = []rune("▁▂▃▄▅▆▇█")

// sparkline draws the sums, from the least of them or 0 to the greatest or 0,
// and says what these are.
func sparkline(points []client.CountPoint) string {
	each := (len(points) + maxSparks - 1) / maxSparks
	var sums []float64
	for i, p := range points {
		if i%each == 0 {
			sums = append(sums, 0)
		}
		sums[len(sums)-1] += float64(p.Sum)
	}
	low, high := 0.0, 0.0
	for _, v := range sums {
		low, high = min(low, v), max(high, v)
	}
	var b strings.Builder
	for _, v := range sums {
		i := 0
		if high > low {
			i = int(math.Round((v - low) / (high - low) * float64(len(sparks)-1)))
		}
		b.WriteRune(sparks[i])
	}
	scale := fmt.Sprintf("  %s to %s", strconv.FormatFloat(low, 'f', -1, 64), strconv.FormatFloat(high, 'f', -1, 64))
	if each > 1 {
		scale += fmt.Sprintf(", %d windows each", each)
	}
	return b.String() + scale
}
