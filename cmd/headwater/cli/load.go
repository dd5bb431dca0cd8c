package cli

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/headwater-db/headwater/client"
)

// maxLine bounds a line of standard input: the largest value in base64, and what
// stands around it.
const maxLine = client.MaxValueBytes/3*4 + 1<<20

// inFlight is how many lines are on their way to the server at once.
const inFlight = 256

// outcome is what became of one line.
type outcome struct {
	line  int
	last  bool // no line behind it was looked at
	print func() error
	err   error
}

// load reads JSON lines from standard input and does each, many at once. do
// decodes a line, on one goroutine and in order, and returns what sends it,
// which runs on its own; that returns what prints its result. Results are
// printed in order. It stops at the first line that fails and says which one it
// was. sequential does one line at a time.
func (s *session) load(what string, sequential bool, do func(n int, line []byte) (func() (func() error, error), error)) error {
	width := inFlight
	if sequential {
		width = 1
	}
	waiting := make(chan chan outcome, width)
	stop := make(chan struct{})
	go func() {
		defer close(waiting)
		in := bufio.NewReaderSize(s.cmd.InOrStdin(), 64<<10)
		for n := 1; ; n++ {
			line, err := readLine(in)
			if errors.Is(err, io.EOF) {
				return
			}
			if len(bytes.TrimSpace(line)) == 0 && err == nil {
				continue
			}
			done := make(chan outcome, 1)
			select {
			case <-stop:
				return
			case waiting <- done: // bounds what is under way
			}
			var send func() (func() error, error)
			if err == nil {
				send, err = do(n, line)
			}
			if err != nil {
				done <- outcome{line: n, last: true, err: err}
				return
			}
			if sequential {
				print, err := send()
				done <- outcome{line: n, print: print, err: err}
				if err != nil {
					return // before the next line is looked at
				}
				continue
			}
			go func() {
				print, err := send()
				done <- outcome{line: n, print: print, err: err}
			}()
		}
	}()
	n := 0
	p := s.progress(what)
	defer p.end()
	for done := range waiting {
		o := <-done
		if o.err == nil {
			n++
			p.show(n)
			o.err = o.print()
		}
		if o.err != nil {
			close(stop)
			finish(waiting)
			p.end()
			return s.stopped(o, n, width)
		}
	}
	p.end()
	if s.json {
		return nil
	}
	return s.printf("%d %s\n", n, what)
}

// stopped is the error of a load, which says what was done.
func (s *session) stopped(o outcome, n, width int) error {
	rest := "none of the lines behind it was sent"
	if width > 1 && !o.last {
		rest = fmt.Sprintf("of the lines behind it up to %d may have been sent", width)
	}
	return &lineError{fmt.Errorf("line %d (done before it: %d; %s): %w", o.line, n, rest, o.err)}
}

// lineError is what ended a load: its token is that of a line, and not the command's.
type lineError struct{ error }

func (e *lineError) Unwrap() error { return e.error }

// finish waits for what is under way. It does not wait for the reader, which may
// be waiting for a line.
func finish(waiting <-chan chan outcome) {
	for {
		select {
		case done, ok := <-waiting:
			if !ok {
				return
			}
			<-done
		default:
			return
		}
	}
}

// readLine reads a line of at most maxLine bytes; io.EOF when there is none.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, more, err := in.ReadLine()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil, io.EOF
			}
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		if len(line)+len(part) > maxLine {
			return nil, usagef("the line has more than %d bytes", maxLine)
		}
		line = append(line, part...)
		if !more {
			return line, nil
		}
	}
}

// unmarshal reads one line strictly.
func unmarshal(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return usagef("it is not a JSON object as --help shows: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return usagef("something follows the JSON object")
	}
	return nil
}

// bytesOf reads what session.text made: at most one of the two is there.
func (s *session) bytesOf(name string, text, b64 *string) ([]byte, error) {
	switch {
	case text != nil && b64 != nil:
		return nil, usagef("%s and %sBase64 are both there", name, name)
	case b64 != nil:
		b, err := base64.StdEncoding.DecodeString(*b64)
		if err != nil {
			return nil, usagef("%sBase64 is not base64: %w", name, err)
		}
		return b, nil
	case text != nil:
		return s.decode(name, *text)
	}
	return nil, usagef("%s is missing", name)
}

// lineToken is the token of a line: with --token KEY it is KEY and the line's
// number, so that the same load run again has its effect once.
func lineToken(s *session, key string, n int) client.Token {
	if key == "" {
		return s.NewToken()
	}
	return client.Token{Key: key + ":" + strconv.Itoa(n), Time: s.NewToken().Time}
}
