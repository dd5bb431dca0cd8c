package cli

import (
	"strings"
	"testing"

	"github.com/headwater-db/headwater/client"
)

// TestBars: the largest value has a whole bar, a small one a letter, none and less have none.
func TestBars(t *testing.T) {
	t.Parallel()
	res := &client.Aggregates{Groups: []client.EventGroup{
		{Values: map[string]float64{"n": 200}}, {Values: map[string]float64{"n": 100}}, {Values: map[string]float64{"n": 0.1}},
		{Values: map[string]float64{"n": 0}}, {Values: map[string]float64{"n": -5}}, {},
	}}
	bar := barsOf("n", res)
	for i, want := range []int{barLength, barLength / 2, 1, 0, 0, 0} {
		if got := bar(&res.Groups[i]); got != strings.Repeat("#", want) {
			t.Errorf("the bar of group %d is %q, not %d long", i, got, want)
		}
	}
}
