package counter

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestTableIsAMap runs random changes against a map, in a table small enough for
// long runs of probes.
func TestTableIsAMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		table, model := newTable(), make(map[string]*hot)
		names := rapid.IntRange(1, 400).Draw(t, "names")
		for range rapid.IntRange(1, 1000).Draw(t, "steps") {
			name := fmt.Sprintf("counter-%d", rapid.IntRange(0, names-1).Draw(t, "name"))
			if h := model[name]; h == nil {
				model[name] = &hot{name: name}
				table.put(model[name])
			} else if rapid.Bool().Draw(t, "remove") {
				delete(model, name)
				table.remove(h)
			}
		}
		var all [][]byte
		for i := range names {
			all = append(all, fmt.Appendf(nil, "counter-%d", i))
		}
		found := make([]*hot, len(all))
		table.lookup(all, make([]uint64, len(all)), found)
		for i, name := range all {
			if got := table.get(name); got != model[string(name)] || found[i] != got {
				t.Fatalf("get %s: %v, looked up %v, want %v", name, got, found[i], model[string(name)])
			}
		}
		if table.n != len(model) {
			t.Fatalf("%d counters, want %d", table.n, len(model))
		}
	})
}
