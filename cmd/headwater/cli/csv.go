package cli

import (
	"encoding/csv"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const csvOutput = "csv"

// withCSV marks a verb whose rows are printed by rows alone, so that they can be CSV.
func withCSV(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{csvOutput: "yes"}
	return cmd
}

func hasCSV(cmd *cobra.Command) bool { return cmd.Annotations[csvOutput] != "" }

// csvRows prints rows as CSV: a heading in small letters, then every cell as it is.
type csvRows struct {
	w    *csv.Writer
	head []string
}

func (r *csvRows) add(cells []string) error {
	if r.head != nil {
		head := make([]string, len(r.head))
		for i, h := range r.head {
			head[i] = strings.ToLower(h)
		}
		r.head = nil
		if err := r.w.Write(head); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	if err := r.w.Write(cells); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func (r *csvRows) flush() error {
	r.w.Flush()
	if err := r.w.Error(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// shown is a text as a cell has it: CSV has its bytes, a table what a terminal can show.
func (s *session) shown(t string) string {
	if s.csv {
		return t
	}
	return printable(t)
}
