package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func kvCommand() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "kv", Short: "Put, get, scan and delete items of a key-value namespace"})
	cmd.AddCommand(kvPutCommand(), kvGetCommand(), kvScanCommand(), kvDeleteCommand())
	return cmd
}

// itemLine is an item in JSON. What scan and get print, put reads.
type itemLine struct {
	ID          string     `json:"id"`
	Key         *string    `json:"key,omitempty"`
	KeyBase64   *string    `json:"keyBase64,omitempty"`
	Value       *string    `json:"value,omitempty"`
	ValueBase64 *string    `json:"valueBase64,omitempty"`
	TTL         string     `json:"ttl,omitempty"`
	ContentType string     `json:"contentType,omitempty"`
	Version     string     `json:"version,omitempty"`
	WrittenAt   *time.Time `json:"writtenAt,omitempty"`
	ExpiresAt   *time.Time `json:"expiresAt,omitempty"`
	Size        int64      `json:"size,omitempty"`
	Compression string     `json:"compression,omitempty"`
	Parked      bool       `json:"parked,omitempty"`
}

func (s *session) itemLine(id string, it *client.Item, omitValue, parked bool) itemLine {
	l := itemLine{
		ID: id, Version: it.Version, WrittenAt: &it.WrittenAt, Size: it.Size, Compression: it.Compression,
		ContentType: it.ContentType, Parked: parked,
	}
	k := s.text([]byte(it.Key))
	l.Key, l.KeyBase64 = k.Text, k.Bytes
	if !omitValue {
		v := s.text(it.Value)
		l.Value, l.ValueBase64 = v.Text, v.Bytes
	}
	if !it.ExpiresAt.IsZero() {
		l.ExpiresAt = &it.ExpiresAt
	}
	return l
}

// writeLine is an acknowledged write in JSON.
type writeLine struct {
	ID         string            `json:"id,omitempty"`
	Key        *string           `json:"key,omitempty"`
	KeyBase64  *string           `json:"keyBase64,omitempty"`
	Versions   []string          `json:"versions,omitempty"`
	Position   string            `json:"position"`
	Durability client.Durability `json:"durability"`
	Duplicate  client.Duplicate  `json:"duplicate"`
	Token      string            `json:"token"`
	MessageID  string            `json:"messageId,omitempty"`
}

func writeLineOf(r *client.WriteResult) writeLine {
	return writeLine{Versions: r.Versions, Position: r.Position, Durability: r.Durability, Duplicate: r.Duplicate, Token: r.Token.String(), MessageID: r.MessageID}
}

// wrote prints an acknowledged write.
func (s *session) wrote(r *client.WriteResult) error {
	if s.json {
		return s.line(writeLineOf(r))
	}
	t := "durability " + string(r.Durability)
	if len(r.Versions) > 0 {
		t += ", version " + strings.Join(r.Versions, " ")
	}
	if r.Duplicate == client.Repeated {
		t += ", a repetition: the first request with this token counts"
	}
	return s.printf("%s\n", t)
}

func consistencyFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("consistency", "namespace", "read_your_writes, latest, eventual, or namespace: as the namespace says")
}

func afterFlag(cmd *cobra.Command) *[]string {
	return cmd.Flags().StringArray("after", nil, "wait until this position is applied; may be repeated")
}

func consistency(v string) (client.Consistency, error) {
	switch strings.ToLower(v) {
	case "namespace":
		return client.AsConfigured, nil
	case "read_your_writes":
		return client.ReadYourWrites, nil
	case "latest":
		return client.Latest, nil
	case "eventual":
		return client.Eventual, nil
	}
	return 0, usagef("--consistency %q: use read_your_writes, latest, eventual or namespace", v)
}

// keyRange reads --range.
func (s *session) keyRange(v string) (*client.Range, error) {
	start, end, ok := strings.Cut(v, ":")
	if !ok {
		return nil, usagef("--range %q: use START:END; either may be empty", v)
	}
	ends, err := s.decodeAll("--range", []string{start, end})
	if err != nil {
		return nil, err
	}
	return &client.Range{Start: ends[0], End: ends[1]}, nil
}

const rangeHelp = "START:END, keys from START up to END, which is not included; either may be empty (a key with a colon: --base64)"

func kvDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete NAMESPACE ID [KEY...]",
		Short: "Delete items, a range of them, or a whole record",
		Long:  "Delete items of a record; without KEY and --range the whole record. What is not there is no error.",
		Args:  Args(cobra.MinimumNArgs(2)),
	}
	span := cmd.Flags().String("range", "", rangeHelp)
	ifVersion := cmd.Flags().String("if-version", "", "delete the one KEY only if it has this version")
	token := cmd.Flags().String("token", "", "name of this write: with the same name it happens once")
	cmd.RunE = verb(once, func(s *session, a []string) (err error) {
		w := client.Which{}
		switch {
		case *span != "" && len(a) > 2:
			return usagef("KEY and --range do not go together")
		case *span != "":
			w.Range, err = s.keyRange(*span)
		case len(a) > 2:
			w.Keys, err = s.decodeAll("KEY", a[2:])
		default:
			w.All = true
		}
		if err != nil {
			return err
		}
		r, err := s.KV(a[0]).DeleteItems(s.ctx, a[1], w, client.WriteOptions{Token: client.Token{Key: *token}, IfVersion: *ifVersion})
		if err != nil {
			return err
		}
		return s.wrote(&r)
	})
	return cmd
}

func kvScanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "scan NAMESPACE",
		Short: "Print every item of a namespace",
		Long: `Print every item of a namespace. With --position, the position that the scan is
as of is printed to standard error at its end: log tail --from POSITION prints
what was written since, so that both together are everything.`,
		Args: Args(cobra.ExactArgs(1)),
	}
	shard := cmd.Flags().String("shard", "", "INDEX/OF: print one of OF parts, INDEX from 0")
	keysOnly := cmd.Flags().Bool("keys-only", false, "leave values out")
	limit := cmd.Flags().Int("limit", 0, "stop after so many items; 0: all")
	fresh, after := consistencyFlag(cmd), afterFlag(cmd)
	position := cmd.Flags().Bool("position", false, "at the end, print to standard error where log tail goes on")
	cmd.RunE = verb(streams, func(s *session, a []string) error {
		switch {
		case *limit < 0:
			return usagef("--limit %d: it must not be negative", *limit)
		case *limit > 0 && *position:
			return usagef("--position tells of a whole scan; it does not go together with --limit")
		}
		var asOf client.AsOf
		o := client.ScanOptions{OmitValues: *keysOnly, After: *after, AsOf: &asOf}
		var err error
		if o.Consistency, err = consistency(*fresh); err != nil {
			return err
		}
		if *shard != "" {
			i, of, ok := strings.Cut(*shard, "/")
			var ierr, oerr error
			o.Shard, ierr = strconv.Atoi(i)
			o.Of, oerr = strconv.Atoi(of)
			if !ok || ierr != nil || oerr != nil || o.Of < 1 || o.Shard < 0 || o.Shard >= o.Of {
				return usagef("--shard %q: use INDEX/OF with INDEX from 0 to OF-1", *shard)
			}
		}
		heading := []string{"ID", "KEY", "VALUE", "VERSION"}
		if *keysOnly {
			heading = []string{"ID", "KEY", "SIZE", "VERSION"}
		}
		out, n := s.rows(heading...), 0
		for rec, err := range s.KV(a[0]).Scan(s.ctx, o) {
			if err != nil {
				return err
			}
			for i := range rec.Items {
				if err := s.scanned(out, &rec, &rec.Items[i], *keysOnly); err != nil {
					return err
				}
				if n++; n == *limit {
					return out.flush()
				}
			}
		}
		if err := out.flush(); err != nil || !*position {
			return err
		}
		_, err = fmt.Fprintln(cmd.ErrOrStderr(), asOf.Position)
		return err
	})
	return cmd
}

func (s *session) scanned(out *rows, rec *client.Record, it *client.Item, keysOnly bool) error {
	if s.json {
		return s.line(s.itemLine(rec.ID, it, keysOnly, rec.Parked))
	}
	value := s.cell(it.Value)
	if keysOnly {
		value = strconv.FormatInt(it.Size, 10)
	}
	return out.add(printable(rec.ID), s.cell([]byte(it.Key)), value, it.Version)
}
