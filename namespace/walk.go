package namespace

import (
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxProblems bounds the length of an error; a document with more is not worth
// describing further.
const maxProblems = 64

// walker reads a document node by node and collects what is wrong with it, so
// that all problems are reported together.
type walker struct {
	problems []Problem
	lines    map[string]int    // path -> line, of everything that the document sets
	clusters map[string]string // see Defaults
	// ownTopics is Defaults.TopicPrefix.
	ownTopics string
}

func (w *walker) problem(line int, path, suggestion, format string, args ...any) {
	if len(w.problems) < maxProblems {
		w.problems = append(w.problems, Problem{Line: line, Path: path, Reason: fmt.Sprintf(format, args...), Suggestion: suggestion})
	}
}

// at reports a problem with the setting at path, at the line of the nearest
// thing that the document does set.
func (w *walker) at(path, suggestion, format string, args ...any) {
	line, ok := 0, false
	for p := path; !ok && p != ""; {
		if line, ok = w.lines[p]; ok {
			break
		}
		if i := strings.LastIndexAny(p, ".["); i >= 0 {
			p = p[:i]
		} else {
			p = ""
		}
	}
	w.problem(line, path, suggestion, format, args...)
}

func (w *walker) sets(path string) bool { _, ok := w.lines[path]; return ok }

// err returns the problems in order of line, or nil.
func (w *walker) err() error {
	if len(w.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(w.problems, func(a, b Problem) int { return a.Line - b.Line })
	return &InvalidError{Problems: w.problems}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s*)?(?:line (\d+): )?`)

// parseYAML returns the root of the only document in text.
func (w *walker) parseYAML(text string) *yaml.Node {
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc, more yaml.Node
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF) || err == nil && doc.Kind == 0:
		w.problem(0, "", "", "the document is empty")
		return nil
	case err != nil:
		w.syntax(err)
		return nil
	}
	if err := dec.Decode(&more); err == nil {
		w.problem(more.Line, "", "", "a second document begins here; apply one namespace at a time")
		return nil
	} else if !errors.Is(err, io.EOF) {
		w.syntax(err)
		return nil
	}
	return doc.Content[0]
}

func (w *walker) syntax(err error) {
	msg := err.Error()
	line := 0
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1]) // "" when the parser names no line: 0 is right
		msg = msg[len(m[0]):]
	}
	w.problem(line, "", "", "not YAML: %s", strings.Trim(quote(msg), `"`))
}

// reader reads one value.
type reader func(w *walker, n *yaml.Node, path string)

// field is one key of a mapping.
type field struct {
	name string
	read reader
}

// plain refuses what a configuration does not need and an attacker likes.
func (w *walker) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		w.problem(n.Line, path, "", "aliases are not taken; write the value out")
	case n.Anchor != "":
		w.problem(n.Line, path, "", "anchors are not taken; write the value out where it is needed")
	case n.Style&yaml.TaggedStyle != 0:
		w.problem(n.Line, path, "", "tags are not taken")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		w.problem(n.Line, path, "", "has no value; set one or leave the key out")
	default:
		return true
	}
	return false
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		switch n.ShortTag() {
		case "!!int":
			return "a whole number"
		case "!!float":
			return "a number"
		case "!!bool":
			return "true or false"
		case "!!str":
			return "text"
		}
		return "a " + strings.TrimPrefix(n.ShortTag(), "!!")
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// mapping reads a mapping with the given keys and no others.
func mapping(fields ...field) reader {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return func(w *walker, n *yaml.Node, path string) {
		if !w.plain(n, path) {
			return
		}
		if n.Kind != yaml.MappingNode {
			w.problem(n.Line, path, "", "is %s; it takes a mapping with the keys %s", kindName(n), strings.Join(names, ", "))
			return
		}
		first := make(map[string]int, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if !w.plain(k, path) {
				continue
			}
			if k.Kind != yaml.ScalarNode {
				w.problem(k.Line, path, "", "a key is %s; keys are text", kindName(k))
				continue
			}
			if line, ok := first[k.Value]; ok {
				w.problem(k.Line, join(path, clip(k.Value)), "", "is set twice; the first is on line %d", line)
				continue
			}
			first[k.Value] = k.Line
			at := slices.Index(names, k.Value)
			if at < 0 {
				w.problem(k.Line, join(path, clip(k.Value)), meant(path, k.Value, names), "unknown key")
				continue
			}
			p := join(path, k.Value)
			w.lines[p] = k.Line
			fields[at].read(w, v, p)
		}
	}
}

// clip makes a key that we do not know fit to be shown.
func clip(key string) string {
	q := quote(key)
	if q == `"`+key+`"` && key != "" && !strings.ContainsAny(key, " :") {
		return key
	}
	return q
}

// meant guesses which key was meant: one of the same mapping, or the very same
// word of another one.
func meant(path, key string, names []string) string {
	if s := nearest(key, names); s != "" {
		return s
	}
	for _, p := range knownPaths {
		if p == key || strings.HasSuffix(p, "."+key) {
			if p != join(path, key) {
				return p
			}
		}
	}
	return ""
}

// list reads a sequence of at most limit elements.
func list(limit int, begin func(n int), each func(i int) reader) reader {
	return func(w *walker, n *yaml.Node, path string) {
		if !w.plain(n, path) {
			return
		}
		if n.Kind != yaml.SequenceNode {
			w.problem(n.Line, path, "", "is %s; it takes a list", kindName(n))
			return
		}
		if len(n.Content) > limit {
			w.problem(n.Line, path, "", "has %d elements; at most %d are taken", len(n.Content), limit)
			return
		}
		begin(len(n.Content))
		for i, c := range n.Content {
			p := fmt.Sprintf("%s[%d]", path, i)
			w.lines[p] = c.Line
			each(i)(w, c, p)
		}
	}
}

// scalar returns the text of a scalar of one of the given tags.
func (w *walker) scalar(n *yaml.Node, path, want string, tags ...string) (string, bool) {
	if !w.plain(n, path) {
		return "", false
	}
	if n.Kind != yaml.ScalarNode || !slices.Contains(tags, n.ShortTag()) {
		suggestion := ""
		if n.Kind == yaml.ScalarNode && slices.Contains(tags, "!!str") && len(n.Value) <= 64 {
			suggestion = strconv.Quote(n.Value)
		}
		w.problem(n.Line, path, suggestion, "is %s; it takes %s", kindName(n), want)
		return "", false
	}
	return n.Value, true
}

func text(dst *string, atLeast, atMost int) reader {
	return func(w *walker, n *yaml.Node, path string) {
		s, ok := w.scalar(n, path, "text", "!!str")
		switch {
		case !ok:
		case !utf8.ValidString(s):
			w.problem(n.Line, path, "", "is not valid UTF-8")
		case len(s) < atLeast || len(s) > atMost:
			w.problem(n.Line, path, "", "has %d bytes; it takes %d to %d", len(s), atLeast, atMost)
		default:
			*dst = s
		}
	}
}

func texts(dst *[]string, limit, atMost int) reader {
	return list(limit, func(n int) { *dst = make([]string, n) }, func(i int) reader { return text(&(*dst)[i], 1, atMost) })
}

// textMap reads a mapping of any keys to text.
func textMap(dst *map[string]string, limit, atMost int) reader {
	return func(w *walker, n *yaml.Node, path string) {
		if !w.plain(n, path) {
			return
		}
		if n.Kind != yaml.MappingNode || len(n.Content) > 2*limit {
			w.problem(n.Line, path, "", "takes a mapping of at most %d texts", limit)
			return
		}
		m := make(map[string]string, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			var k, v string
			text(&k, 1, 256)(w, n.Content[i], path)
			if _, ok := m[k]; ok {
				w.problem(n.Content[i].Line, join(path, clip(k)), "", "is set twice")
				continue
			}
			text(&v, 0, atMost)(w, n.Content[i+1], join(path, clip(k)))
			m[k] = v
		}
		*dst = m
	}
}

// oneOf reads one of a few words.
func oneOf(dst *string, words ...string) reader {
	return func(w *walker, n *yaml.Node, path string) {
		s, ok := w.scalar(n, path, "one of "+strings.Join(words, ", "), "!!str")
		if !ok {
			return
		}
		if !slices.Contains(words, s) {
			w.problem(n.Line, path, nearest(s, words), "%s is not known; it takes one of %s", quote(s), strings.Join(words, ", "))
			return
		}
		*dst = s
	}
}

func integer(dst *int64, lo, hi int64) reader {
	return func(w *walker, n *yaml.Node, path string) {
		if _, ok := w.scalar(n, path, "a whole number", "!!int"); !ok {
			return
		}
		var v int64
		if err := n.Decode(&v); err != nil || v < lo || v > hi {
			w.problem(n.Line, path, "", "%s is out of range; it takes %d to %d", clipNumber(n.Value), lo, hi)
			return
		}
		*dst = v
	}
}

// optionalInteger reads any int64 and tells it from none.
func optionalInteger(dst **int64) reader {
	return func(w *walker, n *yaml.Node, path string) {
		if _, ok := w.scalar(n, path, "a whole number", "!!int"); !ok {
			return
		}
		var v int64
		if err := n.Decode(&v); err != nil {
			w.problem(n.Line, path, "", "%s is out of range; it takes %d to %d", clipNumber(n.Value), int64(math.MinInt64), int64(math.MaxInt64))
			return
		}
		*dst = &v
	}
}

func number(dst *float64, lo, hi float64) reader {
	return func(w *walker, n *yaml.Node, path string) {
		if _, ok := w.scalar(n, path, "a number", "!!int", "!!float"); !ok {
			return
		}
		var v float64
		if err := n.Decode(&v); err != nil || !(v >= lo && v <= hi) {
			w.problem(n.Line, path, "", "%s is out of range; it takes %g to %g", clipNumber(n.Value), lo, hi)
			return
		}
		*dst = v
	}
}

func boolean(dst *bool) reader {
	return func(w *walker, n *yaml.Node, path string) {
		if _, ok := w.scalar(n, path, "true or false", "!!bool"); !ok {
			return
		}
		if err := n.Decode(dst); err != nil {
			w.problem(n.Line, path, "", "takes true or false")
		}
	}
}

func clipNumber(s string) string {
	if len(s) > 24 {
		return s[:24] + "..."
	}
	return s
}

// duration reads a duration from lo to hi; zero is taken besides when orZero.
func duration(dst *time.Duration, lo, hi time.Duration, orZero bool) reader {
	return func(w *walker, n *yaml.Node, path string) {
		s, ok := w.scalar(n, path, "a duration such as 90s or 168h", "!!str", "!!int")
		if !ok {
			return
		}
		d, err := parseDuration(s)
		if err != nil {
			w.value(n, path, err)
			return
		}
		if (d < lo || d > hi) && (d != 0 || !orZero) {
			zero := ""
			if orZero {
				zero = "0 or "
			}
			w.problem(n.Line, path, "", "%s is out of range; it takes %s%s to %s", formatDuration(d), zero, formatDuration(lo), formatDuration(hi))
			return
		}
		*dst = d
	}
}

func durations(dst *[]time.Duration, limit int, lo, hi time.Duration) reader {
	return list(limit, func(n int) { *dst = make([]time.Duration, n) }, func(i int) reader { return duration(&(*dst)[i], lo, hi, false) })
}

// size reads a size from lo to hi; zero is taken besides when orZero.
func size(dst *int64, lo, hi int64, orZero bool) reader {
	return func(w *walker, n *yaml.Node, path string) {
		s, ok := w.scalar(n, path, "a size such as 64MiB", "!!str", "!!int")
		if !ok {
			return
		}
		v, err := parseBytes(s)
		if err != nil {
			w.value(n, path, err)
			return
		}
		if (v < lo || v > hi) && (v != 0 || !orZero) {
			zero := ""
			if orZero {
				zero = "0 or "
			}
			w.problem(n.Line, path, "", "%s is out of range; it takes %s%s to %s", formatBytes(v), zero, formatBytes(lo), formatBytes(hi))
			return
		}
		*dst = v
	}
}

func (w *walker) value(n *yaml.Node, path string, err error) {
	var v *valueError
	if errors.As(err, &v) {
		w.problem(n.Line, path, v.suggestion, "%s", v.reason)
		return
	}
	w.problem(n.Line, path, "", "%v", err)
}
