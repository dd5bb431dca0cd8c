package cli

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func logCommand() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "log", Short: "Write to a log namespace, read the log of any namespace"})
	cmd.AddCommand(
		logWriteCommand(), logTailCommand(), logMessageCommand(), logDelayedCommand(), logCancelCommand(), logConsumeCommand(), logConsumersCommand(),
	)
	return cmd
}

// payloadLine is a message in JSON. What tail prints, write reads.
type payloadLine struct {
	Partition     int               `json:"partition"`
	Offset        int64             `json:"offset"`
	Time          *time.Time        `json:"time,omitempty"`
	Kind          string            `json:"kind,omitempty"`
	Key           string            `json:"key"`
	Payload       *string           `json:"payload,omitempty"`
	PayloadBase64 *string           `json:"payloadBase64,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	Targets       []string          `json:"targets,omitempty"`
	Delay         string            `json:"delay,omitempty"`
	DeliverAt     *time.Time        `json:"deliverAt,omitempty"`
	Replace       bool              `json:"replace,omitempty"`
	Token         string            `json:"token,omitempty"`
	Position      string            `json:"position,omitempty"`
	Method        string            `json:"method,omitempty"`
	Record        json.RawMessage   `json:"record,omitempty"`
}

func logWriteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "write NAMESPACE [KEY PAYLOAD]",
		Short: "Write a message, or many from standard input",
		Long: `Write a message. It is durable when the command returns. Messages of one KEY stay
in order; an empty KEY goes anywhere.

With NAMESPACE only, messages are read from standard input, one JSON object a
line, and written one after another:

  {"key": "order/7", "payload": "paid"}

payloadBase64 takes the place of payload where that is not text, "headers" is
an object of strings, "targets" a list of names, "delay" a text such as "90s" and
"deliverAt" a time. With --token KEY
the token of a line is KEY and its number, so that a load that was cut short can
be run again.`,
		Args: Args(func(cmd *cobra.Command, a []string) error {
			if len(a) == 1 {
				return nil
			}
			return cobra.ExactArgs(3)(cmd, a)
		}),
	}
	token := cmd.Flags().String("token", "", "name of this write: with the same name it happens once")
	headers := cmd.Flags().StringArray("header", nil, "NAME=VALUE that readers are told beside the payload; may be repeated")
	var when lifecycleFlags
	when.add(cmd)
	many := func(_ *cobra.Command, a []string) bool { return len(a) == 1 }
	cmd.RunE = verb(many, func(s *session, a []string) error {
		log := s.Log(a[0])
		hs, err := headersOf(*headers)
		if err != nil {
			return err
		}
		if len(a) == 1 {
			if hs != nil {
				return usagef("--header: messages from standard input have headers of their own")
			}
			if when.given() {
				return usagef("--target, --delay, --deliver-at, --replace: messages from standard input have their own")
			}
			l := &logLoad{s: s, log: log, token: *token}
			return l.run()
		}
		payload, err := s.decode("PAYLOAD", a[2])
		if err != nil {
			return err
		}
		m := client.NewMessage{Key: a[1], Payload: payload, Headers: hs, Token: client.Token{Key: *token}}
		if err := when.into(&m); err != nil {
			return err
		}
		r, err := log.WriteMessage(s.ctx, m)
		if err != nil {
			return err
		}
		return s.wrote(&r)
	})
	return cmd
}

// headersOf reads NAME=VALUE.
func headersOf(all []string) (map[string]string, error) {
	var m map[string]string
	for _, h := range all {
		name, value, ok := strings.Cut(h, "=")
		if _, twice := m[name]; !ok || name == "" || twice {
			return nil, usagef("--header %q: use NAME=VALUE, each name once", h)
		}
		if m == nil {
			m = make(map[string]string)
		}
		m[name] = value
	}
	return m, nil
}

func logTailCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tail NAMESPACE",
		Short: "Print the records of a log",
		Long:  "Print the records of a log, each partition in order. Without --follow it ends at the last record there is.",
		Args:  Args(cobra.ExactArgs(1)),
	}
	from := cmd.Flags().String("from", "earliest", fromUsage)
	follow := cmd.Flags().BoolP("follow", "f", false, "wait for new records; end with Ctrl-C")
	key := cmd.Flags().String("key", "", "print only the records of this key; \"\" is that of messages without one")
	kind := cmd.Flags().String("kind", "", "print only the records of this kind, such as message")
	limit := cmd.Flags().Int("limit", 0, "stop after so many records; 0: all")
	headers := cmd.Flags().StringArray("header", nil, "print only messages with this header, NAME=VALUE; may be repeated")
	decode := cmd.Flags().Bool("decode", false, "print records of items, counts and events as the requests that they were made of")
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		if *limit < 0 {
			return usagef("--limit %d: it must not be negative", *limit)
		}
		o := startAt(*from)
		var err error
		if o.Headers, err = headersOf(*headers); err != nil {
			return err
		}
		o.Follow, o.Key, o.Kind, o.Decode = *follow, given(cmd, "key", key), *kind, *decode
		n := 0
		if !s.json {
			if err := s.printf(tailRow, "PARTITION", "OFFSET", "TIME", "KIND", "KEY", "PAYLOAD"); err != nil {
				return err
			}
		}
		for m, err := range s.Log(a[0]).Tail(s.ctx, o) {
			if err != nil {
				if o.Follow && errors.Is(err, context.Canceled) && s.ctx.Err() != nil {
					return nil // that is how following ends
				}
				return err
			}
			if err := s.message(&m); err != nil {
				return err
			}
			if n++; n == *limit {
				return nil
			}
		}
		return nil
	})
	return cmd
}

// fromUsage says what startAt reads.
const fromUsage = "earliest, latest, a time such as 2026-01-31T12:00:00Z, how long ago such as 90m, or a position"

func startAt(from string) (o client.TailOptions) {
	switch from {
	case "earliest":
	case "latest":
		o.Latest = true
	default:
		if t, err := moment("--from", from); err == nil {
			o.Since = t
		} else {
			o.Position = from
		}
	}
	return o
}

// tailRow has columns of a fixed width: a row is printed when its record comes, so
// the widths of those to come are not known. A time has up to 27 letters, with
// microseconds.
const tailRow = "%-9s  %-8s  %-27s  %-9s  %-16s  %s\n"

func (s *session) message(m *client.Message) error {
	if !s.json {
		payload := s.cell(m.Payload)
		if m.Record != nil {
			payload = m.Method + " " + string(m.Record)
		}
		return s.printf(tailRow, strconv.Itoa(m.Partition), strconv.FormatInt(m.Offset, 10), stamp(m.Time), m.Kind, printable(m.Key), payload)
	}
	return s.line(s.messageLine(m))
}

// messageLine is a message in JSON.
func (s *session) messageLine(m *client.Message) payloadLine {
	p := s.text(m.Payload)
	l := payloadLine{
		Partition: m.Partition, Offset: m.Offset, Time: &m.Time, Kind: m.Kind, Key: m.Key, Payload: p.Text, PayloadBase64: p.Bytes, Headers: m.Headers, Position: m.Position,
	}
	if !m.Token.IsZero() {
		l.Token = m.Token.String()
	}
	if m.Record != nil { // which is the payload, to be read
		l.Payload, l.PayloadBase64, l.Method, l.Record = nil, nil, m.Method, m.Record
	}
	return l
}
