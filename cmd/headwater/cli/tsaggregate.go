package cli

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
)

func tsAggregateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aggregate NAMESPACE COLUMN...",
		Short: "Print counts, sums and the like of events, by group and by time bucket",
		Long: `Print counts, sums and the like of events, by group and by time bucket. A column is

  count                 events; count:KEY, those that have the item
  sum:KEY  avg:KEY  min:KEY  max:KEY
  first:KEY  last:KEY   the number of the first and of the last event
  distinct:KEY          how many values there are
  quantile:KEY:0.99     the least number that 99 % of the numbers are not above

or one of these behind NAME=. The worst routes of a day:

  headwater ts aggregate flights n=count late=avg:delay --by time_series_id --sort late --desc --limit 10

Beyond 10,000 values of a group distinct and quantile estimate, and say so.`,
		Args: Args(cobra.MinimumNArgs(2)),
	}
	span := spanFlags(cmd)
	f := cmd.Flags()
	series := f.String("series", "", "only events of this series")
	where := f.StringArray("where", nil, `only events with this item, as KEY=VALUE; VALUE as in JSON, or text; may be repeated`)
	query := f.String("query", "", `only events that meet this query; see "headwater ts search --help"`)
	by := f.StringArray("by", nil, `group by the value of this item, or by time_series_id; may be repeated`)
	bucket := f.Duration("bucket", 0, "cut time into buckets of this length")
	zone := f.String("zone", "", "time zone of the buckets, such as Europe/Berlin (default UTC)")
	fill := f.Bool("fill", false, "print empty buckets too")
	sort := f.String("sort", "", "order by this column, or by this key of --by")
	desc := f.Bool("desc", false, "order from the largest down")
	limit := f.Int("limit", 0, "how many groups, 1 to 100,000; more are an error without --sort (default 10,000)")
	after, fresh := afterFlag(cmd), consistencyFlag(cmd)
	cmd.RunE = verb(once, func(s *session, a []string) error {
		o := client.AggregateOptions{Series: *series, GroupBy: *by, Bucket: *bucket, Zone: *zone, Fill: *fill, Limit: *limit, After: *after}
		var err error
		if o.Start, o.End, err = span(); err != nil {
			return err
		}
		if o.Consistency, err = consistency(*fresh); err != nil {
			return err
		}
		if o.Query, err = queryOf(*query, *where); err != nil {
			return err
		}
		for _, text := range a[1:] {
			column, err := columnOf(text)
			if err != nil {
				return err
			}
			o.Aggregations = append(o.Aggregations, column)
		}
		switch {
		case *desc && *sort == "":
			return usagef("--desc is for --sort")
		case *sort != "":
			o.OrderBy = &headwaterv1.AggregateEventRecordsRequest_OrderBy{Descending: *desc, Value: *sort}
			if slices.Contains(*by, *sort) {
				o.OrderBy.Value, o.OrderBy.Label = "", *sort
			}
		}
		res, err := s.TimeSeries(a[0]).Aggregate(s.ctx, o)
		if err != nil {
			return err
		}
		return s.aggregates(&o, &res)
	})
	return cmd
}

// columnOf reads a column: [NAME=]OP[:KEY[:QUANTILE]].
func columnOf(text string) (*headwaterv1.EventAggregation, error) {
	m := &headwaterv1.EventAggregation{Name: text}
	spec := text
	// A name has no colon, a key may have an equals sign.
	if name, rest, named := strings.Cut(text, "="); named && !strings.Contains(name, ":") {
		m.Name, spec = name, rest
	}
	op, key, _ := strings.Cut(spec, ":")
	value, known := headwaterv1.EventAggregation_Op_value[strings.ToUpper(op)]
	if !known || value == 0 {
		return nil, usagef("column %s: %q is not count, sum, avg, min, max, first, last, distinct or quantile", text, op)
	}
	m.Op, m.Key = headwaterv1.EventAggregation_Op(value), key
	if m.Op == headwaterv1.EventAggregation_QUANTILE {
		at := strings.LastIndexByte(key, ':')
		q, err := strconv.ParseFloat(key[at+1:], 64)
		if at < 0 || err != nil {
			return nil, usagef("column %s: use quantile:KEY:Q, with Q of 0 to 1", text)
		}
		m.Key, m.Quantile = key[:at], &q
	}
	return m, nil
}

// groupLine is a group as JSON.
type groupLine struct {
	Labels map[string]string  `json:"labels"`
	Bucket *time.Time         `json:"bucketStart,omitempty"`
	Values map[string]float64 `json:"values"`
}

// aggregates prints groups: a table, or one JSON object a line.
func (s *session) aggregates(o *client.AggregateOptions, res *client.Aggregates) error {
	var heading []string
	for _, key := range o.GroupBy {
		heading = append(heading, printable(strings.ToUpper(key)))
	}
	if o.Bucket != 0 {
		heading = append(heading, "BUCKET")
	}
	for _, a := range o.Aggregations {
		heading = append(heading, printable(strings.ToUpper(a.GetName())))
	}
	bars := s.barsOf(o, res)
	if bars != nil {
		heading = append(heading, "")
	}
	out := s.rows(heading...)
	for i := range res.Groups {
		g := &res.Groups[i]
		if s.json {
			line := groupLine{Labels: g.Labels, Values: g.Values}
			if line.Labels == nil {
				line.Labels = map[string]string{}
			}
			if o.Bucket != 0 {
				line.Bucket = &g.Bucket
			}
			if err := s.line(line); err != nil {
				return err
			}
			continue
		}
		var row []string
		for _, key := range o.GroupBy {
			text, there := g.Labels[key]
			row = append(row, s.shown(text))
			if !there {
				row[len(row)-1] = s.absent()
			}
		}
		if o.Bucket != 0 {
			row = append(row, stamp(g.Bucket))
		}
		for _, a := range o.Aggregations {
			cell := s.absent()
			if v, there := g.Values[a.GetName()]; there {
				cell = strconv.FormatFloat(v, 'f', -1, 64)
			}
			row = append(row, cell)
		}
		if bars != nil {
			row = append(row, bars(g))
		}
		if err := out.add(row...); err != nil {
			return err
		}
	}
	if err := out.flush(); err != nil {
		return err
	}
	if res.Truncated {
		s.cmd.PrintErrln("there are more groups; --limit says how many are printed")
	}
	if len(res.Approximate) > 0 {
		s.cmd.PrintErrln("estimates: " + strings.Join(res.Approximate, ", "))
	}
	return nil
}

// absent is the cell of what is not there.
func (s *session) absent() string {
	if s.csv {
		return ""
	}
	return "-"
}

// barLength is how many letters the bar of the largest value has.
const barLength = 40

// barsOf returns what draws the first aggregation of a group as a bar: of time buckets in a table
// on a terminal. Nil elsewhere.
func (s *session) barsOf(o *client.AggregateOptions, res *client.Aggregates) func(g *client.EventGroup) string {
	if !s.terminal || s.json || s.csv || o.Bucket == 0 {
		return nil
	}
	return barsOf(o.Aggregations[0].GetName(), res)
}

func barsOf(name string, res *client.Aggregates) func(g *client.EventGroup) string {
	most := 0.0
	for i := range res.Groups {
		most = max(most, res.Groups[i].Values[name])
	}
	return func(g *client.EventGroup) string {
		v := g.Values[name]
		if most == 0 || v <= 0 {
			return ""
		}
		return strings.Repeat("#", max(1, int(math.Round(v/most*barLength))))
	}
}

func tsSlicesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "slices NAMESPACE",
		Short: "Print the time slices of a namespace, with what they hold",
		Long: `Print the time slices of a namespace, by start, with what they hold. It looks at every
event. Bytes are of series, times, ids and items, before compression.`,
		Args: Args(cobra.ExactArgs(1)),
	}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		list, err := s.TimeSeries(a[0]).Slices(s.ctx)
		if err != nil {
			return err
		}
		out := s.rows("START", "END", "STATE", "EVENTS", "BYTES", "BUCKETS")
		for _, x := range list {
			if s.json {
				err = s.line(map[string]any{"start": x.Start, "end": x.End, "state": x.State, "events": x.Events, "bytes": x.Bytes, "eventBuckets": x.EventBuckets})
			} else {
				err = out.add(stamp(x.Start), stamp(x.End), x.State, strconv.FormatInt(x.Events, 10), strconv.FormatInt(x.Bytes, 10), strconv.Itoa(x.EventBuckets))
			}
			if err != nil {
				return err
			}
		}
		return out.flush()
	})
	return cmd
}
