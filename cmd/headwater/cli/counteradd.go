package cli

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/client"
)

// addLine is an add in JSON: Counter to Token are read from standard input.
type addLine struct {
	Counter   *string    `json:"counter"`
	Delta     *jsonInt   `json:"delta"`
	EventTime *time.Time `json:"eventTime,omitempty"`
	TTL       string     `json:"ttl,omitempty"`
	Token     string     `json:"token,omitempty"`
}

// addedLine is an acknowledged add in JSON. Value to Violation are there with
// --get.
type addedLine struct {
	Counter    string            `json:"counter"`
	Delta      int64             `json:"delta"`
	Value      *int64            `json:"value,omitempty"`
	Held       *int64            `json:"held,omitempty"`
	Applied    *int64            `json:"applied,omitempty"`
	Violation  client.Violation  `json:"violation,omitempty"`
	Position   string            `json:"position"`
	Durability client.Durability `json:"durability"`
	Duplicate  client.Duplicate  `json:"duplicate"`
	Token      string            `json:"token"`
}

func (s *session) addedLine(counter string, delta int64, r *client.WriteResult) addedLine {
	return addedLine{
		Counter: s.cellText(counter), Delta: delta, Position: r.Position, Durability: r.Durability, Duplicate: r.Duplicate, Token: r.Token.String(),
	}
}

// jsonInt is an int64 in JSON, as a number or, as the API writes it, a string.
type jsonInt int64

// UnmarshalJSON reads either form.
func (n *jsonInt) UnmarshalJSON(b []byte) error {
	if len(b) > 2 && b[0] == '"' {
		b = bytes.Trim(b, `"`)
	}
	v, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not a whole number of 64 bits", b)
	}
	*n = jsonInt(v)
	return nil
}

// integer reads a whole number from the command line.
func integer(what, v string) (int64, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, usagef("%s %q: use a whole number from %d to %d", what, v, int64(-1<<63), int64(1<<63-1))
	}
	return n, nil
}

// adds is one run of counter add.
type adds struct {
	s         *session
	n         *client.Counter
	token     string
	eventTime string
	ttl       time.Duration
	bounds    client.Bounds
}

func counterAddCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add NAMESPACE [COUNTER DELTA]",
		Short: "Add to a counter, or to many from standard input",
		Long: `Add to a counter. The add is durable when the command returns, unless it says
otherwise. DELTA may be negative. With --get the value right after the add is
printed; a bound that rejects it makes the exit code 4.

With NAMESPACE only, adds are read from standard input, one JSON object a line,
and sent together:

  {"counter": "video/42", "delta": 1, "eventTime": "2026-01-31T12:00:00Z", "ttl": "1h"}

eventTime, ttl and token may be left out. With --token KEY the token of a line
without one is KEY and its number, so that a load that was cut short can be run
again.`,
		Args: Args(func(cmd *cobra.Command, a []string) error {
			if len(a) == 1 {
				return nil
			}
			return cobra.ExactArgs(3)(cmd, a)
		}),
		Annotations: map[string]string{takesNegatives: "DELTA"},
	}
	f := cmd.Flags()
	token := tokenFlag(cmd)
	eventTime := f.String("event-time", "", "when it happened: a time, or how long ago, such as 90m (default now)")
	ttl := f.Duration("ttl", 0, "if this add creates the counter, it disappears so long after")
	get := f.Bool("get", false, "print the value right after the add")
	floor := f.Int64("floor", 0, "with --get: do not add what would lower the value below")
	ceiling := f.Int64("ceiling", 0, "with --get: do not add what would raise the value above")
	saturate := f.Bool("saturate", false, "with a bound: add as much as it allows")
	many := func(_ *cobra.Command, a []string) bool { return len(a) == 1 }
	cmd.RunE = verb(many, func(s *session, a []string) error {
		d := &adds{s: s, n: s.Counter(a[0]), token: *token, eventTime: *eventTime, ttl: *ttl, bounds: client.Bounds{Saturate: *saturate}}
		if f.Changed("floor") {
			d.bounds.Floor = floor
		}
		if f.Changed("ceiling") {
			d.bounds.Ceiling = ceiling
		}
		bounded := d.bounds.Floor != nil || d.bounds.Ceiling != nil
		switch {
		case cmd.Flags().Changed("ttl") && *ttl <= 0:
			return usagef("--ttl %v: it must be above zero", *ttl)
		case bounded && !*get:
			return usagef("--floor and --ceiling are for --get: an add that nobody waits for has no answer to tell of them")
		case *saturate && !bounded:
			return usagef("--saturate is for --floor and --ceiling")
		case *get && len(a) == 1:
			return usagef("--get is for one add")
		case len(a) == 1:
			return s.load("adds made", false, d.line)
		}
		return d.one(a[1], a[2], *get)
	})
	return cmd
}

func (d *adds) one(counter, delta string, get bool) error {
	s := d.s
	name, err := s.counter(counter)
	if err != nil {
		return err
	}
	n, err := integer("DELTA", delta)
	if err != nil {
		return err
	}
	at, err := moment("--event-time", d.eventTime)
	if err != nil {
		return err
	}
	if get {
		return d.get(name, n, at)
	}
	r, err := d.n.AddWith(s.ctx, name, n, client.AddOptions{EventTime: at, TTL: d.ttl, Token: client.Token{Key: d.token}, Alone: true})
	if err != nil {
		return err
	}
	if s.json {
		return s.line(s.addedLine(name, n, &r))
	}
	return s.wrote(&r)
}

func (d *adds) get(name string, delta int64, at time.Time) error {
	s := d.s
	r, err := d.n.AddAndGet(s.ctx, name, delta, client.AddAndGetOptions{EventTime: at, TTL: d.ttl, Token: client.Token{Key: d.token}, Bounds: d.bounds})
	if err != nil {
		return err
	}
	if s.json {
		l := s.addedLine(name, delta, &r.WriteResult)
		l.Value, l.Held, l.Applied, l.Violation = &r.Count.Value, &r.Count.Held, &r.Applied, r.Violation
		err = s.line(l)
	} else {
		text := "value " + strconv.FormatInt(r.Count.Value, 10)
		if r.Violation != client.NoViolation {
			text += fmt.Sprintf(", added %d of %d: the %s", r.Applied, delta, strings.ToLower(string(r.Violation)))
		}
		if r.Duplicate == client.Repeated {
			text += ", a repetition: this is the answer to the first request with this token"
		}
		err = s.printf("%s\n", text)
	}
	if err == nil && r.Violation != client.NoViolation && !d.bounds.Saturate {
		return &client.Error{Code: codes.Aborted, Message: fmt.Sprintf("the %s rejected the add; nothing was added", strings.ToLower(string(r.Violation)))}
	}
	return err
}

// line reads an add. Adds that bring no token share that of the request they
// travel in.
func (d *adds) line(n int, b []byte) (func() (func() error, error), error) {
	var l addLine
	if err := unmarshal(b, &l); err != nil {
		return nil, err
	}
	if l.Delta == nil {
		return nil, usagef("delta is missing")
	}
	name, err := d.s.bytesOf("counter", l.Counter, nil)
	if err != nil {
		return nil, err
	}
	o := client.AddOptions{TTL: d.ttl}
	if o.EventTime, err = moment("--event-time", d.eventTime); err != nil {
		return nil, err
	}
	if l.EventTime != nil {
		o.EventTime = *l.EventTime
	}
	if l.TTL != "" {
		if o.TTL, err = time.ParseDuration(l.TTL); err != nil || o.TTL <= 0 {
			return nil, usagef("ttl %q: use a duration above zero such as 90s", l.TTL)
		}
	}
	switch {
	case l.Token != "":
		o.Token.Key = l.Token
	case d.token != "":
		o.Token.Key = d.token + ":" + strconv.Itoa(n)
	}
	return func() (func() error, error) {
		r, err := d.n.AddWith(d.s.ctx, string(name), int64(*l.Delta), o)
		return func() error {
			if !d.s.json {
				return nil
			}
			return d.s.line(d.s.addedLine(string(name), int64(*l.Delta), &r))
		}, err
	}, nil
}
