package cli

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

// DefaultAddress is where `headwater dev` serves gRPC.
const DefaultAddress = "127.0.0.1:7081"

// Names of the flags that every verb has.
const (
	flagAddress = "address"
	flagOutput  = "output"
	flagTimeout = "timeout"
	flagBase64  = "base64"
)

const (
	table = "table"
	jsonl = "json"
)

// AddCommands adds the verbs to root, and the flags that all of them share:
// --address, -o/--output, --timeout and --base64. It makes root print its help
// when it is called without a verb, and refuse a verb that there is not.
func AddCommands(root *cobra.Command) {
	f := root.PersistentFlags()
	f.String(flagAddress, "", "gRPC address of the server (default $HEADWATER_ADDRESS, else "+DefaultAddress+")")
	f.StringP(flagOutput, "o", table, "output: table or json (one object a line); csv of ts")
	f.Duration(flagTimeout, 10*time.Second, "give up after this long; what streams, loads or waits does not")
	f.Bool(flagBase64, false, "keys and values are base64, on the command line and in the output")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	root.SilenceErrors, root.SilenceUsage = true, true
	if root.RunE == nil && root.Run == nil {
		asGroup(root)
	}
	root.AddCommand(kvCommand(), counterCommand(), tsCommand(), logCommand(), dlqCommand(), namespaceCommand(), storeCommand(), rebuildCommand(), jobsCommand(), statusCommand())
}

// NoClientFlags refuses the flags of verbs on a command that asks no server.
func NoClientFlags(cmd *cobra.Command) (err error) {
	for _, name := range []string{flagAddress, flagOutput, flagTimeout, flagBase64} {
		if cmd.Flags().Changed(name) {
			err = errors.Join(err, usagef("--%s is of commands that ask a server; %s takes it not", name, cmd.CommandPath()))
		}
	}
	return err
}

// asGroup makes cmd a parent of verbs only.
func asGroup(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := ""
		cmd.SuggestionsMinimumDistance = 2
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			hint = "; did you mean " + strings.Join(s, " or ") + "?"
		}
		return usagef("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
	}
	return cmd
}

// given is what a flag was given, nil where it was not.
func given[T any](cmd *cobra.Command, flag string, v *T) *T {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return v
}

// Args wraps a check of arguments so that it fails as wrong usage.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usagef("%w; usage: %s", err, cmd.UseLine())
		}
		return nil
	}
}

// Address is the server that cmd is to talk to: the flag, else the environment,
// else the default.
func Address(cmd *cobra.Command) (string, error) {
	a, err := cmd.Flags().GetString(flagAddress)
	if err != nil {
		return "", err
	}
	if a == "" {
		a = os.Getenv("HEADWATER_ADDRESS")
	}
	if a == "" {
		a = DefaultAddress
	}
	return a, nil
}

// Connect returns a client for a verb. The caller closes it.
func Connect(cmd *cobra.Command, cfg client.Config) (*client.Client, error) {
	address, err := Address(cmd)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(address, cfg)
	if err != nil {
		return nil, usage(err)
	}
	return c, nil
}

// session is one run of a verb.
type session struct {
	*client.Client
	cmd    *cobra.Command
	ctx    context.Context
	json   bool
	csv    bool // of the verbs of withCSV
	base64 bool
	// terminal: standard output is one.
	terminal bool
}

// streams is a verb that may run for longer than --timeout, which then bounds
// each of its requests; once is one that may not.
func streams(*cobra.Command, []string) bool { return true }

func once(*cobra.Command, []string) bool { return false }

// verb makes the RunE of a verb: it reads the shared flags, connects, and bounds
// the time unless the verb is a stream.
func verb(stream func(cmd *cobra.Command, args []string) bool, run func(s *session, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		s := &session{cmd: cmd, ctx: cmd.Context(), terminal: isTerminal(cmd.OutOrStdout())}
		if s.ctx == nil {
			s.ctx = context.Background()
		}
		f := cmd.Flags()
		output, err := f.GetString(flagOutput)
		if err != nil {
			return err
		}
		switch output {
		case table:
		case jsonl:
			s.json = true
		case csvOutput:
			if s.csv = hasCSV(cmd); !s.csv {
				return usagef("--output csv: this command prints table or json; ts read, search, aggregate, list and slices print csv too")
			}
		default:
			return usagef("--output %q: use table or json, or csv of ts", output)
		}
		if s.base64, err = f.GetBool(flagBase64); err != nil {
			return err
		}
		timeout, err := f.GetDuration(flagTimeout)
		if err != nil {
			return err
		}
		if timeout <= 0 {
			return usagef("--timeout %v: it must be above zero", timeout)
		}
		if s.Client, err = Connect(cmd, client.Config{FailFast: true, Timeout: timeout}); err != nil {
			return err
		}
		defer func() {
			if cerr := s.Close(); err == nil {
				err = cerr
			}
		}()
		if !stream(cmd, args) {
			var cancel context.CancelFunc
			s.ctx, cancel = context.WithTimeout(s.ctx, timeout)
			defer cancel()
		}
		return run(s, args)
	}
}
