package clickhousestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/headwater-db/headwater/consumers"
	"github.com/headwater-db/headwater/consumers/clusterstore"
)

// ClusterConfig says where a ClickHouse is.
type ClusterConfig struct {
	Name string // of the cluster, for people
	// URL is http://host:8123/database, https:// or clickhouse://host:9000/database, with
	// several hosts by commas and clickhouse-go's own parameters, as in ?secure=true.
	URL          string
	Username     string // default unless given, here or in the URL
	PasswordFile string // its first line; none: no password but that of the URL
	// MakeSchema makes the tables where they are missing, as they are first needed.
	MakeSchema bool
	// Timeout bounds one statement; 0 is 30 s.
	Timeout time.Duration
	Logger  *slog.Logger // nil logs nothing
}

// Cluster is the connections to one ClickHouse, for any number of stores and callers.
type Cluster struct {
	cfg    ClusterConfig
	conn   driver.Conn
	tables []*Table

	look *clusterstore.Look
	// reading are settings of this ClickHouse that reads have; set by the first look.
	reading clickhouse.Settings
}

// ParseURL checks the address of a cluster.
func ParseURL(url string) error {
	o, err := clickhouse.ParseDSN(url)
	scheme, _, _ := strings.Cut(url, "://")
	switch {
	case !slices.Contains([]string{"http", "https", "clickhouse", "tcp"}, scheme):
		return errors.New("it begins with neither http://, https:// nor clickhouse://")
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "clickhouse: "))
	case len(o.Addr) == 0 || o.Addr[0] == "":
		return errors.New("it names no host")
	case o.Auth.Database == "":
		return errors.New("it names no database, as in http://host:8123/headwater")
	}
	return nil
}

// Connect makes a cluster that has to have some tables. It does not wait for ClickHouse to answer.
func Connect(cfg ClusterConfig, tables ...*Table) (*Cluster, error) {
	if err := ParseURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("cluster %s: url: %w", cfg.Name, err)
	}
	o, err := clickhouse.ParseDSN(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: url: %w", cfg.Name, err)
	}
	if cfg.Username != "" {
		o.Auth.Username = cfg.Username
	}
	if cfg.PasswordFile != "" {
		b, err := os.ReadFile(cfg.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("cluster %s: password_file: %w", cfg.Name, err)
		}
		o.Auth.Password, _, _ = strings.Cut(string(b), "\n")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Compression == nil {
		o.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	o.DialTimeout = cmp.Or(o.DialTimeout, 15*time.Second) // with the first statement of a connection
	o.ReadTimeout = cfg.Timeout + 5*time.Second           // what a statement may take is said to ClickHouse
	o.MaxOpenConns, o.MaxIdleConns = 32, 8
	conn, err := clickhouse.Open(o)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", cfg.Name, err)
	}
	return &Cluster{cfg: cfg, conn: conn, tables: tables, look: clusterstore.NewLook()}, nil
}

// Close closes the connections.
func (c *Cluster) Close() error { return c.conn.Close() }

// Ready returns when the tables were seen, once for the life of the cluster; see clusterstore.Look.
func (c *Cluster) Ready(ctx context.Context) error {
	return c.look.Ready(ctx, func(ctx context.Context) error {
		check := c.CheckSchema
		if c.cfg.MakeSchema {
			check = c.ApplySchema
		}
		if err := check(ctx); err != nil {
			return err
		}
		return c.avoid(ctx)
	})
}

// avoid turns off what makes a ClickHouse that has it fail: 26.5 filters by the first rows of
// an order while it reads, and at times takes a value of another column for that of the first
// (code 53, in __topKFilter).
func (c *Cluster) avoid(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	const filtering = "use_top_k_dynamic_filtering"
	var has uint64
	if err := c.conn.QueryRow(ctx, "SELECT count() FROM system.settings WHERE name = '"+filtering+"'").Scan(&has); err != nil {
		return c.away("look at the settings", err)
	}
	if has > 0 {
		c.reading = clickhouse.Settings{filtering: 0}
	}
	return nil
}

// away is the error of a statement: ClickHouse's own words, or that it does not answer.
func (c *Cluster) away(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w: %s in cluster %s: %w", consumers.ErrStoreAway, what, c.cfg.Name, err)
}
