package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/headwater-db/headwater/consumers/cassandrastore"
	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/consumers/clusterstore"
	"github.com/headwater-db/headwater/counter/cassandracounter"
	"github.com/headwater-db/headwater/counter/clickhousecounter"
	"github.com/headwater-db/headwater/kv/cassandrakv"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries/clickhousets"
)

// The types of clusters, and of the stores that are on them.
const (
	cassandraType  = "cassandra"
	clickhouseType = "clickhouse"
	kafkaType      = "kafka" // of no store: messages are delivered there
)

// storeTypes are those of clusters that stores are on.
var storeTypes = []string{cassandraType, clickhouseType}

// Cluster is a server beside this one that stores may be on, or messages go to.
type Cluster struct {
	Type                   string // cassandra, clickhouse or kafka
	Username, PasswordFile string
	// Of ClickHouse; see clickhousestore.ClusterConfig.
	URL string
	// Of Cassandra; see cassandrastore.ClusterConfig.
	Hosts       []string
	Keyspace    string
	Replication map[string]int
	Consistency string
	// Of Kafka.
	Brokers []string
	SASL    KafkaSecurity // its Mechanism, Username and PasswordFile
	TLS     *TLSFiles     // nil: in the clear
}

// HasTables reports whether stores are on the cluster: it has a schema then, and a Connection.
func (c *Cluster) HasTables() bool { return slices.Contains(storeTypes, c.Type) }

// Connection is the connections of a cluster.
type Connection interface {
	// Schema is the statements that make what stores need there.
	Schema() []string
	// CheckSchema says what is missing, ApplySchema makes it, Ready does either once.
	CheckSchema(ctx context.Context) error
	ApplySchema(ctx context.Context) error
	Ready(ctx context.Context) error
	// Forget removes what belongs to the store in a directory.
	Forget(ctx context.Context, dir string) error
	Close() error
}

// Check finds what the cluster need not be asked about. The error begins with the setting.
func (c *Cluster) Check(name string) error {
	switch c.Type {
	case "":
		return fmt.Errorf("type: is missing; it takes cassandra, clickhouse or kafka")
	case kafkaType:
		return c.checkKafka()
	case clickhouseType:
		switch {
		case c.URL == "":
			return errors.New("url: is missing, as in http://clickhouse:8123/headwater or clickhouse://clickhouse:9000/headwater")
		case c.ofCassandra() || c.TLS != nil:
			return errors.New("hosts, keyspace, replication, consistency and tls are of cassandra; a clickhouse has a url")
		case c.ofKafka():
			return errOfKafka
		}
		if err := clickhousestore.ParseURL(c.URL); err != nil {
			return fmt.Errorf("url: %w", err)
		}
		return nil
	case cassandraType:
		switch {
		case c.URL != "":
			return errors.New("url: is of clickhouse; a cassandra has hosts and a keyspace")
		case c.ofKafka():
			return errOfKafka
		}
		cfg := c.cassandra(name)
		return cfg.Check()
	}
	return fmt.Errorf("type: %.64q is not known; it takes cassandra, clickhouse or kafka", c.Type)
}

var errOfKafka = errors.New("brokers and sasl are of kafka")

func (c *Cluster) ofKafka() bool { return len(c.Brokers) > 0 || c.SASL != KafkaSecurity{} }

func (c *Cluster) ofCassandra() bool {
	return len(c.Hosts) > 0 || c.Keyspace != "" || c.Replication != nil || c.Consistency != ""
}

func (c *Cluster) checkKafka() error {
	switch {
	case len(c.Brokers) == 0:
		return errors.New("brokers: is missing, as in [kafka-1:9092, kafka-2:9092]")
	case c.ofCassandra() || c.URL != "":
		return errors.New("hosts, keyspace, replication and consistency are of cassandra, url of clickhouse; a kafka has brokers")
	case c.Username != "" || c.PasswordFile != "":
		return errors.New("username and password_file of a kafka stand in sasl")
	}
	return nil
}

// kafkaOpts are those of every connection to the brokers of a Kafka.
func (c *Cluster) kafkaOpts() ([]kgo.Opt, error) {
	k := c.SASL
	k.TLS = c.TLS
	return k.opts()
}

func (c *Cluster) cassandra(name string) cassandrastore.ClusterConfig {
	return cassandrastore.ClusterConfig{
		Name: name, Hosts: c.Hosts, Keyspace: c.Keyspace, Replication: c.Replication, Consistency: c.Consistency,
		Username: c.Username, PasswordFile: c.PasswordFile,
	}
}

// Connect makes the connections of a cluster, which has to have the tables of every abstraction.
// It does not wait for an answer. logger may be nil.
func (c *Cluster) Connect(name string, makeSchema bool, logger *slog.Logger) (Connection, error) {
	if c.Type == clickhouseType {
		return clickhousestore.Connect(clickhousestore.ClusterConfig{
			Name: name, URL: c.URL, Username: c.Username, PasswordFile: c.PasswordFile, MakeSchema: makeSchema, Logger: logger,
		}, clickhousets.Table, clickhousecounter.Table)
	}
	cfg := c.cassandra(name)
	cfg.MakeSchema, cfg.Logger = makeSchema, logger
	if c.TLS != nil {
		var err error
		if cfg.TLS, err = c.TLS.config(); err != nil {
			return nil, fmt.Errorf("cluster %s: tls: %w", name, err)
		}
	}
	return cassandrastore.Connect(cfg, slices.Concat(cassandrakv.Tables, cassandracounter.Tables)...)
}

// errNoCluster: a store is in a cluster that this process is not configured with. A start with the
// right configuration mends it.
var errNoCluster = errors.New("the cluster is not in the configuration of this process")

// clusterOf finds the cluster that a store is on. T is its connections.
func clusterOf[T Connection](s *Server, name string) (c T, err error) {
	some, ok := s.clusters[name]
	if !ok {
		return c, fmt.Errorf("cluster %s: %w", name, errNoCluster)
	}
	c, ok = some.(T)
	if !ok {
		return c, fmt.Errorf("cluster %s is of type %s in the configuration of this process: %w", name, s.cfg.Clusters[name].Type, errNoCluster)
	}
	return c, nil
}

// isRemote reports whether a store has its data on another server.
func isRemote(c namespace.StoreConfig) bool { return slices.Contains(storeTypes, c.Type) }

// remotePrimary reports whether what a namespace answers from is on another server: its
// outage must not keep writes out.
func remotePrimary(c *namespace.Config) bool { return isRemote(storeConfig(c, c.Primary())) }

// openClusters makes the connections of the clusters; none of them has to answer. Only dev makes what is
// missing there by itself.
func (s *Server) openClusters(undo *[]func() error) error {
	s.clusters = make(map[string]Connection)
	for name, c := range s.cfg.Clusters {
		if !c.HasTables() {
			continue
		}
		cl, err := c.Connect(name, s.cfg.Role == Dev, s.log)
		if err != nil {
			return err
		}
		s.clusters[name] = cl
		*undo = append(*undo, cl.Close)
	}
	return nil
}

// schemaEvery is how often a process looks whether its clusters have the tables.
const schemaEvery = time.Second

// watchSchemas notes which clusters have not the tables of this build until ctx is done. One that does not
// answer is not one of them.
func (s *Server) watchSchemas(ctx context.Context) error {
	if !s.cfg.Role.applies() {
		return nil
	}
	var all errgroup.Group
	for name, c := range s.clusters {
		all.Go(func() error {
			t := time.NewTicker(schemaEvery)
			defer t.Stop()
			for {
				err := c.Ready(ctx)
				if !errors.Is(err, clusterstore.ErrSchema) {
					err = nil
				}
				s.noteSchema(name, err)
				select {
				case <-t.C:
				case <-ctx.Done():
					return nil
				}
			}
		})
	}
	return all.Wait()
}

func (s *Server) noteSchema(name string, err error) {
	before, was := s.schemas.Load(name)
	switch {
	case err == nil:
		s.schemas.Delete(name)
	case !was || before.(error).Error() != err.Error():
		s.log.Error("a cluster has not the tables of this build", "cluster", name, "reason", err)
		s.schemas.Store(name, err)
	}
}

// schemasMissing is why a cluster cannot have the data of a store, nil where each can or does not answer.
func (s *Server) schemasMissing() (err error) {
	s.schemas.Range(func(_, why any) bool {
		err = why.(error)
		return false
	})
	return err
}

// closeClusters closes the connections, after the stores.
func (s *Server) closeClusters() error {
	var errs []error
	for _, c := range s.clusters {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// clusterTypes are the clusters as namespace documents may name them.
func (s *Server) clusterTypes() map[string]string {
	types := make(map[string]string)
	for name, c := range s.cfg.Clusters {
		types[name] = c.Type
	}
	return types
}

// removeStores removes the directory of a store, or of all stores of a namespace, and before
// that what other servers have for them. The directory stays while one of these does not
// answer: it says what is to be removed.
func (s *Server) removeStores(ctx context.Context, dir string) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		names, err := clusterstore.ClustersOf(path)
		if err != nil {
			return err
		}
		for _, name := range names {
			c, err := clusterOf[Connection](s, name)
			if err != nil {
				return fmt.Errorf("the rows of %s: %w", filepath.Base(path), err)
			}
			if err := c.Forget(ctx, path); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove what other servers have: %w", err)
	}
	return os.RemoveAll(dir)
}
