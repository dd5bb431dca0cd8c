// Command planted shows that the tests find what they are there for: it copies the
// tree, plants one bug at a time, and expects the test that the bug names to fail.
//
//	go run ./deploy/planted [name...]     all bugs when none is named
//
// It prints how each was found and a table, and exits with 1 when a bug does not apply or does not
// compile, when its test stays green, or when the test fails without the bug. A
// bug is a file in deploy/planted/bugs; see bug.go for its form. The tree itself
// is never changed.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) (err error) {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	bugs, err := readBugs(filepath.Join(root, "deploy", "planted", "bugs"), names)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "headwater-planted")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &tree{root: root, dir: dir}
	if err := t.copy(); err != nil {
		return err
	}
	// A test that fails anyway proves nothing.
	sound := make(map[test]error)
	for _, b := range bugs {
		if _, done := sound[b.test]; done {
			continue
		}
		fmt.Fprintf(os.Stderr, "planted: %s without any bug\n", b.test)
		red, out, err := t.run(ctx, b.test)
		if err == nil && red {
			err = fmt.Errorf("fails without the bug\n%s", out)
		}
		sound[b.test] = err
	}
	table := "BUG\tTEST\tRESULT\tSECONDS\n"
	var errs []error
	for _, b := range bugs {
		began := time.Now()
		result := "red, as it should be"
		err := sound[b.test]
		if err == nil {
			fmt.Fprintf(os.Stderr, "planted: %s\n", b.name)
			var how string
			if how, err = t.try(ctx, b); err == nil {
				fmt.Fprintf(os.Stderr, "\t%s\n", how)
			}
		}
		if err != nil {
			result = "NOT FOUND"
			errs = append(errs, fmt.Errorf("%s: %w", b.name, err))
		}
		table += fmt.Sprintf("%s\t%s\t%s\t%.0f\n", b.name, b.test, result, time.Since(began).Seconds())
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	if _, err := w.Write([]byte(table)); err != nil {
		errs = append(errs, fmt.Errorf("print the table: %w", err))
	}
	if err := w.Flush(); err != nil {
		errs = append(errs, fmt.Errorf("print the table: %w", err))
	}
	return errors.Join(errs...)
}

// moduleRoot is the directory with go.mod, from here upwards.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find the module: no go.mod here or above")
		}
		dir = up
	}
}
