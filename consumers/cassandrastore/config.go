package cassandrastore

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gocql/gocql"
)

// ClusterConfig says where a Cassandra is and how it is talked to.
type ClusterConfig struct {
	Name  string   // of the cluster, for people
	Hosts []string // host or host:port; the others are learned from these
	// Keyspace has the tables. It is made with Replication, copies by data center, where it is missing
	// and the schema is made.
	Keyspace    string
	Replication map[string]int
	Consistency string // one of Consistencies; empty: LOCAL_QUORUM
	// Username and the first line of PasswordFile, which is read at each connection; empty: nobody.
	Username, PasswordFile string
	TLS                    *tls.Config // nil: in the clear
	// MakeSchema makes the keyspace and the tables where they are missing, as they are first needed.
	MakeSchema bool
	// Timeout bounds one statement; 0 is 10 s.
	Timeout time.Duration
	Logger  *slog.Logger // nil logs nothing
}

// Consistencies are what ClusterConfig takes.
var Consistencies = []string{"ONE", "LOCAL_ONE", "QUORUM", "LOCAL_QUORUM"}

var (
	keyspaceName   = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]{0,47}$`)
	dataCenterName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)
)

// Check finds what Cassandra need not be asked about. Each error begins with the setting.
func (c *ClusterConfig) Check() error {
	if len(c.Hosts) == 0 {
		return errors.New("hosts: are missing, as in [cassandra-1:9042]")
	}
	for _, h := range c.Hosts {
		if _, _, err := splitHost(h); err != nil {
			return fmt.Errorf("hosts: %w", err)
		}
	}
	switch {
	case c.Keyspace == "":
		return errors.New("keyspace: is missing, as in headwater")
	case !keyspaceName.MatchString(c.Keyspace):
		return fmt.Errorf("keyspace: %.64q is not a keyspace's name; it takes 1 to 48 letters, digits and _, beginning with a letter", c.Keyspace)
	case strings.HasPrefix(strings.ToLower(c.Keyspace), "system"):
		return fmt.Errorf("keyspace: %s is Cassandra's own", c.Keyspace)
	}
	most := 0
	for dc, n := range c.Replication {
		if !dataCenterName.MatchString(dc) {
			return fmt.Errorf("replication: %.64q is not the name of a data center", dc)
		}
		if n < 1 || n > 16 {
			return fmt.Errorf("replication: %s has %d copies; it takes 1 to 16", dc, n)
		}
		most = max(most, n)
	}
	if _, err := c.consistency(); err != nil {
		return err
	}
	if strings.HasSuffix(c.Consistency, "ONE") && (most > 1 || len(c.Replication) > 1) {
		return fmt.Errorf("consistency: %s of several copies may read a row that is older than what was acknowledged; leave it out, or take LOCAL_QUORUM or QUORUM", c.Consistency)
	}
	if (c.Username == "") != (c.PasswordFile == "") {
		return errors.New("username: comes together with password_file")
	}
	return nil
}

func (c *ClusterConfig) consistency() (gocql.Consistency, error) {
	switch cmp.Or(c.Consistency, "LOCAL_QUORUM") {
	case "ONE":
		return gocql.One, nil
	case "LOCAL_ONE":
		return gocql.LocalOne, nil
	case "QUORUM":
		return gocql.Quorum, nil
	case "LOCAL_QUORUM":
		return gocql.LocalQuorum, nil
	}
	return 0, fmt.Errorf("consistency: %.64q is none of %s", c.Consistency, strings.Join(Consistencies, ", "))
}

// defaultPort is that of CQL.
const defaultPort = 9042

func splitHost(h string) (host string, port int, err error) {
	if net.ParseIP(h) != nil {
		return h, defaultPort, nil
	}
	host, text, err := net.SplitHostPort(h)
	if err != nil && !strings.Contains(h, ":") {
		host, text, err = h, strconv.Itoa(defaultPort), nil
	}
	if err == nil {
		if port, err = strconv.Atoi(text); err == nil && (port < 1 || port > 65535 || host == "") {
			err = errors.New("out of range")
		}
	}
	if err != nil {
		return "", 0, fmt.Errorf("%.100q is not host or host:port", h)
	}
	return host, port, nil
}

// driver is what gocql is given.
func (c *ClusterConfig) driver(keyspace string) (*gocql.ClusterConfig, error) {
	cfg := gocql.NewCluster(c.Hosts...)
	// A host without a port of its own is at this one; gocql has one port for what it learns too.
	if _, port, err := splitHost(c.Hosts[0]); err == nil {
		cfg.Port = port
	}
	level, err := c.consistency()
	if err != nil {
		return nil, err
	}
	cfg.Keyspace, cfg.Consistency = keyspace, level
	cfg.ProtoVersion = 4
	cfg.Timeout, cfg.WriteTimeout, cfg.ConnectTimeout = c.Timeout, c.Timeout, min(c.Timeout, 5*time.Second)
	cfg.DefaultTimestamp = false // each statement has its own
	cfg.DefaultIdempotence = true
	cfg.RetryPolicy = &gocql.SimpleRetryPolicy{NumRetries: 1} // on the next node, at the same consistency
	cfg.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(c.fallback())
	cfg.ReconnectInterval = time.Second
	cfg.ReconnectionPolicy = &gocql.ConstantReconnectionPolicy{MaxRetries: 2, Interval: 500 * time.Millisecond}
	cfg.Logger = logger{c.Logger, c.Name}
	if c.TLS != nil {
		cfg.SslOpts = &gocql.SslOptions{Config: c.TLS.Clone(), EnableHostVerification: true}
	}
	if c.Username != "" {
		cfg.AuthProvider = func(*gocql.HostInfo) (gocql.Authenticator, error) {
			b, err := os.ReadFile(c.PasswordFile)
			if err != nil {
				return nil, fmt.Errorf("password_file: %w", err)
			}
			pass, _, _ := strings.Cut(string(b), "\n")
			return gocql.PasswordAuthenticator{Username: c.Username, Password: strings.TrimSuffix(pass, "\r")}, nil
		}
	}
	return cfg, nil
}

// fallback picks among the nodes that have a row, and among all where none of these answers: of the
// one data center where there is one.
func (c *ClusterConfig) fallback() gocql.HostSelectionPolicy {
	if len(c.Replication) == 1 {
		for dc := range c.Replication {
			return gocql.DCAwareRoundRobinPolicy(dc)
		}
	}
	return gocql.RoundRobinHostPolicy()
}

// logger hands on what gocql says, which is of use to who looks for a cause.
type logger struct {
	to   *slog.Logger
	name string
}

func (l logger) Print(v ...any)            { l.say(fmt.Sprint(v...)) }
func (l logger) Printf(f string, v ...any) { l.say(fmt.Sprintf(f, v...)) }
func (l logger) Println(v ...any)          { l.say(fmt.Sprintln(v...)) }
func (l logger) say(s string) {
	l.to.Debug("the Cassandra driver says", "cluster", l.name, "says", strings.TrimSpace(s))
}
