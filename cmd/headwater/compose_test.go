package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/namespace"
)

// composeProject is compose.yaml as Compose reads it, with some profiles.
func composeProject(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{"../../compose.yaml"}, cli.WithProfiles(profiles), cli.WithWorkingDirectory("../.."))
	if err != nil {
		t.Fatal(err)
	}
	p, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// inTheImage is where the file of a container is in the repository.
func inTheImage(path string) string {
	return strings.Replace(path, "/etc/headwater", "../../deploy/compose", 1)
}

// TestComposeFile: Compose's own loader takes the file, and each process of ours has flags, variables, a
// configuration file and documents that its role takes.
func TestComposeFile(t *testing.T) {
	ours := 0
	for name, s := range composeProject(t, "kafka", "stores").Services {
		if s.Image != "headwater:local" {
			continue
		}
		ours++
		t.Run(name, func(t *testing.T) {
			for k, v := range s.Environment {
				if v == nil {
					t.Errorf("%s has no value", k)
				} else {
					t.Setenv(k, *v)
				}
			}
			root := newRoot()
			for i, arg := range s.Command {
				s.Command[i] = inTheImage(arg)
			}
			c, rest, err := root.Find(s.Command)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.ParseFlags(rest); err != nil {
				t.Fatal(err)
			}
			config, err := c.Flags().GetString("config")
			if err != nil {
				t.Fatal(err)
			}
			checkComposeConfig(t, config)
			if c.Name() == "apply" { // schema, which has no more
				return
			}
			if err := c.PreRunE(c, nil); err != nil {
				t.Fatal(err)
			}
			brokers, err := c.Flags().GetStringSlice("kafka-brokers")
			if err != nil || len(brokers) != 1 {
				t.Fatalf("brokers %v, %v", brokers, err)
			}
			unsafe, err := c.Flags().GetBool("allow-unsafe")
			if replicas, err2 := c.Flags().GetInt("kafka-replication-factor"); err != nil || err2 != nil || !unsafe || replicas != 1 {
				t.Errorf("%d replicas, allowed %v, %v, %v", replicas, unsafe, err, err2)
			}
			if c.Name() == "gateway" {
				docs, err := namespaceFiles([]string{"../../deploy/compose/namespaces/*.yaml"})
				if err != nil || len(docs) != 4 {
					t.Errorf("%d namespaces, %v", len(docs), err)
				}
			}
		})
	}
	if ours != 8 {
		t.Errorf("%d services are ours, not 8", ours)
	}
	plain := composeProject(t).ServiceNames()
	for _, name := range []string{"gateway", "worker-kv", "worker-counter", "worker-timeseries", "worker-log", "redpanda"} {
		if !slices.Contains(plain, name) {
			t.Errorf("docker compose up starts no %s", name)
		}
	}
	if len(plain) != 6 {
		t.Errorf("docker compose up starts %v", plain)
	}
}

// checkComposeConfig reads the configuration file of the containers, and the documents of the namespaces that
// use its clusters.
func checkComposeConfig(t *testing.T, path string) {
	t.Helper()
	var cfg server.Config
	if err := readConfig(path, newDev().Flags(), &cfg); err != nil {
		t.Fatal(err)
	}
	types := make(map[string]string)
	for name, c := range cfg.Clusters {
		types[name] = c.Type
		if c.PasswordFile != "" {
			if _, err := os.Stat(inTheImage(c.PasswordFile)); err != nil {
				t.Error(err)
			}
		}
	}
	docs, err := filepath.Glob("../../deploy/compose/stores/*.yaml")
	if err != nil || len(docs) != 3 {
		t.Fatalf("%v, %v", docs, err)
	}
	for _, doc := range docs {
		b, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := namespace.Parse(string(b), namespace.Defaults{Partitions: 1, Clusters: types}); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
}
