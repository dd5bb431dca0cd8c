package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// decode reads a key or a value from the command line.
func (s *session) decode(what, text string) ([]byte, error) {
	if !s.base64 {
		return []byte(text), nil
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, usagef("%s is not base64: %w", what, err)
	}
	return b, nil
}

func (s *session) decodeAll(what string, texts []string) ([]string, error) {
	out := make([]string, len(texts))
	for i, t := range texts {
		b, err := s.decode(what, t)
		if err != nil {
			return nil, err
		}
		out[i] = string(b)
	}
	return out, nil
}

// cell is what a table shows of bytes: base64 with --base64, else the text, or a
// quoted form where it would break the line or act on the terminal.
func (s *session) cell(b []byte) string {
	if s.base64 {
		return base64.StdEncoding.EncodeToString(b)
	}
	return printable(string(b))
}

func printable(t string) string {
	// A text that looks like a quoted one is quoted too, so that the two differ.
	if hasUnprintable(t, "") || strings.HasPrefix(t, `"`) && strings.Contains(t, `\`) {
		return strconv.Quote(t)
	}
	return t
}

// hasUnprintable reports whether t has what would break a line or act on a terminal,
// except the letters of allowed.
func hasUnprintable(t, allowed string) bool {
	return strings.ContainsFunc(t, func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsPrint(r) && !strings.ContainsRune(allowed, r)
	})
}

// raw prints a value by itself: base64 with --base64; on a terminal text, quoted where
// it would act on the terminal; elsewhere its bytes and nothing else, so that a file or
// a program gets what was put.
func (s *session) raw(b []byte) error {
	switch {
	case s.base64:
		return s.printf("%s\n", base64.StdEncoding.EncodeToString(b))
	case s.terminal:
		t := string(b)
		if hasUnprintable(t, "\n\t") {
			t = strconv.Quote(t)
		}
		return s.printf("%s\n", strings.TrimSuffix(t, "\n"))
	}
	if _, err := s.cmd.OutOrStdout().Write(b); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// isTerminal reports whether a file of the process is a terminal.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	i, err := f.Stat()
	return err == nil && i.Mode()&os.ModeCharDevice != 0
}

func (s *session) printf(format string, a ...any) error {
	if _, err := fmt.Fprintf(s.cmd.OutOrStdout(), format, a...); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// line prints one JSON object.
func (s *session) line(v any) error {
	e := json.NewEncoder(s.cmd.OutOrStdout())
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// answer prints a message of the API as one JSON object.
func (s *session) answer(m proto.Message) error {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	var line bytes.Buffer // protojson varies its spaces on purpose
	if err := json.Compact(&line, b); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return s.printf("%s\n", line.Bytes())
}

// text is bytes in JSON: Text where they are UTF-8, else Bytes, or Text in
// base64 with --base64.
type text struct {
	Text  *string
	Bytes *string
}

func (s *session) text(b []byte) text {
	t := string(b)
	switch {
	case s.base64:
		t = base64.StdEncoding.EncodeToString(b)
		return text{Text: &t}
	case utf8.Valid(b):
		return text{Text: &t}
	}
	t = base64.StdEncoding.EncodeToString(b)
	return text{Bytes: &t}
}

// rows prints a table with a heading, aligned in blocks so that a long one
// appears as it comes.
type rows struct {
	w    *tabwriter.Writer
	n    int
	head string
	csv  *csvRows // nil: a table
}

const rowsPerBlock = 200

func (s *session) rows(heading ...string) *rows {
	if s.csv {
		return &rows{csv: &csvRows{csv.NewWriter(s.cmd.OutOrStdout()), heading}}
	}
	return &rows{w: tabwriter.NewWriter(s.cmd.OutOrStdout(), 0, 0, 2, ' ', 0), head: strings.Join(heading, "\t")}
}

// add prints a row; the cells must be printable.
func (r *rows) add(cells ...string) error {
	if r.csv != nil {
		return r.csv.add(cells)
	}
	if r.n == 0 {
		if err := r.write(r.head); err != nil {
			return err
		}
	}
	if r.n++; r.n%rowsPerBlock == 0 {
		if err := r.flush(); err != nil {
			return err
		}
	}
	return r.write(strings.Join(cells, "\t"))
}

func (r *rows) write(line string) error {
	if _, err := io.WriteString(r.w, line+"\n"); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func (r *rows) flush() error {
	if r.csv != nil {
		return r.csv.flush()
	}
	if err := r.w.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// moment reads a time: RFC 3339, or how long ago, "90m".
func moment(flag, v string) (time.Time, error) {
	if v == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(v); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, usagef("%s %q: use a time such as 2026-01-31T12:00:00Z, or how long ago, such as 90m", flag, v)
}

// progress counts on the terminal, when standard error is one.
type progress struct {
	w    io.Writer
	what string
	last time.Time
}

func (s *session) progress(what string) *progress {
	p := &progress{what: what}
	if w := s.cmd.ErrOrStderr(); isTerminal(w) {
		p.w = w
	}
	return p
}

// show shows a count, at most ten times a second. The terminal's loss of it is
// nobody's.
func (p *progress) show(n int) {
	if p.w == nil || time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last = time.Now()
	_, _ = fmt.Fprintf(p.w, "\r%d %s", n, p.what)
}

func (p *progress) end() {
	if p.w != nil && !p.last.IsZero() {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
		p.w = nil
	}
}
