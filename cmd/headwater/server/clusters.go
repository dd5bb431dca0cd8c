package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/headwater-db/headwater/consumers/clickhousestore"
	"github.com/headwater-db/headwater/counter/clickhousecounter"
	"github.com/headwater-db/headwater/namespace"
	"github.com/headwater-db/headwater/timeseries/clickhousets"
)

// Cluster is a server beside this one that stores may be on.
type Cluster struct {
	Type         string // clickhouse
	URL          string // see clickhousestore.ClusterConfig
	Username     string
	PasswordFile string
}

// Connect makes the connections of a cluster, which has to have the tables of every abstraction.
// It does not wait for an answer. logger may be nil.
func (c *Cluster) Connect(name string, makeSchema bool, logger *slog.Logger) (*clickhousestore.Cluster, error) {
	return clickhousestore.Connect(clickhousestore.ClusterConfig{
		Name: name, URL: c.URL, Username: c.Username, PasswordFile: c.PasswordFile, MakeSchema: makeSchema, Logger: logger,
	}, clickhousets.Table, clickhousecounter.Table)
}

// errNoCluster: a store is in a cluster that this process is not configured with. A start with the
// right configuration mends it.
var errNoCluster = errors.New("the cluster is not in the configuration of this process")

// cluster finds one by the name that a store has for it.
func (s *Server) cluster(name string) (*clickhousestore.Cluster, error) {
	c := s.clusters[name]
	if c == nil {
		return nil, fmt.Errorf("cluster %s: %w", name, errNoCluster)
	}
	return c, nil
}

// remoteType is the type of stores that have their data on another server.
const remoteType = "clickhouse"

// remotePrimary reports whether what a namespace answers from is on another server: its
// outage must not keep writes out.
func remotePrimary(c *namespace.Config) bool { return storeConfig(c, c.Primary()).Type == remoteType }

// openClusters makes the connections of the clusters; none of them has to answer.
func (s *Server) openClusters(undo *[]func() error) error {
	s.clusters = make(map[string]*clickhousestore.Cluster)
	for name, c := range s.cfg.Clusters {
		cl, err := c.Connect(name, true, s.log)
		if err != nil {
			return err
		}
		s.clusters[name] = cl
		*undo = append(*undo, cl.Close)
	}
	return nil
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
		name, err := clickhousestore.ClusterOf(path)
		if err != nil || name == "" {
			return err
		}
		c, err := s.cluster(name)
		if err != nil {
			return fmt.Errorf("the rows of %s: %w", filepath.Base(path), err)
		}
		return c.Forget(ctx, path)
	})
	if err != nil {
		return fmt.Errorf("remove what other servers have: %w", err)
	}
	return os.RemoveAll(dir)
}
