package namespace

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Change is one setting that differs between two configurations.
type Change struct {
	// Path is dotted, as in the document: "limits.max_value".
	Path string
	// From and To are as in a document. Empty: not set.
	From, To string
	// NotLive is empty when the change takes effect on a namespace that exists, and
	// else what to do instead.
	NotLive string
}

// setting is one line of a configuration, flat.
type setting struct {
	path  string
	value string
	words bool // value is text and must be quoted where YAML would read it otherwise
	list  []string
	// notLive says how to change it, when it cannot be changed in place.
	notLive string
}

const (
	makeNew  = "make a new namespace and copy the data into it"
	newStore = "a store is not moved in place; add one of another name with role SHADOW and promote it"
	exchange = "a promote exchanges the roles (`headwater store promote`, `headwater store rollback`), a document does not"
)

// store returns the store of a name, nil when there is none.
func (c *Config) store(id string) *StoreConfig {
	for i := range c.Storage {
		if c.Storage[i].ID() == id {
			return &c.Storage[i]
		}
	}
	return nil
}

// storeOf returns the store that a setting is of, "" where it is of none.
func storeOf(path string) string {
	parts := strings.Split(path, ".")
	if len(parts) != 3 || parts[0] != "storage" {
		return ""
	}
	return parts[1]
}

// comesOrGoes reports whether a setting is of a store that is added or dropped by a
// change, which is done live. The PRIMARY does neither.
func comesOrGoes(path string, before, after *Config) bool {
	id := storeOf(path)
	if id == "" {
		return false
	}
	was, is := before.store(id), after.store(id)
	return was == nil && is.Role != primaryRole || is == nil && was.Role != primaryRole
}

// primaryRole is the role of the store that decides and answers.
const primaryRole = "PRIMARY"

// settings flattens c, in the order of the document. Everything in a Config is
// in it but the version.
func (c *Config) settings() []setting {
	ss := []setting{
		{path: "namespace", value: c.Name, words: true},
		{path: "abstraction", value: string(c.Abstraction), words: true, notLive: "a namespace keeps its abstraction; " + makeNew + ", or delete this one first"},
	}
	if c.Description != "" {
		ss = append(ss, setting{path: "description", value: c.Description, words: true})
	}
	if len(c.Owners) > 0 {
		ss = append(ss, setting{path: "owners", value: strings.Join(c.Owners, ", "), list: c.Owners})
	}
	ss = append(ss,
		setting{path: "log.partitions", value: strconv.Itoa(c.Partitions), notLive: "keys would move to other partitions; " + makeNew},
		setting{path: "log.retention", value: formatDuration(c.Retention)},
		setting{path: "log.max_bytes", value: formatBytes(c.MaxLogBytes)},
		setting{path: "log.durability", value: c.Durability, words: true},
	)
	if c.Abstraction != Log {
		ss = append(ss,
			setting{path: "slo.read.target", value: formatDuration(c.SLO.Read.Target)},
			setting{path: "slo.read.max", value: formatDuration(c.SLO.Read.Max)},
			setting{path: "slo.write.target", value: formatDuration(c.SLO.Write.Target)},
			setting{path: "slo.write.max", value: formatDuration(c.SLO.Write.Max)},
		)
	}
	ss = append(ss,
		setting{path: "limits.write_per_second", value: strconv.FormatInt(c.Limits.WritePerSecond, 10)},
		setting{path: "limits.bytes_per_second", value: formatBytes(c.Limits.BytesPerSecond)},
		setting{path: "limits.max_value", value: formatBytes(c.Limits.MaxValue)},
		setting{path: "tokens.window", value: formatDuration(c.Tokens.Window)},
		setting{path: "tokens.max_drift_past", value: formatDuration(c.Tokens.MaxDriftPast)},
		setting{path: "tokens.max_drift_future", value: formatDuration(c.Tokens.MaxDriftFuture)},
		setting{path: "tokens.max_live", value: strconv.FormatInt(c.Tokens.MaxLive, 10)},
	)
	for i := range c.Storage {
		s := &c.Storage[i]
		p := "storage." + s.ID() // a name stands for its place in the list; see Marshal
		ss = append(ss,
			setting{path: p + ".role", value: s.Role, words: true, notLive: exchange},
			setting{path: p + ".type", value: s.Type, words: true, notLive: newStore})
		if s.Cluster != "" {
			ss = append(ss, setting{path: p + ".cluster", value: s.Cluster, words: true, notLive: newStore})
		}
		if s.Dataset != "" {
			ss = append(ss, setting{path: p + ".dataset", value: s.Dataset, words: true, notLive: newStore})
		}
		if s.TTL != 0 {
			ss = append(ss, setting{path: p + ".ttl", value: formatDuration(s.TTL)})
		}
		if s.MaxLag != 0 {
			ss = append(ss, setting{path: p + ".max_lag", value: formatBytes(s.MaxLag)})
		}
		if s.MaxBytes != 0 {
			ss = append(ss, setting{path: p + ".max_bytes", value: formatBytes(s.MaxBytes)})
		}
	}
	ss = append(ss,
		setting{path: "dead_letters.retention", value: formatDuration(c.DeadLetters.Retention)},
		setting{path: "dead_letters.max_bytes", value: formatBytes(c.DeadLetters.MaxBytes)},
	)
	if c.Abstraction == KV {
		order := "ascending"
		if c.KV.Descending {
			order = "descending"
		}
		ss = append(ss,
			setting{path: "kv.order", value: order, words: true, notLive: "items are stored in this order; read with descending in the call, or " + makeNew},
			setting{path: "kv.default_ttl", value: formatDuration(c.KV.DefaultTTL)},
			setting{path: "kv.chunk_threshold", value: formatBytes(int64(c.KV.ChunkThreshold))},
			setting{path: "kv.consistency", value: cmp.Or(c.KV.Consistency, readYourWrites), words: true},
		)
	}
	if c.Abstraction == Counter {
		ss = append(ss, c.Counter.settings()...)
	}
	ss = append(ss, c.Delivery.settings()...)
	if c.Abstraction == TimeSeries {
		ss = append(ss, c.TimeSeries.settings()...)
		if c.Lifecycle.CloseAfter > 0 {
			ss = append(ss, setting{path: "lifecycle.close_after", value: formatDuration(c.Lifecycle.CloseAfter)})
		}
		if c.Lifecycle.DeleteAfter > 0 {
			ss = append(ss, setting{path: "lifecycle.delete_after", value: formatDuration(c.Lifecycle.DeleteAfter)})
		}
	}
	return ss
}

func (c *TimeSeriesConfig) settings() []setting {
	ss := []setting{
		{path: "timeseries.slice", value: formatDuration(c.Slice)},
		{path: "timeseries.bucket", value: formatDuration(c.Bucket)},
		{path: "timeseries.event_buckets", value: strconv.Itoa(c.EventBuckets)},
		{path: "timeseries.accept_limit", value: formatDuration(c.AcceptLimit)},
		{path: "timeseries.accept_future", value: formatDuration(c.AcceptFuture)},
	}
	if len(c.Blocked) > 0 {
		ss = append(ss, setting{path: "timeseries.blocked", value: strings.Join(c.Blocked, ", "), list: c.Blocked})
	}
	if len(c.Index) > 0 {
		ss = append(ss, setting{path: "timeseries.index", value: strings.Join(c.Index, ", "), list: c.Index})
	}
	return ss
}

func (c *CounterConfig) settings() []setting {
	windows := make([]string, len(c.Windows))
	for i, w := range c.Windows {
		windows[i] = formatDuration(w)
	}
	ss := []setting{
		{path: "counter.accuracy", value: c.Accuracy, words: true},
		{path: "counter.ttl", value: formatDuration(c.TTL)},
		{path: "counter.windows", value: strings.Join(windows, ", "), list: windows,
			notLive: "adds are counted in these windows as they come; make a new namespace with the windows that you need, and add to it from then on"},
		{path: "counter.event_retention", value: formatDuration(c.EventRetention)},
	}
	if c.Floor != nil {
		ss = append(ss, setting{path: "counter.floor", value: strconv.FormatInt(*c.Floor, 10)})
	}
	if c.Ceiling != nil {
		ss = append(ss, setting{path: "counter.ceiling", value: strconv.FormatInt(*c.Ceiling, 10)})
	}
	if c.OnViolation != "" {
		ss = append(ss, setting{path: "counter.on_violation", value: c.OnViolation, words: true})
	}
	return ss
}

// Diff returns what changes from before to after, in the order of the document.
// before may be nil: then everything is new. The error is a *NotLiveError when
// some of it cannot be done to a namespace that exists; the changes are
// returned all the same.
func Diff(before, after *Config) ([]Change, error) {
	var old []setting
	if before != nil {
		old = before.settings()
	}
	var changes []Change
	add := func(c Change) {
		if before == nil || comesOrGoes(c.Path, before, after) {
			c.NotLive = ""
		}
		changes = append(changes, c)
	}
	now := after.settings()
	for _, s := range now {
		i := slices.IndexFunc(old, func(o setting) bool { return o.path == s.path })
		if i < 0 {
			add(Change{Path: s.path, To: s.value, NotLive: s.notLive})
			continue
		}
		if old[i].value != s.value || !slices.Equal(old[i].list, s.list) {
			add(Change{Path: s.path, From: old[i].value, To: s.value, NotLive: s.notLive})
		}
	}
	for _, o := range old {
		if !slices.ContainsFunc(now, func(s setting) bool { return s.path == o.path }) {
			add(Change{Path: o.path, From: o.value, NotLive: o.notLive})
		}
	}
	if before == nil {
		return changes, nil
	}
	if before.Abstraction != after.Abstraction { // the rest follows from it and would only distract
		changes = slices.DeleteFunc(changes, func(c Change) bool { return c.Path != "abstraction" })
	}
	stuck := slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.NotLive == "" })
	if len(stuck) > 0 {
		return changes, &NotLiveError{Name: after.Name, Changes: stuck}
	}
	return changes, nil
}

// Marshal returns c as a document: canonical YAML with every default written
// out. Parse of it gives an equal Config.
func (c *Config) Marshal() string {
	root := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range c.settings() {
		if strings.HasPrefix(s.path, "storage.") {
			if child(root, "storage") == nil {
				add(root, "storage", c.storageNode())
			}
			continue
		}
		if strings.HasPrefix(s.path, "delivery.targets.") {
			if child(root, "delivery") == nil {
				d := &yaml.Node{Kind: yaml.MappingNode}
				add(root, "delivery", d)
				add(d, "targets", c.Delivery.targetsNode())
			}
			continue
		}
		at := root
		parts := strings.Split(s.path, ".")
		for _, p := range parts[:len(parts)-1] {
			next := child(at, p)
			if next == nil {
				next = &yaml.Node{Kind: yaml.MappingNode}
				add(at, p, next)
			}
			at = next
		}
		add(at, parts[len(parts)-1], s.node())
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		panic(fmt.Sprintf("namespace: encode a tree of scalars into memory: %v", err))
	}
	return b.String()
}

func (s *setting) node() *yaml.Node {
	if s.list != nil {
		n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, v := range s.list {
			n.Content = append(n.Content, str(v))
		}
		return n
	}
	if s.words {
		return str(s.value)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Value: s.value}
}

func (c *Config) storageNode() *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, s := range c.Storage {
		m := &yaml.Node{Kind: yaml.MappingNode, Style: yaml.FlowStyle}
		if s.Name != "" {
			add(m, "name", str(s.Name))
		}
		add(m, "role", str(s.Role))
		add(m, "type", str(s.Type))
		if s.Cluster != "" {
			add(m, "cluster", str(s.Cluster))
		}
		if s.Dataset != "" {
			add(m, "dataset", str(s.Dataset))
		}
		if s.TTL != 0 {
			add(m, "ttl", &yaml.Node{Kind: yaml.ScalarNode, Value: formatDuration(s.TTL)})
		}
		if s.MaxLag != 0 {
			add(m, "max_lag", &yaml.Node{Kind: yaml.ScalarNode, Value: formatBytes(s.MaxLag)})
		}
		if s.MaxBytes != 0 {
			add(m, "max_bytes", &yaml.Node{Kind: yaml.ScalarNode, Value: formatBytes(s.MaxBytes)})
		}
		list.Content = append(list.Content, m)
	}
	return list
}

func str(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		n.Style = yaml.DoubleQuotedStyle // a block of white space would not read back
	}
	return n
}

func child(m *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			return m.Content[i+1]
		}
	}
	return nil
}

func add(m *yaml.Node, name string, v *yaml.Node) {
	m.Content = append(m.Content, str(name), v)
}
