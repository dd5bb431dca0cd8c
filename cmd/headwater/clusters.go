package main

import (
	"fmt"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/consumers/clickhousestore"
)

var (
	clusterName     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	clusterSettings = map[string]string{"type": "", "url": "", "username": "", "password_file": ""}
)

// clusterList reads the setting clusters: servers by name.
func (c *configFile) clusterList(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		c.wrong(n, "clusters: expected clusters, each as `name: { type: clickhouse, url: ... }`")
		return
	}
	c.clusters = make(map[string]server.Cluster)
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if _, twice := c.clusters[k.Value]; twice {
			c.wrong(k, "cluster %.64q is there twice", k.Value)
			continue
		}
		if !clusterName.MatchString(k.Value) {
			c.wrong(k, "%.80q is not a cluster's name; it takes 1 to 64 of a-z, 0-9 and -, beginning with a letter", k.Value)
			continue
		}
		before := len(c.errs)
		cl := c.cluster(k.Value, v)
		if len(c.errs) == before {
			c.errs = append(c.errs, c.checkCluster(k, cl)...)
		}
		c.clusters[k.Value] = cl
	}
}

// cluster reads one cluster.
func (c *configFile) cluster(name string, n *yaml.Node) (cl server.Cluster) {
	c.mapping(n, "clusters."+name+".", clusterSettings, func(key, _ string, v *yaml.Node) {
		if v.Kind != yaml.ScalarNode || v.Tag == "!!null" || v.Value == "" {
			c.wrong(v, "clusters.%s.%s: expected one value", name, key)
			return
		}
		switch key {
		case "type":
			cl.Type = v.Value
		case "url":
			cl.URL = v.Value
		case "username":
			cl.Username = v.Value
		case "password_file":
			cl.PasswordFile = v.Value
		}
	})
	return cl
}

// checkCluster finds what no single setting shows.
func (c *configFile) checkCluster(n *yaml.Node, cl server.Cluster) (errs []error) {
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s:%d: clusters.%s."+format, append([]any{c.path, n.Line, n.Value}, args...)...))
	}
	switch {
	case cl.Type == "":
		wrong("type: is missing; this build has clickhouse")
	case cl.Type == "cassandra":
		wrong("type: cassandra is not in this build; it has clickhouse")
	case !slices.Contains([]string{"clickhouse"}, cl.Type):
		wrong("type: %.64q is not known; this build has clickhouse", cl.Type)
	case cl.URL == "":
		wrong("url: is missing, as in http://clickhouse:8123/headwater or clickhouse://clickhouse:9000/headwater")
	default:
		if err := clickhousestore.ParseURL(cl.URL); err != nil {
			wrong("url: %w", err)
		}
	}
	return errs
}
