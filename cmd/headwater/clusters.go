package main

import (
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/headwater-db/headwater/cmd/headwater/server"
)

var (
	clusterName     = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)
	clusterSettings = map[string]string{
		"type": "", "url": "", "username": "", "password_file": "", "hosts": "", "keyspace": "", "replication": "", "consistency": "", "tls": "", "brokers": "", "sasl": "",
	}
)

// clusterList reads the setting clusters: servers by name.
func (c *configFile) clusterList(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		c.wrong(n, "clusters: expected clusters, each as `name: { type: clickhouse, url: ... }`, `name: { type: cassandra, hosts: [...], keyspace: ... }` or `name: { type: kafka, brokers: [...] }`")
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
			c.checkCluster(k, cl)
		}
		c.clusters[k.Value] = cl
	}
}

// cluster reads one cluster.
func (c *configFile) cluster(name string, n *yaml.Node) (cl server.Cluster) {
	prefix := "clusters." + name
	c.mapping(n, prefix+".", clusterSettings, func(key, _ string, v *yaml.Node) {
		switch key {
		case "hosts":
			cl.Hosts = c.names(prefix+".hosts", v)
		case "brokers":
			cl.Brokers = c.names(prefix+".brokers", v)
		case "sasl":
			c.sasl(prefix+".sasl", v, &cl.SASL)
		case "replication":
			cl.Replication = c.copies(prefix+".replication", v)
		case "tls":
			cl.TLS = c.tls(prefix+".tls", v)
		default:
			c.text(prefix+"."+key, v, map[string]*string{
				"type": &cl.Type, "url": &cl.URL, "username": &cl.Username, "password_file": &cl.PasswordFile, "keyspace": &cl.Keyspace, "consistency": &cl.Consistency,
			}[key])
		}
	})
	return cl
}

// names reads a list.
func (c *configFile) names(key string, n *yaml.Node) (all []string) {
	if n.Kind != yaml.SequenceNode {
		c.wrong(n, "%s: expected a list, as in [a, b]", key)
		return nil
	}
	for _, e := range n.Content {
		var one string
		c.text(key, e, &one)
		all = append(all, one)
	}
	return all
}

// copies reads how many copies each data center has.
func (c *configFile) copies(key string, n *yaml.Node) map[string]int {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		c.wrong(n, "%s: expected copies by data center, as in { datacenter1: 3 }", key)
		return nil
	}
	all := make(map[string]int)
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		m, err := strconv.Atoi(v.Value)
		if _, twice := all[k.Value]; twice {
			c.wrong(k, "%s: data center %.64q is there twice", key, k.Value)
		}
		if v.Kind != yaml.ScalarNode || err != nil {
			c.wrong(v, "%s: expected a number of copies for %.64q", key, k.Value)
		}
		all[k.Value] = m
	}
	return all
}

// checkCluster finds what no single setting shows.
func (c *configFile) checkCluster(n *yaml.Node, cl server.Cluster) {
	if err := cl.Check(n.Value); err != nil {
		c.wrong(n, "clusters.%s.%w", n.Value, err)
	}
}

// secretList reads the setting secrets: files by name.
func (c *configFile) secretList(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		c.wrong(n, "secrets: expected secrets, each as `name: { file: ... }`")
		return
	}
	c.secrets = make(map[string]string)
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if _, twice := c.secrets[k.Value]; twice {
			c.wrong(k, "secret %.64q is there twice", k.Value)
			continue
		}
		if !clusterName.MatchString(k.Value) {
			c.wrong(k, "%.80q is not a secret's name; it takes 1 to 64 of a-z, 0-9 and -, beginning with a letter", k.Value)
			continue
		}
		var file string
		c.mapping(v, "secrets."+k.Value+".", map[string]string{"file": ""}, func(_, _ string, v *yaml.Node) {
			c.text("secrets."+k.Value+".file", v, &file)
		})
		if file == "" {
			c.wrong(k, "secrets.%s.file: is missing; it takes the path of a file", k.Value)
		}
		c.secrets[k.Value] = file
	}
}
