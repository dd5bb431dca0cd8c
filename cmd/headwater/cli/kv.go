package cli

import (
	"github.com/spf13/cobra"

	"github.com/headwater-db/headwater/client"
)

func kvCommand() *cobra.Command {
	cmd := asGroup(&cobra.Command{Use: "kv", Short: "Put, get, scan and delete items"})
	cmd.AddCommand(kvPutCommand(), kvGetCommand())
	return cmd
}

func kvPutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "put NAMESPACE ID KEY VALUE", Short: "Put an item", Args: args(cobra.ExactArgs(4)),
	}
	cmd.RunE = verb(nil, func(s *session, a []string) error {
		key, err := s.decode("KEY", a[2])
		if err != nil {
			return err
		}
		value, err := s.decode("VALUE", a[3])
		if err != nil {
			return err
		}
		_, err = s.KV(a[0]).PutItems(s.ctx, a[1], []client.PutItem{{Key: string(key), Value: value}}, client.WriteOptions{})
		return err
	})
	return cmd
}

func kvGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "get NAMESPACE ID KEY", Short: "Get an item", Args: args(cobra.ExactArgs(3)),
	}
	cmd.RunE = verb(nil, func(s *session, a []string) error {
		key, err := s.decode("KEY", a[2])
		if err != nil {
			return err
		}
		it, err := s.KV(a[0]).Get(s.ctx, a[1], string(key))
		if err != nil {
			return err
		}
		return s.printf("%s\n", s.encode(it.Value))
	})
	return cmd
}
