package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/headwater-db/headwater/api/eventjson"
	headwaterv1 "github.com/headwater-db/headwater/api/headwater/v1"
	"github.com/headwater-db/headwater/client"
)

// tsBatch is how many lines are written by one call.
const tsBatch = 1_000

func tsCommand() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "ts", Short: "Write, read, search, aggregate, list and delete time series"})
	cmd.AddCommand(tsWriteCommand(), withCSV(tsReadCommand()), withCSV(tsSearchCommand()), withCSV(tsAggregateCommand()), withCSV(tsSlicesCommand()), withCSV(tsListCommand()), tsDeleteCommand())
	return cmd
}

func tsWriteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "write NAMESPACE",
		Short: "Write events from standard input",
		Long: `Write events from standard input, one JSON object a line, 1,000 in a call. They are
durable when the command returns.

  {"series": "ATL-ORD", "eventTime": "2001-01-01T08:00:00Z", "eventId": "7", "items": {"delay": 12, "ratio": 0.5, "tail": "N1"}}

A number without fraction and exponent is an int64, any other a double; bytes are
{"base64": "..."}; true and false are 1 and 0. Without eventId the server makes one.
With --token KEY the token of a call is KEY and the number of its first line, so that a
load that was cut short can be run again.

Events that the namespace does not accept are left out and told on standard error.`,
		Args: Args(cobra.ExactArgs(1)),
	}
	token := cmd.Flags().String("token", "", "name of this load: with the same name it happens once")
	buffered := cmd.Flags().Bool("buffered", false, "do not wait until the events are durable: a crash of the server may lose the last ones")
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		l := &tsLoad{s: s, n: s.TimeSeries(a[0]), token: *token, buffered: *buffered}
		return l.run()
	})
	return cmd
}

// tsLoad is a load of events.
type tsLoad struct {
	s        *session
	n        *client.TimeSeries
	token    string
	buffered bool

	line, first       int // of what is read, and of the batch
	batch             []client.Event
	accepted, refused int
}

func (l *tsLoad) run() error {
	in := bufio.NewReaderSize(l.s.cmd.InOrStdin(), 64<<10)
	p := l.s.progress("events written")
	defer p.end()
	for {
		b, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		l.line++
		if err == nil && len(bytes.TrimSpace(b)) == 0 {
			continue
		}
		if err == nil {
			err = l.add(b)
		}
		if err != nil {
			return &lineError{fmt.Errorf("line %d (events written before it: %d; none of the lines behind it was sent): %w", l.line, l.accepted, err)}
		}
		p.show(l.accepted)
	}
	if err := l.flush(); err != nil {
		return err
	}
	p.end()
	if l.s.json {
		return l.s.line(map[string]int{"accepted": l.accepted, "refused": l.refused})
	}
	if l.refused > 0 {
		return l.s.printf("%d events written, %d left out\n", l.accepted, l.refused)
	}
	return l.s.printf("%d events written\n", l.accepted)
}

func (l *tsLoad) add(b []byte) error {
	m, err := eventjson.Parse(b, true)
	if err != nil {
		return usagef("%w", err)
	}
	seen := make(map[string]bool, len(m.GetItems()))
	for _, it := range m.GetItems() {
		if seen[it.GetKey()] {
			return usagef("item %q stands twice in the event", it.GetKey())
		}
		seen[it.GetKey()] = true
	}
	if len(l.batch) == 0 {
		l.first = l.line
	}
	if l.batch = append(l.batch, client.EventOf(m)); len(l.batch) < tsBatch {
		return nil
	}
	return l.flush()
}

// flush writes the batch.
func (l *tsLoad) flush() error {
	if len(l.batch) == 0 {
		return nil
	}
	write := l.n.Write
	if l.buffered {
		write = l.n.WriteBuffered
	}
	r, err := write(l.s.ctx, l.batch, lineToken(l.s, l.token, l.first))
	if e, ok := errors.AsType[*client.Error](err); ok && allLeftOut(e) {
		l.refused += len(l.batch)
		_, err = fmt.Fprintf(l.s.cmd.ErrOrStderr(), "lines %d to %d: %v\n", l.first, l.line, e)
		l.batch = l.batch[:0]
		return err
	}
	if err != nil {
		return &lineError{fmt.Errorf("lines %d to %d (events written before them: %d): %w", l.first, l.line, l.accepted, err)}
	}
	l.accepted += r.Accepted
	l.refused += len(r.Refused)
	for _, x := range r.Refused {
		if _, err := fmt.Fprintf(l.s.cmd.ErrOrStderr(), "event %d of lines %d to %d is left out: %s (%s)\n", x.Index+1, l.first, l.line, x.Message, x.Reason); err != nil {
			return err
		}
	}
	l.batch = l.batch[:0]
	return nil
}

// allLeftOut reports whether an error says that every event of a call is left out.
func allLeftOut(e *client.Error) bool {
	return strings.HasPrefix(e.Message, "every event of the call is left out")
}

func tsReadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "read NAMESPACE SERIES",
		Short: "Print the events of a series, newest first",
		Args:  Args(cobra.ExactArgs(2)),
	}
	span := spanFlags(cmd)
	oldest := cmd.Flags().Bool("oldest", false, "oldest first")
	limit := cmd.Flags().Int("limit", 0, "stop after so many; 0: all")
	where := cmd.Flags().StringArray("where", nil, `only events with this item, as KEY=VALUE; VALUE as in JSON, or text; may be repeated`)
	after, fresh := afterFlag(cmd), consistencyFlag(cmd)
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		o := client.ReadEventsOptions{Oldest: *oldest, Limit: *limit, After: *after}
		var err error
		if o.Start, o.End, err = span(); err != nil {
			return err
		}
		if o.Consistency, err = consistency(*fresh); err != nil {
			return err
		}
		if *limit < 0 {
			return usagef("--limit %d: it must not be negative", *limit)
		}
		if o.Filters, err = whereOf(*where); err != nil {
			return err
		}
		return s.events("", s.TimeSeries(a[0]).Read(s.ctx, a[1], o))
	})
	return cmd
}

// whereOf reads filters.
func whereOf(where []string) (map[string]any, error) {
	out := make(map[string]any, len(where))
	for _, w := range where {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, usagef("--where %s: use KEY=VALUE", w)
		}
		if _, twice := out[key]; twice {
			return nil, usagef("--where %s: the key is given twice", w)
		}
		m, err := eventjson.Parse([]byte(`{"eventTime":"2001-01-01T00:00:00Z","items":{"k":`+value+`}}`), false)
		if err != nil { // it is text
			out[key] = value
			continue
		}
		out[key] = client.EventOf(m).Items["k"]
	}
	return out, nil
}

// events prints events: a table, with a column of series unless that is "", or one JSON
// object a line.
func (s *session) events(series string, all iter.Seq2[client.Event, error]) error {
	heading := []string{"TIME", "ID", "ITEMS"}
	if series != "" {
		heading = append([]string{series}, heading...)
	}
	out := s.rows(heading...)
	for e, err := range all {
		if err != nil {
			return err
		}
		m, err := e.Message()
		if err != nil {
			return err
		}
		if s.json {
			if err := s.printf("%s\n", eventjson.Append(nil, m, true)); err != nil {
				return err
			}
			continue
		}
		var items []string
		for _, it := range m.GetItems() {
			items = append(items, printable(it.GetKey())+"="+itemCell(s, e.Items[it.GetKey()]))
		}
		cell := strings.Join(items, " ")
		if s.csv { // the items as one JSON object, with their types
			cell = string(eventjson.AppendItems(nil, m))
		}
		row := []string{stamp(e.Time), s.shown(e.ID), cell}
		if series != "" {
			row = append([]string{s.shown(e.Series)}, row...)
		}
		if err := out.add(row...); err != nil {
			return err
		}
	}
	return out.flush()
}

func itemCell(s *session, v any) string {
	switch v := v.(type) {
	case string:
		return printable(v)
	case []byte:
		return s.cell(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(v)
}

func tsSearchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "search NAMESPACE",
		Short: "Print the events of all series that meet a query, newest first",
		Long: `Print the events of all series that meet a query, newest first. The query is what the
API takes, as JSON:

  {"and": [{"range": {"key": "delay", "lower": {"int": "60"}}}, {"not": {"exists": {"key": "tail"}}}]}

The search looks at every event of the interval.`,
		Args: Args(cobra.ExactArgs(1)),
	}
	span := spanFlags(cmd)
	oldest := cmd.Flags().Bool("oldest", false, "oldest first")
	limit := cmd.Flags().Int("limit", 0, "stop after so many; 0: all")
	where := cmd.Flags().StringArray("where", nil, `only events with this item, as KEY=VALUE; VALUE as in JSON, or text; may be repeated`)
	query := cmd.Flags().String("query", "", "only events that meet this query")
	after, fresh := afterFlag(cmd), consistencyFlag(cmd)
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		o := client.SearchEventsOptions{Oldest: *oldest, Limit: *limit, After: *after}
		var err error
		if o.Start, o.End, err = span(); err != nil {
			return err
		}
		if o.Consistency, err = consistency(*fresh); err != nil {
			return err
		}
		if *limit < 0 {
			return usagef("--limit %d: it must not be negative", *limit)
		}
		if o.Query, err = queryOf(*query, *where); err != nil {
			return err
		}
		return s.events("SERIES", s.TimeSeries(a[0]).Search(s.ctx, o))
	})
	return cmd
}

// queryOf is a query and the filters beside it.
func queryOf(query string, where []string) (*headwaterv1.EventQuery, error) {
	var all []*headwaterv1.EventQuery
	if query != "" {
		q := &headwaterv1.EventQuery{}
		if err := protojson.Unmarshal([]byte(query), q); err != nil {
			return nil, usagef("--query is not a query as --help shows: %w", err)
		}
		all = append(all, q)
	}
	filters, err := whereOf(where)
	if err != nil {
		return nil, err
	}
	if len(filters) > 0 {
		e := client.Event{Items: filters}
		m, err := e.Message()
		if err != nil {
			return nil, err
		}
		for _, it := range m.GetItems() {
			all = append(all, &headwaterv1.EventQuery{Equals: &headwaterv1.EventEquals{Key: it.GetKey(), Value: it.GetValue()}})
		}
	}
	switch len(all) {
	case 0:
		return nil, nil
	case 1:
		return all[0], nil
	}
	return &headwaterv1.EventQuery{And: all}, nil
}

// spanFlags are the flags of an interval of event time.
func spanFlags(cmd *cobra.Command) func() (start, end time.Time, err error) {
	since := cmd.Flags().String("since", "24h", "from this time on, or so long ago at most")
	until := cmd.Flags().String("until", "", "before this time, or longer ago (default now)")
	return func() (start, end time.Time, err error) {
		end = time.Now()
		if start, err = moment("--since", *since); err != nil || *until == "" {
			return start, end, err
		}
		end, err = moment("--until", *until)
		return start, end, err
	}
}

func tsListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list NAMESPACE",
		Short: "Print the series of a namespace, by name",
		Args:  Args(cobra.ExactArgs(1)),
	}
	prefix := cmd.Flags().String("prefix", "", "only those whose names begin with this")
	since := cmd.Flags().String("since", "", "only those with an event at or after this time, or so long ago at most")
	limit := cmd.Flags().Int("limit", 0, "stop after so many; 0: all")
	after, fresh := afterFlag(cmd), consistencyFlag(cmd)
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		o := client.ListSeriesOptions{Prefix: *prefix, After: *after}
		var err error
		if o.Consistency, err = consistency(*fresh); err != nil {
			return err
		}
		if *limit < 0 {
			return usagef("--limit %d: it must not be negative", *limit)
		}
		if *since != "" {
			if o.Start, err = moment("--since", *since); err != nil {
				return err
			}
			o.End = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
		}
		if *limit > 0 {
			o.PageSize = min(*limit, client.MaxEvents)
		}
		out, n := s.rows("SERIES", "FIRST", "LAST"), 0
		for x, err := range s.TimeSeries(a[0]).List(s.ctx, o) {
			if err != nil {
				return err
			}
			if s.json {
				err = s.line(map[string]any{"series": x.Series, "first": x.First, "last": x.Last})
			} else {
				err = out.add(s.shown(x.Series), stamp(x.First), stamp(x.Last))
			}
			if err != nil {
				return err
			}
			if n++; n == cmp.Or(*limit, -1) {
				break
			}
		}
		return out.flush()
	})
	return cmd
}

func tsDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAMESPACE SERIES",
		Short: "Delete the events of a series that were written before",
		Args:  Args(cobra.ExactArgs(2)),
	}
	token := cmd.Flags().String("token", "", "name of this deletion: with the same name it happens once")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		r, err := s.TimeSeries(a[0]).Delete(s.ctx, a[1], client.Token{Key: *token})
		if err != nil {
			return err
		}
		return s.wrote(&r)
	})
	return cmd
}
