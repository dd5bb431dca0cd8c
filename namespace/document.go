package namespace

import (
	"fmt"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// The limits of a document.
const (
	MaxDocumentBytes = 64 << 10
	maxOwners        = 32
	maxGrants        = 1024
	maxStores        = 8
	maxWindows       = 4
	maxIndexKeys     = 16
)

// Defaults are the settings of a document that depend on where it is applied.
// The others are constants; see DESIGN.md.
type Defaults struct {
	Partitions int // 4 on the embedded log, 12 on a cluster
	// Clusters are those that the process is configured with: name to type, as in main:
	// clickhouse. Nil: not known, any is let pass.
	Clusters map[string]string
	// TopicPrefix is what the names of this installation's own topics begin with, and a dot. "": not known.
	TopicPrefix string
	// Secrets are the names of those that the process is configured with. Nil: not known, any
	// is let pass.
	Secrets map[string]bool
}

// Document is a namespace document as it was written, read and found valid.
type Document struct {
	Text   string // as applied
	Config *Config

	// The parts that no abstraction of this build acts on. Parse refuses them,
	// so here they are zero; they are read so that a mistake in them is found.
	Access []Grant

	lines map[string]int
}

// Sets reports whether the document itself sets path, as in "log.partitions".
func (d *Document) Sets(path string) bool { _, ok := d.lines[path]; return ok }

// Grant is what a principal may do.
type Grant struct {
	Principal string
	Grants    []string // read, write, delete, admin
}

var nameRE = regexp.MustCompile(`^[a-z][a-z0-9-]{0,47}$`)

var reservedNames = []string{"sys", "system", "admin", "internal", "headwater", "dlq"}

// CheckName returns nil when a namespace may be called name, and else why not.
func CheckName(name string) error {
	switch {
	case !nameRE.MatchString(name):
		return fmt.Errorf("%s is not a namespace name; it takes 1 to 48 of a-z, 0-9 and -, beginning with a letter", quote(name))
	case slices.Contains(reservedNames, name):
		return fmt.Errorf("%s is reserved; choose another name", quote(name))
	}
	return nil
}

// Parse reads one namespace document, YAML or JSON. The error is an
// *InvalidError that lists every problem, with its line.
func Parse(doc string, def Defaults) (*Document, error) {
	w := &walker{lines: make(map[string]int)}
	switch {
	case len(doc) > MaxDocumentBytes:
		w.problem(0, "", "", "the document has %d bytes; at most %d are taken", len(doc), MaxDocumentBytes)
		return nil, w.err()
	case !utf8.ValidString(doc):
		w.problem(0, "", "", "the document is not valid UTF-8")
		return nil, w.err()
	}
	root := w.parseYAML(doc)
	if root == nil {
		return nil, w.err()
	}
	d := &Document{Text: doc, Config: newConfig(def), lines: w.lines}
	r := newRaw(d)
	if root.Kind != yaml.MappingNode {
		w.problem(root.Line, "", "", "the document is %s; it takes a mapping, as in namespace: plays", kindName(root))
		return nil, w.err()
	}
	documentSchema(r)(w, root, "")
	r.finish()
	w.clusters, w.ownTopics = def.Clusters, def.TopicPrefix
	w.validate(d)
	w.validateDelivery(d.Config, &r.delivery, def.Secrets)
	if err := w.err(); err != nil {
		return nil, err
	}
	c := d.Config
	slices.Sort(c.Counter.Windows)
	slices.SortStableFunc(c.Storage, func(a, b StoreConfig) int {
		return slices.Index(roleWords, a.Role) - slices.Index(roleWords, b.Role)
	})
	return d, nil
}

// maxLiveTokens is the default of tokens.max_live. A token is about 100 bytes on disk
// and 12 bits of memory: 100 M are what 93,000 writes/s leave within the default
// window, the eighth of it that freeing lags behind, and a round of the sweeper.
const maxLiveTokens = 100_000_000

// newConfig returns the defaults.
func newConfig(def Defaults) *Config {
	if def.Partitions == 0 {
		def.Partitions = 4
	}
	return &Config{
		Partitions:  def.Partitions,
		Retention:   168 * time.Hour,
		MaxLogBytes: 50 * gib,
		Durability:  "sync",
		Limits:      Limits{MaxValue: 64 * mib},
		Tokens:      TokenConfig{Window: 15 * time.Minute, MaxDriftPast: 10 * time.Minute, MaxDriftFuture: 10 * time.Second, MaxLive: maxLiveTokens},
	}
}
