package namespace

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The units of sizes.
const (
	kib int64 = 1 << 10
	mib int64 = 1 << 20
	gib int64 = 1 << 30
	tib int64 = 1 << 40
)

var byteUnits = []struct {
	name string
	size int64
}{{"TiB", tib}, {"GiB", gib}, {"MiB", mib}, {"KiB", kib}, {"B", 1}}

// valueError is why a scalar cannot be read, and what may have been meant.
type valueError struct{ reason, suggestion string }

func (e *valueError) Error() string { return e.reason }

// parseDuration reads "168h", "1h30m", "0".
func parseDuration(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, nil
	}
	e := &valueError{reason: fmt.Sprintf("%s is not a duration; write it with ns, us, ms, s, m or h, as in 90s or 168h", quote(s))}
	for unit, hours := range map[string]int64{"d": 24, "w": 168} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			if v, err := strconv.ParseInt(n, 10, 32); err == nil && v >= 0 {
				e.suggestion = fmt.Sprintf("%dh", v*hours)
			}
		}
	}
	if v, err := strconv.ParseInt(s, 10, 32); err == nil && v > 0 {
		e.suggestion = fmt.Sprintf("%ds", v)
	}
	return 0, e
}

// formatDuration is the shortest text that parseDuration reads as d.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// parseBytes reads "50GiB", "1048576".
func parseBytes(s string) (int64, error) {
	bad := &valueError{reason: fmt.Sprintf("%s is not a size; write a whole number with B, KiB, MiB, GiB or TiB, as in 64MiB", quote(s))}
	digits := strings.TrimRight(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	unit := s[len(digits):]
	digits = strings.TrimSuffix(digits, " ")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return 0, bad
	}
	if unit == "" {
		return int64(n), nil
	}
	for _, u := range byteUnits {
		if unit == u.name {
			if int64(n) > math.MaxInt64/u.size {
				return 0, &valueError{reason: fmt.Sprintf("%s is too large", quote(s))}
			}
			return int64(n) * u.size, nil
		}
	}
	if u := strings.ToUpper(unit[:1]); strings.Contains("KMGT", u) && len(unit) <= 3 {
		bad.suggestion = digits + u + "iB"
	}
	return 0, bad
}

// formatBytes is the shortest text that parseBytes reads as n.
func formatBytes(n int64) string {
	if n == 0 {
		return "0"
	}
	for _, u := range byteUnits {
		if n%u.size == 0 && u.size > 1 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// quote shows input in an error: quoted, escaped, at most 64 bytes of it.
func quote(s string) string {
	if len(s) > 64 {
		s = s[:64]
		for len(s) > 0 && !utf8.ValidString(s) && utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
		return strconv.Quote(s) + "..."
	}
	return strconv.Quote(s)
}

// nearest returns the candidate that s is a mistyping or the beginning of, or
// "".
func nearest(s string, candidates []string) string {
	if len(s) > 64 {
		return ""
	}
	s = strings.ToLower(s)
	best, bestDistance := "", max(1, len(s)/3)+1
	for _, c := range candidates {
		if d := distance(s, strings.ToLower(c)); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" && len(s) >= 4 {
		if i := slices.IndexFunc(candidates, func(c string) bool { return strings.HasPrefix(strings.ToLower(c), s) }); i >= 0 {
			return candidates[i]
		}
	}
	return best
}

// distance is the number of single-byte edits and swaps of neighbours between
// a and b (optimal string alignment).
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	cur := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(last[j]+1, cur[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, last, cur = last, cur, before
	}
	return last[len(b)]
}
