package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/headwater-db/headwater/cmd/headwater/server"
	"github.com/headwater-db/headwater/namespace"
)

// The settings of a configuration file, each with the flag that it sets. The
// file is read as if those flags were given, unless they are: by hand, or by the
// environment.
var (
	fileSettings = map[string]string{
		"data_dir": "data-dir", "http": "http", "grpc": "grpc", "admin": "admin", "namespaces": "namespaces",
		"allowed_hosts": "allowed-hosts",
		"drain_delay":   "drain-delay", "shutdown_timeout": "shutdown-timeout", "start_timeout": "start-timeout", "free_space_floor": "free-space-floor", "verify_interval": "verify-interval", "log_level": "log-level",
		"internal": "internal", "advertise": "advertise", "abstractions": "abstractions",
		"log": "", "clusters": "", "internal_tls": "", "secrets": "",
	}
	logSettings = map[string]string{
		"brokers": "kafka-brokers", "replication_factor": "kafka-replication-factor", "topic_prefix": "kafka-topic-prefix",
		"allow_unsafe": "allow-unsafe", "session_timeout": "kafka-session-timeout", "type": "", "tls": "", "sasl": "",
	}
)

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 1 << 20

// configFile reads a file into flags that were not given.
type configFile struct {
	path  string
	flags *pflag.FlagSet
	every *pflag.FlagSet // of all roles: what this one does not use is checked and ignored
	// worker: namespaces are documents, which a worker does not apply.
	worker  bool
	logType string // log.type
	// clusters and kafka are what the flags have no place for.
	clusters map[string]server.Cluster
	secrets  map[string]string
	kafka    server.KafkaSecurity
	internal *server.TLSFiles
	errs     []error
}

// readConfig fills in flags that neither the command line nor the environment
// gave from the file at path, and those of cfg that no flag has. The error lists everything that is wrong
// with it, by line.
func readConfig(path string, flags *pflag.FlagSet, cfg *server.Config) error {
	b, err := readBounded(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil // nothing is set
	} else if err != nil {
		return fmt.Errorf("read configuration: %s: %w", path, err)
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return fmt.Errorf("read configuration: %s: there is more than one document", path)
	}
	c := &configFile{path: path, flags: flags, every: everyFlag(), worker: cfg.Role == server.Worker}
	c.mapping(doc.Content[0], "", fileSettings, c.setting)
	if c.logType == "kafka" {
		if brokers, err := flags.GetStringSlice("kafka-brokers"); err != nil || len(brokers) == 0 {
			c.errs = append(c.errs, errors.Join(fmt.Errorf("%s: log.type is kafka and there are no brokers; set log.brokers or --kafka-brokers", path), err))
		}
	}
	cfg.Clusters, cfg.Kafka, cfg.InternalTLS, cfg.Secrets = c.clusters, c.kafka, c.internal, c.secrets
	return errors.Join(c.errs...)
}

func readBounded(path string) (b []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if b, err = io.ReadAll(io.LimitReader(f, maxConfigBytes+1)); err == nil && len(b) > maxConfigBytes {
		err = fmt.Errorf("%s is larger than 1 MiB", path)
	}
	return b, err
}

func (c *configFile) wrong(n *yaml.Node, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s:%d: "+format, append([]any{c.path, n.Line}, args...)...))
}

// mapping calls each for every setting of n that known has.
func (c *configFile) mapping(n *yaml.Node, prefix string, known map[string]string, each func(key, flag string, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		c.wrong(n, "%sexpected settings, each as `name: value`", prefix)
		return
	}
	seen := make(map[string]bool)
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		flag, ok := known[k.Value]
		switch {
		case !ok:
			c.wrong(k, "unknown setting %s%.64s%s", prefix, k.Value, suggestion(k.Value, slices.Sorted(maps.Keys(known))))
		case seen[k.Value]:
			c.wrong(k, "%s%s is set twice", prefix, k.Value)
		default:
			seen[k.Value] = true
			each(k.Value, flag, v)
		}
	}
}

func (c *configFile) setting(key, flag string, v *yaml.Node) {
	switch key {
	case "clusters":
		c.clusterList(v)
	case "secrets":
		c.secretList(v)
	case "log":
		c.log(v)
	case "internal_tls":
		c.internal = c.tls(key, v)
	case "allowed_hosts", "abstractions":
		c.list(key, flag, v, func(s string) string { return s })
	case "namespaces":
		// Relative to the file, whatever directory the process is started in.
		c.list(key, flag, v, func(s string) string {
			if filepath.IsAbs(s) {
				return s
			}
			return filepath.Join(filepath.Dir(c.path), s)
		})
	default:
		c.scalar(key, flag, v)
	}
}

func (c *configFile) log(n *yaml.Node) {
	var kafkaOnly []string
	c.mapping(n, "log.", logSettings, func(key, flag string, v *yaml.Node) {
		switch key {
		case "type":
			if c.logType = v.Value; v.Kind != yaml.ScalarNode || c.logType != "kafka" && c.logType != "embedded" {
				c.wrong(v, "log.type: %.64q is neither embedded nor kafka", v.Value)
			}
			return
		case "tls":
			c.kafka.TLS = c.tls("log.tls", v)
		case "sasl":
			c.sasl("log.sasl", v, &c.kafka)
		case "brokers":
			c.list("log.brokers", flag, v, func(s string) string { return s })
		default:
			c.scalar("log."+key, flag, v)
		}
		kafkaOnly = append(kafkaOnly, "log."+key)
	})
	if len(kafkaOnly) > 0 && c.logType != "kafka" {
		c.wrong(n, "%s: only for log.type kafka", strings.Join(kafkaOnly, ", "))
	}
}

func (c *configFile) scalar(key, flag string, v *yaml.Node) {
	if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
		c.wrong(v, "%s: expected one value", key)
		return
	}
	if c.flags.Changed(flag) {
		return
	}
	if err := c.of(flag).Set(flag, v.Value); err != nil {
		c.wrong(v, "%s: %w", key, err)
	}
}

// of is where a setting goes: to the flags of the command, or, where it has none for it, nowhere.
func (c *configFile) of(flag string) *pflag.FlagSet {
	if c.flags.Lookup(flag) == nil || c.worker && flag == "namespaces" {
		return c.every
	}
	return c.flags
}

func (c *configFile) list(key, flag string, v *yaml.Node, as func(string) string) {
	if v.Kind != yaml.SequenceNode {
		c.wrong(v, "%s: expected a list, as in [a, b]", key)
		return
	}
	var values []string
	for _, e := range v.Content {
		if e.Kind != yaml.ScalarNode || e.Tag == "!!null" || e.Value == "" {
			c.wrong(e, "%s: expected a list of names", key)
			return
		}
		values = append(values, as(e.Value))
	}
	f := c.of(flag).Lookup(flag)
	list, ok := f.Value.(pflag.SliceValue)
	if !ok {
		c.wrong(v, "%s: --%s takes no list", key, flag)
		return
	}
	if f.Changed {
		return
	}
	if err := list.Replace(values); err != nil {
		c.wrong(v, "%s: %w", key, err)
	}
}

// suggestion names the setting that was probably meant.
func suggestion(got string, known []string) string {
	best, least := "", 3
	for _, k := range known {
		if d := distance(got, k); d < least && d < len(k) {
			best, least = k, d
		}
	}
	if best == "" {
		return "; known are " + strings.Join(known, ", ")
	}
	return "; did you mean " + best + "?"
}

// distance is how many letters must be put in, left out or replaced.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// namespaceFiles reads the documents that patterns name. A pattern without a
// match is an error only when it names one file.
func namespaceFiles(patterns []string) ([]string, error) {
	var docs []string
	from := make(map[string]string) // namespace -> file
	read := make(map[string]bool)
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("namespaces: pattern %q: %w", pattern, err)
		}
		if len(files) == 0 && !strings.ContainsAny(pattern, `*?[`) {
			return nil, fmt.Errorf("namespaces: %s: %w", pattern, fs.ErrNotExist)
		}
		for _, file := range files {
			if read[file] {
				continue
			}
			read[file] = true
			b, err := readBounded(file)
			if err != nil {
				return nil, fmt.Errorf("namespaces: %w", err)
			}
			// Partitions depend on the log, and a valid document is valid on either.
			d, err := namespace.Parse(string(b), namespace.Defaults{Partitions: 1})
			if err != nil {
				return nil, fmt.Errorf("namespaces: %s: %w", file, err)
			}
			if other, ok := from[d.Config.Name]; ok {
				return nil, fmt.Errorf("namespaces: %s and %s both are of namespace %s", other, file, d.Config.Name)
			}
			from[d.Config.Name] = file
			docs = append(docs, string(b))
		}
	}
	return docs, nil
}

var topicPrefix = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$`)

// checkLogConfig refuses settings of the log that cannot be meant.
func checkLogConfig(cfg server.Config) error {
	switch {
	case cfg.StartTimeout <= 0:
		return fmt.Errorf("--start-timeout is %v; it must be above 0, as in 30s", cfg.StartTimeout)
	case cfg.ReplicationFactor < 0:
		return fmt.Errorf("replication factor is %d; it must be at least 1", cfg.ReplicationFactor)
	case cfg.TopicPrefix != "" && !topicPrefix.MatchString(cfg.TopicPrefix):
		return fmt.Errorf("topic prefix %.80q: use 1 to 64 of letters, digits, - and _, beginning with a letter or digit", cfg.TopicPrefix)
	default:
		return nil
	}
}
