package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func TestANegativeNumberIsAnArgumentOfAVerbThatTakesOne(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"counter add ns c -3":                              "counter add -- ns c -3",
		"counter add ns c -3 --token k":                    "counter add --token k -- ns c -3",
		"counter add --floor -5 --get ns c -3":             "counter add --floor -5 --get -- ns c -3",
		"counter add --floor=-5 --get ns c 3 --token -7":   "counter add --floor=-5 --get --token -7 -- ns c 3",
		"--address a:1 counter add ns -1 -2 -o json":       "counter add --address a:1 -o json -- ns -1 -2",
		"counter add ns -ojson c -3":                       "counter add -ojson -- ns c -3",
		"counter add ns -- c -3":                           "counter add -- ns c -3",
		"counter add ns c -3x":                             "counter add ns c -3x",
		"counter add --help -3":                            "counter add --help -- -3",
		"counter reserve ns c -3":                          "counter reserve -- ns c -3",
		"counter get ns -3":                                "counter get ns -3",
		"kv put ns id key -3":                              "kv put ns id key -3",
		"counter ad ns c -3":                               "counter ad ns c -3",
		"counter add ns c -3 --token":                      "counter add --token -- ns c -3",
		"counter add ns c -9223372036854775808 --base64":   "counter add --base64 -- ns c -9223372036854775808",
		"counter add --saturate -3 --get ns c --ceiling 1": "counter add --saturate --get --ceiling 1 -- -3 ns c",
	} {
		root := &cobra.Command{Use: "headwater"}
		AddCommands(root)
		if got := withNegatives(root, strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%s:\n%v\nwant\n%v", in, got, want)
		}
	}
}

func TestSparklinesShowTheSumsOfTheirWindows(t *testing.T) {
	t.Parallel()
	points := func(sums ...int64) []client.CountPoint {
		p := make([]client.CountPoint, len(sums))
		for i, v := range sums {
			p[i].Sum = v
		}
		return p
	}
	many := make([]int64, 2*maxSparks+1)
	many[0], many[1], many[2*maxSparks] = 1, 1, 7
	for want, p := range map[string][]client.CountPoint{
		"▁▁  0 to 0":    points(0, 0),
		"▁▂█▅  0 to 7":  points(0, 1, 7, 4),
		"▁█▅  -7 to 0":  points(-7, 0, -3),
		"▁█▅▅  -5 to 5": points(-5, 5, 0, 0),
	} {
		if got := sparkline(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	got := sparkline(points(many...))
	line, scale, _ := strings.Cut(got, "  ")
	if n := len([]rune(line)); n != (len(many)+2)/3 || scale != "0 to 7, 3 windows each" || !strings.HasPrefix(line, "▃▁") || !strings.HasSuffix(line, "▁█") {
		t.Errorf("%q", got)
	}
}
