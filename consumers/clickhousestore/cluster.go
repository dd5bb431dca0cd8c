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
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/headwater-db/headwater/consumers"
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

	ready atomic.Bool // the schema was seen
	// reading are settings of this ClickHouse that reads have; set before ready.
	reading clickhouse.Settings
	// turn is had by the one caller that looks at the schema, and guards what follows.
	turn   chan struct{}
	looked time.Time // when it was last looked at in vain
	failed error
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
	return &Cluster{cfg: cfg, conn: conn, tables: tables, turn: make(chan struct{}, 1)}, nil
}

// Close closes the connections.
func (c *Cluster) Close() error { return c.conn.Close() }

// lookAgain is how long the answer of one look at a ClickHouse that is away is given to others.
const lookAgain = 500 * time.Millisecond

// Ready returns when the tables were seen, once for the life of the cluster. One caller at a time
// looks; the others wait no longer than they may.
func (c *Cluster) Ready(ctx context.Context) error {
	if c.ready.Load() {
		return nil
	}
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-c.turn }()
	if c.ready.Load() {
		return nil
	}
	if c.failed != nil && time.Since(c.looked) < lookAgain {
		return c.failed
	}
	check := c.CheckSchema
	if c.cfg.MakeSchema {
		check = c.ApplySchema
	}
	err := check(ctx)
	if err == nil {
		err = c.avoid(ctx)
	}
	if err == nil {
		c.ready.Store(true)
		return nil
	}
	if ctx.Err() == nil { // else it is this caller's time that was over
		c.failed, c.looked = err, time.Now()
	}
	return err
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
