package cli

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// takesNegatives marks, as an annotation, a verb with an argument that may be a
// negative number, which would be taken for flags.
const takesNegatives = "negatives"

var negative = regexp.MustCompile(`^-[0-9]+$`)

// withNegatives returns args so that a negative number is an argument of a verb
// that takes one: all flags first, then "--", then the arguments in their order.
// The arguments of other verbs are left as they are.
func withNegatives(root *cobra.Command, args []string) []string {
	if !slices.ContainsFunc(args, negative.MatchString) {
		return args
	}
	cmd, rest, err := root.Find(args)
	if err != nil || cmd.Annotations[takesNegatives] == "" {
		return args // the command says what is wrong
	}
	var flags, positional []string
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		switch {
		case a == "--":
			positional = append(positional, rest[i+1:]...)
			i = len(rest)
		case !strings.HasPrefix(a, "-") || a == "-" || negative.MatchString(a):
			positional = append(positional, a)
		default:
			flags = append(flags, a)
			if takesNext(cmd, a) && i+1 < len(rest) {
				i++
				flags = append(flags, rest[i])
			}
		}
	}
	out := strings.Fields(cmd.CommandPath())[1:]
	out = append(append(out, flags...), "--")
	return append(out, positional...)
}

// takesNext reports whether the value of a flag is the argument behind it.
func takesNext(cmd *cobra.Command, a string) bool {
	var f *pflag.Flag
	switch {
	case strings.Contains(a, "="):
		return false
	case strings.HasPrefix(a, "--"):
		f = cmd.Flag(a[2:])
	case len(a) == 2:
		if f = cmd.Flags().ShorthandLookup(a[1:]); f == nil {
			f = cmd.InheritedFlags().ShorthandLookup(a[1:])
		}
	}
	return f != nil && f.NoOptDefVal == ""
}
