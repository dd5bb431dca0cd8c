package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/headwater-db/headwater/client"
)

func kvGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get NAMESPACE ID [KEY...]",
		Short: "Print items of a record",
		Long: `Print items of a record: the value by itself when one KEY is given, else a table.
Without KEY and --range, all items. The exit code is 3 when a KEY, or the whole
record, is not there.

A value by itself is its bytes and nothing else, in a file or a pipe; on a terminal
a newline follows, and what is no text is quoted. A table quotes what is no text;
-o json and --base64 have every byte.`,
		Args: Args(cobra.MinimumNArgs(2)),
	}
	span := cmd.Flags().String("range", "", rangeHelp)
	descending := cmd.Flags().Bool("descending", false, "greatest key first; =false: least key first (default as the namespace says)")
	above := cmd.Flags().Int("omit-values-above", 0, "leave out values of more bytes")
	limit := cmd.Flags().Int("limit", 0, "print at most so many items; 0: all")
	keysOnly := cmd.Flags().Bool("keys-only", false, "leave values out")
	after := afterFlag(cmd)
	fresh := consistencyFlag(cmd)
	cmd.RunE = verb(once, func(s *session, a []string) error {
		o := client.ReadOptions{
			Descending: *descending, Ascending: cmd.Flags().Changed("descending") && !*descending,
			Limit: *limit, OmitValues: *keysOnly, OmitValuesAbove: given(cmd, "omit-values-above", above), After: *after,
		}
		if *above < 0 {
			return usagef("--omit-values-above %d: it must not be negative", *above)
		}
		var err error
		if o.Consistency, err = consistency(*fresh); err != nil {
			return err
		}
		if len(a) > 2 && (*span != "" || cmd.Flags().Changed("descending")) {
			return usagef("KEY does not go together with --range and --descending")
		}
		if *span != "" {
			if o.Range, err = s.keyRange(*span); err != nil {
				return err
			}
		}
		if len(a) > 2 {
			if o.Keys, err = s.decodeAll("KEY", a[2:]); err != nil {
				return err
			}
		}
		if len(o.Keys) == 1 && !s.json && !o.OmitValues && o.OmitValuesAbove == nil {
			it, err := s.KV(a[0]).GetWith(s.ctx, a[1], o.Keys[0], o)
			if err != nil {
				return err
			}
			return s.raw(it.Value)
		}
		return s.get(a[0], a[1], o)
	})
	return cmd
}

func (s *session) get(namespace, id string, o client.ReadOptions) error {
	heading := []string{"KEY", "VALUE", "VERSION"}
	if o.OmitValues {
		heading = []string{"KEY", "SIZE", "VERSION"}
	}
	out, n := s.rows(heading...), 0
	missing := slices.Clone(o.Keys)
	for it, err := range s.KV(namespace).Items(s.ctx, id, o) {
		if err != nil {
			return err
		}
		n++
		missing = slices.DeleteFunc(missing, func(k string) bool { return k == it.Key })
		if s.json {
			err = s.line(s.itemLine(id, &it, omitted(&it, &o), false))
		} else {
			value := s.cell(it.Value)
			if !o.OmitValues && omitted(&it, &o) {
				value = fmt.Sprintf("(%d bytes)", it.Size)
			}
			if o.OmitValues {
				value = strconv.FormatInt(it.Size, 10)
			}
			err = out.add(s.cell([]byte(it.Key)), value, it.Version)
		}
		if err != nil {
			return err
		}
	}
	if err := out.flush(); err != nil {
		return err
	}
	switch {
	case len(missing) > 0 && o.Limit == 0:
		for i, k := range missing {
			missing[i] = s.cell([]byte(k))
		}
		return notFound(fmt.Sprintf("not there: %s", strings.Join(missing, ", ")))
	case n == 0 && o.Keys == nil && o.Range == nil:
		return notFound("there is no such record, or its items have expired")
	}
	return nil
}

// omitted reports whether the value of an item was left out.
func omitted(it *client.Item, o *client.ReadOptions) bool {
	return o.Omits(it.Size)
}

func notFound(message string) error { return &client.Error{Code: codes.NotFound, Message: message} }
