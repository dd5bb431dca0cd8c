package timeseries

import (
	"bytes"
	"slices"
)

// IndexKeys are the keys of the items that a slice has an index on, each as a blob, so that
// slices compare.
type IndexKeys string

// NewIndexKeys are those of a list, in the order of their bytes.
func NewIndexKeys(keys []string) IndexKeys {
	var b []byte
	for _, k := range slices.Sorted(slices.Values(keys)) {
		b = appendBlob(b, []byte(k))
	}
	return IndexKeys(b)
}

// Valid reports whether k is what NewIndexKeys makes.
func (k IndexKeys) Valid() bool {
	for b := []byte(k); len(b) > 0; {
		var ok bool
		if _, b, ok = blob(b); !ok {
			return false
		}
	}
	return true
}

// Has reports whether there is an index on a key.
func (k IndexKeys) Has(key []byte) bool {
	for b := []byte(k); len(b) > 0; {
		one, rest, ok := blob(b)
		if !ok {
			return false
		}
		if bytes.Equal(one, key) {
			return true
		}
		b = rest
	}
	return false
}

// Indexed is the condition that an index on keys may answer c by: c itself, or one of those
// that all have to hold. Nil: there is none. One value is better than a prefix, and that
// better than a range.
func (c *Condition) Indexed(keys IndexKeys) *Condition {
	if c == nil || keys == "" {
		return nil
	}
	switch c.Op {
	case And:
		var best *Condition
		for i := range c.Kids {
			if k := c.Kids[i].Indexed(keys); k != nil && (best == nil || indexRank(k) < indexRank(best)) {
				best = k
			}
		}
		return best
	case Equals, Prefix:
	case Range:
		if c.Lower == nil && c.Upper == nil {
			return nil
		}
	case Or, Not, Exists:
		return nil
	}
	if !keys.Has(c.Key) {
		return nil
	}
	return c
}

func indexRank(c *Condition) int {
	switch c.Op {
	case Equals:
		return 0
	case Prefix:
		return 1
	}
	return 2
}
