package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/headwater-db/headwater/client"
)

// How many lines are in a request at most, and of how many bytes: well below the largest request.
const (
	messagesAtOnce = 1000
	messageBytes   = 4 << 20
)

// logLoad writes messages from standard input: what is there at once goes into one request, so that a line
// that is typed does not wait for others, and a file costs few.
type logLoad struct {
	s     *session
	log   *client.Log
	token string

	batch []client.NewMessage
	lines []int // of the batch
	size  int
	done  int
}

func (l *logLoad) run() error {
	in := bufio.NewReaderSize(l.s.cmd.InOrStdin(), 1<<20)
	p := l.s.progress("messages written")
	defer p.end()
	for n := 1; ; n++ {
		b, err := readLine(in)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && len(bytes.TrimSpace(b)) > 0 {
			var m client.NewMessage
			if m, err = l.message(n, b); err == nil {
				l.batch, l.lines, l.size = append(l.batch, m), append(l.lines, n), l.size+len(m.Payload)
			}
		}
		if err != nil {
			if sendErr := l.send(); sendErr != nil {
				return sendErr
			}
			return l.stopped(n, err, "none of the lines behind it was sent")
		}
		if len(l.batch) == messagesAtOnce || l.size >= messageBytes || !lineIsThere(in) {
			if err := l.send(); err != nil {
				return err
			}
			p.show(l.done)
		}
	}
	if err := l.send(); err != nil {
		return err
	}
	p.end()
	if l.s.json {
		return nil
	}
	return l.s.printf("%d messages written\n", l.done)
}

// lineIsThere reports whether a line can be read without waiting.
func lineIsThere(in *bufio.Reader) bool {
	b, err := in.Peek(in.Buffered())
	return err == nil && bytes.IndexByte(b, '\n') >= 0
}

func (l *logLoad) message(n int, b []byte) (m client.NewMessage, err error) {
	var line payloadLine
	if err := unmarshal(b, &line); err != nil {
		return m, err
	}
	payload, err := l.s.bytesOf("payload", line.Payload, line.PayloadBase64)
	if err != nil {
		return m, err
	}
	m = client.NewMessage{
		Key: line.Key, Payload: payload, Headers: line.Headers, Targets: line.Targets, Replace: line.Replace, Token: lineToken(l.s, l.token, n),
	}
	if line.Delay != "" {
		if m.Delay, err = time.ParseDuration(line.Delay); err != nil {
			return m, usagef("delay %q: write it as in 90s or 24h", line.Delay)
		}
	}
	if line.DeliverAt != nil {
		m.DeliverAt = *line.DeliverAt
	}
	return m, nil
}

// send writes the batch.
func (l *logLoad) send() error {
	if len(l.batch) == 0 {
		return nil
	}
	batch, lines := l.batch, l.lines
	l.batch, l.lines, l.size = nil, nil, 0
	results, err := l.log.WriteMessages(l.s.ctx, batch)
	if results == nil && err != nil && len(batch) > 1 { // one of them refuses all: they are sent up to that one
		for i := range batch {
			r, err := l.log.WriteMessage(l.s.ctx, batch[i])
			if err != nil {
				return l.stopped(lines[i], err, "none of the lines behind it was sent")
			}
			if err := l.wrote(&batch[i], &r); err != nil {
				return err
			}
		}
		return nil
	}
	if results == nil && err != nil {
		return l.stopped(lines[0], err, "none of the lines behind it was sent")
	}
	for i := range results {
		if err := results[i].Err; err != nil {
			return l.stopped(lines[i], err, fmt.Sprintf("of the lines behind it up to %d may have been sent", len(batch)-i-1))
		}
		if err := l.wrote(&batch[i], &results[i].WriteResult); err != nil {
			return err
		}
	}
	return err
}

func (l *logLoad) wrote(m *client.NewMessage, r *client.WriteResult) error {
	l.done++
	if !l.s.json {
		return nil
	}
	w := writeLineOf(r)
	w.Key = &m.Key
	return l.s.line(w)
}

func (l *logLoad) stopped(line int, err error, rest string) error {
	return &lineError{fmt.Errorf("line %d (done before it: %d; %s): %w", line, l.done, rest, err)}
}
