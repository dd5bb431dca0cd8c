package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func namespaceCommand() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "namespace", Aliases: []string{"ns"}, Short: "Create, change, list, delete and release namespaces"})
	cmd.AddCommand(namespaceApplyCommand(), namespaceGetCommand(), namespaceListCommand(), namespaceDeleteCommand(), namespaceReleaseCommand())
	return cmd
}

// maxDocument bounds a namespace document: no request is larger.
const maxDocument = 8 << 20

func namespaceApplyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or change a namespace by its document",
		Args:  Args(cobra.NoArgs),
	}
	file := cmd.Flags().StringP("file", "f", "", "the document, YAML or JSON; - is standard input")
	var o client.ApplyOptions
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what would change, change nothing")
	cmd.Flags().Int64Var(&o.BaseVersion, "base-version", 0, "fail if the namespace has another version; 0: whatever it has")
	cmd.RunE = verb(once, func(s *session, _ []string) error {
		doc, err := s.document(*file)
		if err != nil {
			return err
		}
		a, err := s.Namespaces().Apply(s.ctx, doc, o)
		if err != nil {
			return err
		}
		return s.applied(&a, o.DryRun)
	})
	return cmd
}

func (s *session) document(file string) (string, error) {
	if file == "" {
		return "", usagef("-f is missing; name the document, or - for standard input")
	}
	in := s.cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", usage(err)
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxDocument+1))
	if err != nil {
		return "", fmt.Errorf("read document: %w", err)
	}
	if len(b) > maxDocument {
		return "", usagef("%s has more than %d bytes", file, maxDocument)
	}
	return string(b), nil
}

func (s *session) applied(a *client.Applied, dryRun bool) error {
	if s.json {
		type change struct {
			Path string `json:"path"`
			From string `json:"from"`
			To   string `json:"to"`
		}
		changes := make([]change, len(a.Changes))
		for i, c := range a.Changes {
			changes[i] = change(c)
		}
		return s.line(map[string]any{"namespace": a.Name, "version": a.Version, "changes": changes, "dryRun": dryRun})
	}
	switch {
	case len(a.Changes) == 0:
		return s.printf("namespace %s: nothing changes, version %d\n", a.Name, a.Version)
	case dryRun && a.Version == 0:
		if err := s.printf("namespace %s would be created:\n", a.Name); err != nil {
			return err
		}
	case dryRun:
		if err := s.printf("namespace %s would change, version %d now:\n", a.Name, a.Version); err != nil {
			return err
		}
	default:
		if err := s.printf("namespace %s is at version %d:\n", a.Name, a.Version); err != nil {
			return err
		}
	}
	out := s.rows("SETTING", "FROM", "TO")
	for _, c := range a.Changes {
		if err := out.add(c.Path, dash(c.From), dash(c.To)); err != nil {
			return err
		}
	}
	return out.flush()
}

func dash(v string) string {
	if v == "" {
		return "-"
	}
	return printable(v)
}

// namespaceLine is a namespace in JSON.
type namespaceLine struct {
	Namespace   string    `json:"namespace"`
	Abstraction string    `json:"abstraction"`
	Version     int64     `json:"version"`
	UpdatedAt   time.Time `json:"updatedAt"`
	Incarnation string    `json:"incarnation"`
	Home        string    `json:"home"`
	Config      string    `json:"config"`
}

func namespaceLineOf(n *client.Namespace) namespaceLine {
	return namespaceLine{
		Namespace: n.Name, Abstraction: n.Abstraction, Version: n.Version, UpdatedAt: n.UpdatedAt, Incarnation: n.Incarnation, Home: n.Home, Config: n.Config,
	}
}

func namespaceGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get NAMESPACE",
		Short: "Print the document of a namespace",
		Args:  Args(cobra.ExactArgs(1)),
	}
	cmd.RunE = verb(once, func(s *session, a []string) error {
		n, err := s.Namespaces().Get(s.ctx, a[0])
		if err != nil {
			return err
		}
		if s.json {
			return s.line(namespaceLineOf(&n))
		}
		home := ""
		if n.Home != "" {
			home = ", home " + printable(n.Home)
		}
		return s.printf("# version %d, %s%s\n%s", n.Version, stamp(n.UpdatedAt), home, n.Config)
	})
	return cmd
}

func namespaceListCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List namespaces", Args: Args(cobra.NoArgs)}
	cmd.RunE = verb(once, func(s *session, _ []string) error {
		out := s.rows("NAMESPACE", "ABSTRACTION", "VERSION", "UPDATED")
		for n, err := range s.Namespaces().List(s.ctx) {
			if err != nil {
				return err
			}
			if s.json {
				err = s.line(namespaceLineOf(&n))
			} else {
				err = out.add(n.Name, n.Abstraction, strconv.FormatInt(n.Version, 10), stamp(n.UpdatedAt))
			}
			if err != nil {
				return err
			}
		}
		return out.flush()
	})
	return cmd
}

func namespaceDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAMESPACE --confirm NAMESPACE",
		Short: "Delete a namespace and all its data, for good",
		Args:  Args(cobra.ExactArgs(1)),
	}
	confirm := cmd.Flags().String("confirm", "", "the name once more")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		if *confirm != a[0] {
			return usagef("this deletes namespace %s and all its data, for good; to do it, add --confirm %s", printable(a[0]), printable(a[0]))
		}
		v, err := s.Namespaces().Delete(s.ctx, a[0], *confirm)
		if err != nil {
			return err
		}
		if s.json {
			return s.line(map[string]any{"namespace": a[0], "version": v})
		}
		return s.printf("namespace %s is deleted\n", a[0])
	})
	return cmd
}

func namespaceReleaseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "release NAMESPACE --confirm NAMESPACE",
		Short: "Take a namespace from its home, a data directory that is lost",
		Long: `Take a namespace from its home, a data directory that is lost, so that another
one takes it over. Only for a log on Kafka: the log must outlive the directory.

The first server that hears of it becomes the home. It rebuilds the store from
the log; where the log no longer has its beginning, it refuses, and names the
offsets that are missing. --dry-run says which it will be. The former home, should
it run or come back, serves the namespace no more and says so.

With --undo, sent to the former home: it is the home again, as long as no other
directory has been the home since.`,
		Args: Args(cobra.ExactArgs(1)),
	}
	confirm := cmd.Flags().String("confirm", "", "the name once more")
	var o client.ReleaseOptions
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "say what the next home will do, change nothing")
	cmd.Flags().BoolVar(&o.Undo, "undo", false, "make the server's own directory the home again")
	cmd.RunE = verb(once, func(s *session, a []string) error {
		name := printable(a[0])
		switch {
		case o.DryRun && *confirm == "":
			*confirm = a[0] // nothing is changed
		case *confirm != a[0] && o.Undo:
			return usagef("this makes the server's data directory the home of namespace %s again; to do it, add --confirm %s", name, name)
		case *confirm != a[0]:
			return usagef("this takes namespace %s from its home, which then serves it no more; to do it, add --confirm %s, or --dry-run to see what the next home will do", name, name)
		}
		r, err := s.Admin().Release(s.ctx, a[0], *confirm, o)
		if err != nil {
			return err
		}
		if s.json {
			return s.answer(r)
		}
		did := fmt.Sprintf("namespace %s is released from data directory %s", name, r.GetHome())
		switch {
		case o.DryRun && o.Undo:
			did = fmt.Sprintf("data directory %s would be the home of namespace %s again", r.GetHome(), name)
		case o.DryRun:
			did = fmt.Sprintf("namespace %s would be released from data directory %s", name, r.GetHome())
		case o.Undo:
			did = fmt.Sprintf("data directory %s is the home of namespace %s again", r.GetHome(), name)
		}
		return s.printf("%s\n%s\n", did, printable(r.GetNext()))
	})
	return cmd
}
