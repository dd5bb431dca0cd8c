package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func kvPutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "put NAMESPACE [ID KEY VALUE]",
		Short: "Put an item, or many from standard input",
		Long: `Put an item. It is durable when the command returns.

With NAMESPACE only, items are read from standard input, one JSON object a line:

  {"id": "user/42", "key": "name", "value": "Ada", "ttl": "1h"}

keyBase64 and valueBase64 take the place of key and value where those are not
text. What scan -o json prints can be put again. With --token KEY the token of a
line is KEY and its number, so that a load that was cut short can be run again.`,
		Args: Args(func(cmd *cobra.Command, a []string) error {
			if len(a) == 1 {
				return nil
			}
			return cobra.ExactArgs(4)(cmd, a)
		}),
	}
	ttl := cmd.Flags().Duration("ttl", 0, "the item expires after this long (default as the namespace says)")
	ifAbsent := cmd.Flags().Bool("if-absent", false, "put only if there is no such item")
	ifVersion := cmd.Flags().String("if-version", "", "put only if the item has this version")
	token := cmd.Flags().String("token", "", "name of this write: with the same name it happens once")
	contentType := cmd.Flags().String("content-type", "", "what the value is, kept with it")
	compression := cmd.Flags().String("compression", "", "compress the value: zstd or s2")
	many := func(_ *cobra.Command, a []string) bool { return len(a) == 1 }
	cmd.RunE = verb(many, func(s *session, a []string) error {
		if cmd.Flags().Changed("ttl") && *ttl <= 0 {
			return usagef("--ttl %v: it must be above zero", *ttl)
		}
		p := &put{s: s, kv: s.KV(a[0]), ttl: *ttl, contentType: *contentType, compression: *compression, token: *token,
			o: client.WriteOptions{IfAbsent: *ifAbsent, IfVersion: *ifVersion}}
		if len(a) == 1 {
			if *ifVersion != "" {
				return usagef("--if-version is for one item")
			}
			// What a condition finds depends on the lines before it.
			return s.load("items put", *ifAbsent, p.line)
		}
		key, err := s.decode("KEY", a[2])
		if err != nil {
			return err
		}
		value, err := s.decode("VALUE", a[3])
		if err != nil {
			return err
		}
		p.o.Token.Key = *token
		r, err := p.send(a[1], client.PutItem{Key: string(key), Value: value, TTL: *ttl, ContentType: *contentType}, p.o)
		if err != nil {
			return err
		}
		return s.wrote(&r)
	})
	return cmd
}

// put is one run of kv put.
type put struct {
	s           *session
	kv          *client.KV
	ttl         time.Duration
	contentType string
	compression string
	token       string
	o           client.WriteOptions
}

func (p *put) send(id string, it client.PutItem, o client.WriteOptions) (client.WriteResult, error) {
	it.Compression = p.compression
	return p.kv.PutItems(p.s.ctx, id, []client.PutItem{it}, o)
}

// line reads an item. Its token is made here, in the order of the lines, so that
// of two lines for one item the later wins, in whatever order they arrive.
func (p *put) line(n int, b []byte) (func() (func() error, error), error) {
	var l itemLine
	if err := unmarshal(b, &l); err != nil {
		return nil, err
	}
	key, err := p.s.bytesOf("key", l.Key, l.KeyBase64)
	if err != nil {
		return nil, err
	}
	value, err := p.s.bytesOf("value", l.Value, l.ValueBase64)
	if err != nil {
		return nil, err
	}
	it := client.PutItem{Key: string(key), Value: value, TTL: p.ttl, ContentType: p.contentType}
	if l.TTL != "" {
		if it.TTL, err = time.ParseDuration(l.TTL); err != nil || it.TTL <= 0 {
			return nil, usagef("ttl %q: use a duration above zero such as 90s", l.TTL)
		}
	} else if l.ExpiresAt != nil { // of an item that was printed
		if it.TTL = time.Until(*l.ExpiresAt); it.TTL <= 0 {
			return func() (func() error, error) { return func() error { return nil }, nil }, nil
		}
	}
	if l.ContentType != "" {
		it.ContentType = l.ContentType
	}
	o := p.o
	o.Token = lineToken(p.s, p.token, n)
	return func() (func() error, error) {
		r, err := p.send(l.ID, it, o)
		return func() error {
			if !p.s.json {
				return nil
			}
			w := writeLineOf(&r)
			w.ID, w.Key, w.KeyBase64 = l.ID, l.Key, l.KeyBase64
			return p.s.line(w)
		}, err
	}, nil
}
