package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitUnavailable = 5
)

type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usage marks err as wrong usage.
func usage(err error) error { return usageError{err} }

func usagef(format string, a ...any) error { return usage(fmt.Errorf(format, a...)) }

type failure struct{ error }

func (e failure) Unwrap() error { return e.error }

// Failure marks err, unless it is nil, as one of exit code 1, whatever it wraps.
func Failure(err error) error {
	if err == nil {
		return nil
	}
	return failure{err}
}

// ExitCode is the exit code of an error: 0 none, 2 wrong usage, 3 not found, 4 a
// conflict of tokens, versions or conditions, or too little to reserve of, 5 the
// server cannot be reached or cannot serve this now (also when the time is over),
// 1 any other.
func ExitCode(err error) int {
	var u usageError
	var f failure
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &f):
		return exitFailure
	case errors.As(err, &u):
		return exitUsage
	case errors.Is(err, client.ErrNotFound):
		return exitNotFound
	case errors.Is(err, client.ErrConflict), errors.Is(err, client.ErrConditionFailed), errors.Is(err, client.ErrInsufficient):
		return exitConflict
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrOverloaded), errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable
	}
	return exitFailure
}

// PrintError writes err as one line, with what is needed to send a write again
// whose outcome is unknown.
func PrintError(w io.Writer, err error) {
	fmt.Fprintf(w, "error: %v\n", err)
	if e, ok := errors.AsType[*client.Error](err); ok && e.Outcome == client.Unknown && e.Token.Key != "" {
		if _, load := errors.AsType[*lineError](err); load {
			fmt.Fprintf(w, "to learn what became of it, load the same lines again with the same --token: what is done already is not done again\n")
			return
		}
		fmt.Fprintf(w, "to learn what became of it, run the same command again with --token %s\n", e.Token.Key)
	}
}

// Main runs root with the arguments of the process and returns the exit code. An
// error is printed on root's standard error.
func Main(ctx context.Context, root *cobra.Command) int {
	root.SetArgs(withNegatives(root, os.Args[1:]))
	err := root.ExecuteContext(ctx)
	if err != nil {
		PrintError(root.ErrOrStderr(), err)
	}
	return ExitCode(err)
}
