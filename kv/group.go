package kv

import (
	"bytes"
	"fmt"
)

// normalise orders a group so that its outcome is that of its mutations one
// after the other, although all carry one time: a put that a later delete covers
// is left out, and a delete that a later put survives is stamped one microsecond
// earlier. A key put twice is refused.
func normalise(r *Request) error {
	ms := r.Mutations
	if len(ms) == 1 {
		return uniqueKeys(&ms[0])
	}
	out := make([]Mutation, 0, len(ms))
	for i := range ms {
		m := ms[i]
		if err := uniqueKeys(&m); err != nil {
			return err
		}
		for j := range out {
			earlier := &out[j]
			if !bytes.Equal(earlier.ID, m.ID) {
				continue
			}
			if m.Op == OpPut {
				for k := range m.Items {
					if earlier.Op == OpPut && hasKey(earlier, m.Items[k].Key) {
						return fmt.Errorf("%w: %.64q", ErrDuplicateKey, m.Items[k].Key)
					}
					if covers(earlier, m.Items[k].Key) {
						earlier.Early = true
					}
				}
				continue
			}
			if earlier.Op == OpPut {
				kept := make([]Item, 0, len(earlier.Items))
				if earlier.Condition.Kind != Always && covers(&m, earlier.Items[0].Key) {
					return fmt.Errorf("%w: a conditional put of %.64q and then a delete", ErrDuplicateKey, earlier.Items[0].Key)
				}
				for k := range earlier.Items {
					if !covers(&m, earlier.Items[k].Key) {
						kept = append(kept, earlier.Items[k])
					}
				}
				earlier.Items = kept
			}
		}
		out = append(out, m)
	}
	r.Mutations = out
	return nil
}

// covers reports whether m deletes key.
func covers(m *Mutation, key []byte) bool {
	switch m.Op {
	case OpDeleteRecord:
		return true
	case OpDeleteRange:
		return m.Range.Contains(key)
	case OpDeleteKeys:
		for _, k := range m.Keys {
			if bytes.Equal(k, key) {
				return true
			}
		}
	}
	return false
}

func hasKey(m *Mutation, key []byte) bool {
	for i := range m.Items {
		if bytes.Equal(m.Items[i].Key, key) {
			return true
		}
	}
	return false
}

func uniqueKeys(m *Mutation) error {
	n := len(m.Items) + len(m.Keys)
	if n < 2 {
		return nil
	}
	seen := make(map[string]struct{}, n)
	twice := func(k []byte) error {
		if _, ok := seen[string(k)]; ok {
			return fmt.Errorf("%w: %.64q", ErrDuplicateKey, k)
		}
		seen[string(k)] = struct{}{}
		return nil
	}
	for i := range m.Items {
		if err := twice(m.Items[i].Key); err != nil {
			return err
		}
	}
	for _, k := range m.Keys {
		if err := twice(k); err != nil {
			return err
		}
	}
	return nil
}
