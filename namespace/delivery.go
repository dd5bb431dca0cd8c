package namespace

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/headwater-db/headwater/wal/delivery/endpoint"
)

// DeliveryConfig is where the messages of a log namespace go; zero: nowhere.
type DeliveryConfig struct {
	Targets []TargetConfig `json:"targets,omitempty"`
	Retry   RetryConfig    `json:"retry,omitzero"`
	// KeepDone is how long is known what came of a message, after its end.
	KeepDone time.Duration `json:"keep_done,omitempty"`
	Allow    AllowConfig   `json:"allow,omitzero"`
}

// TargetConfig is one place where messages go: HTTP, Namespace, Kafka or GRPC.
type TargetConfig struct {
	Name string     `json:"name"`
	HTTP HTTPTarget `json:"http,omitzero"`
	// Namespace is one of this installation. It gets the messages in order, each once, however long that takes: Ordered
	// and Concurrency are of no account.
	Namespace string      `json:"namespace,omitempty"`
	Kafka     KafkaTarget `json:"kafka,omitzero"`
	GRPC      GRPCTarget  `json:"grpc,omitzero"`
	// Ordered: the messages of a key one after the other.
	Ordered bool `json:"ordered,omitempty"`
	// Default: messages that name no target go there too.
	Default bool `json:"default,omitempty"`
	// Parks: a key whose message is given up waits until that is redriven or dropped. Of one that is Ordered.
	Parks       bool          `json:"parks,omitempty"`
	Timeout     time.Duration `json:"timeout"` // of an attempt
	Concurrency int           `json:"concurrency"`
	Rate        int           `json:"rate,omitempty"` // attempts a second, of a namespace messages; 0: no limit
}

// KafkaTarget is a topic of a cluster of the process configuration. It gets the messages in order.
type KafkaTarget struct {
	Cluster string `json:"cluster"`
	Topic   string `json:"topic"`
}

// GRPCTarget is a unary method of a gRPC service.
type GRPCTarget struct {
	Address string `json:"address"` // see endpoint.GRPCAddress
	Method  string `json:"method"`  // package.Service/Method
	Secret  string `json:"secret,omitempty"`
}

// InOrder reports whether the target gets all messages of a partition one after the other, whatever Ordered and
// Concurrency say.
func (t *TargetConfig) InOrder() bool { return t.Namespace != "" || t.Kafka != KafkaTarget{} }

// deadWord is what on_dead says.
func (t *TargetConfig) deadWord() string {
	if t.Parks {
		return parkWord
	}
	return onDeadWords[0]
}

// HTTPTarget is an HTTP endpoint.
type HTTPTarget struct {
	URL     string            `json:"url"`
	Method  string            `json:"method,omitempty"` // empty: POST
	Headers map[string]string `json:"headers,omitempty"`
	Secret  string            `json:"secret,omitempty"` // its name in the process configuration
}

// RetryConfig is how often and how fast a delivery is tried again.
type RetryConfig struct {
	Initial    time.Duration `json:"initial"`
	Multiplier float64       `json:"multiplier"`
	Max        time.Duration `json:"max"`
	Attempts   int64         `json:"attempts,omitempty"` // 0: without an end
	Age        time.Duration `json:"age,omitempty"`      // 0: without an end
}

// AllowConfig is where messages may go.
type AllowConfig struct {
	// Hosts may have an address that is not of the public internet.
	Hosts            []string `json:"hosts,omitempty"`
	PrivateAddresses bool     `json:"private_addresses,omitempty"` // so may all
}

const (
	maxTargets     = 16
	maxAllowed     = 256
	maxConcurrency = 1024
)

// rawDelivery is the delivery block as it is written.
type rawDelivery struct {
	targets []rawTarget
	retry   RetryConfig
	keep    time.Duration
	allow   AllowConfig
}

type rawTarget struct {
	TargetConfig
	onDead            string
	concurrency, rate int64
}

const parkWord = "park"

var onDeadWords = []string{"continue", parkWord}

// methodWords are those of which a request has a body.
var methodWords = []string{"POST", "PUT", "PATCH"}

func newRawDelivery() rawDelivery {
	return rawDelivery{retry: RetryConfig{Initial: 100 * time.Millisecond, Multiplier: 2, Max: time.Minute}, keep: 24 * time.Hour}
}

func deliverySchema(r *rawDelivery) reader {
	return mapping(
		field{"targets", list(maxTargets, func(n int) { r.targets = make([]rawTarget, n) }, func(i int) reader {
			t := &r.targets[i]
			t.Ordered, t.Default, t.Timeout, t.concurrency, t.onDead = true, true, 10*time.Second, 16, "continue"
			return mapping(
				field{"name", text(&t.Name, 1, 48)},
				field{"http", mapping(
					field{"url", text(&t.HTTP.URL, 1, 2048)},
					field{"method", oneOf(&t.HTTP.Method, methodWords...)},
					field{"headers", textMap(&t.HTTP.Headers, 32, 1024)},
					field{"secret", text(&t.HTTP.Secret, 1, 64)},
				)},
				field{"namespace", text(&t.Namespace, 1, 48)},
				field{"kafka", mapping(field{"cluster", text(&t.Kafka.Cluster, 1, 64)}, field{"topic", text(&t.Kafka.Topic, 1, 249)})},
				field{"grpc", mapping(
					field{"address", text(&t.GRPC.Address, 1, 256)}, field{"method", text(&t.GRPC.Method, 1, 256)}, field{"secret", text(&t.GRPC.Secret, 1, 64)},
				)},
				field{"ordered", boolean(&t.Ordered)},
				field{"default", boolean(&t.Default)},
				field{"on_dead", oneOf(&t.onDead, onDeadWords...)},
				field{"timeout", duration(&t.Timeout, 10*time.Millisecond, 10*time.Minute, false)},
				field{"concurrency", integer(&t.concurrency, 1, maxConcurrency)},
				field{"rate", integer(&t.rate, 0, 1_000_000)},
			)
		})},
		field{"retry", mapping(
			field{"initial", duration(&r.retry.Initial, time.Millisecond, time.Hour, false)},
			field{"multiplier", number(&r.retry.Multiplier, 1, 100)},
			field{"max", duration(&r.retry.Max, time.Millisecond, 24*time.Hour, false)},
			field{"attempts", integer(&r.retry.Attempts, 0, 1_000_000)},
			field{"age", duration(&r.retry.Age, time.Second, tenYears, true)},
		)},
		field{"keep_done", duration(&r.keep, time.Second, tenYears, true)},
		field{"allow", mapping(
			field{"hosts", texts(&r.allow.Hosts, maxAllowed, 253)},
			field{"private_addresses", boolean(&r.allow.PrivateAddresses)},
		)},
	)
}

// finishDelivery fills in the delivery block.
func (r *raw) finishDelivery() {
	if !r.d.Sets("delivery") {
		return
	}
	d := DeliveryConfig{Retry: r.delivery.retry, KeepDone: r.delivery.keep, Allow: r.delivery.allow}
	for i := range r.delivery.targets {
		t := &r.delivery.targets[i]
		t.Concurrency, t.Rate, t.Parks = int(t.concurrency), int(t.rate), t.onDead == parkWord
		if t.InOrder() {
			t.Concurrency, t.Ordered = 0, false
		}
		d.Targets = append(d.Targets, t.TargetConfig)
	}
	r.d.Config.Delivery = d
}

// validateDelivery checks what belongs together in the delivery block.
func (w *walker) validateDelivery(c *Config, r *rawDelivery, secrets map[string]bool) {
	if !w.sets("delivery") || c.Abstraction != Log { // which is reported
		return
	}
	if len(r.targets) == 0 && !w.reported("delivery.targets") {
		w.at("delivery", "", "has no targets; name where messages go, or leave it out: readers follow the log with ReadLog")
	}
	if r.retry.Max < r.retry.Initial {
		w.at("delivery.retry.max", formatDuration(r.retry.Initial), "%s is below initial, which is %s", formatDuration(r.retry.Max), formatDuration(r.retry.Initial))
	}
	for i, h := range r.allow.Hosts {
		if strings.ContainsAny(h, "/@ ") || strings.Contains(h, ":") && !isIPv6(h) {
			w.at(fmt.Sprintf("delivery.allow.hosts[%d]", i), "", "%s is not a host; write a name or an address, without scheme and port", quote(h))
		}
	}
	names, namespaces := make(map[string]bool), make(map[string]string)
	for i := range r.targets {
		t, path := &r.targets[i], fmt.Sprintf("delivery.targets[%d]", i)
		switch {
		case w.reported(path + ".name"):
		case t.Name == "":
			w.at(path, "", "has no name; messages choose a target by it")
		case !nameRE.MatchString(t.Name):
			w.at(path+".name", "", "%s is not a target's name; it takes 1 to 48 of a-z, 0-9 and -, beginning with a letter", quote(t.Name))
		case names[t.Name]:
			w.at(path+".name", "", "there is a target %s already; give each a name of its own", t.Name)
		}
		names[t.Name] = true
		switch {
		case t.onDead != parkWord || w.reported(path+".on_dead"):
		case w.sets(path+".namespace") || w.sets(path+".kafka"):
			w.at(path+".on_dead", "continue", "park is of endpoints: a namespace or a topic has each message of a key in its turn, and what it will never take would hold all keys")
		case !t.Ordered:
			w.at(path+".on_dead", "continue", "park holds a key, and the target is not ordered")
		}
		var kinds []string
		for _, kind := range []string{"http", "namespace", "kafka", "grpc"} {
			if w.sets(path + "." + kind) {
				kinds = append(kinds, kind)
			}
		}
		switch {
		case len(kinds) > 1:
			w.at(path+"."+kinds[1], "", "stands beside %s; a target is one place: make it two targets", kinds[0])
		case len(kinds) == 0 && !w.reported(path):
			w.at(path, "", "has no place to go to; give it http: { url: ... }, namespace: NAME, kafka: { cluster: ..., topic: ... } or grpc: { address: ..., method: ... }")
		case len(kinds) == 0:
		case kinds[0] == "grpc":
			w.validateGRPC(path+".grpc", &t.GRPC, &r.allow, secrets)
		case kinds[0] == "http":
			w.validateHTTP(path+".http", &t.HTTP, &r.allow, secrets)
		case kinds[0] == "namespace":
			w.validateRelay(path, t, c.Name, namespaces)
		default:
			w.validateKafka(path+".kafka", &t.Kafka)
		}
	}
}

// kafkaTopicRE is what Kafka takes for a topic's name, but for "." and "..".
var kafkaTopicRE = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

func (w *walker) validateKafka(path string, t *KafkaTarget) {
	switch {
	case w.reported(path + ".topic"):
	case t.Topic == "":
		w.at(path, "", "has no topic")
	case !kafkaTopicRE.MatchString(t.Topic) || t.Topic == "." || t.Topic == "..":
		w.at(path+".topic", "", "%s is not a topic's name; it takes 1 to 249 letters, digits, \".\", \"_\" and \"-\"", quote(t.Topic))
	case w.ownTopics != "" && strings.HasPrefix(t.Topic, w.ownTopics+"."):
		w.at(path+".topic", "", "%s is the name of one of this installation's own topics, which only it writes; deliver to the namespace, with namespace: NAME", quote(t.Topic))
	}
	switch kind, known := w.clusters[t.Cluster]; {
	case w.reported(path + ".cluster"):
	case t.Cluster == "":
		w.at(path, "", "has no cluster; it takes the name of one of the process's configuration")
	case w.clusters == nil, known && kind == "kafka":
	case known:
		w.at(path+".cluster", "", "cluster %s is of type %s, and not kafka", quote(t.Cluster), kind)
	default:
		w.at(path+".cluster", "", "this server is configured with no cluster %s; give it in clusters of the process's configuration: clusters: { %s: { type: kafka, brokers: [...] } }", quote(t.Cluster), t.Cluster)
	}
}

// validateRelay checks a target that is another namespace. seen are those of the targets before it, and their names.
func (w *walker) validateRelay(path string, t *rawTarget, of string, seen map[string]string) {
	switch first := seen[t.Namespace]; {
	case w.reported(path + ".namespace"):
	case CheckName(t.Namespace) != nil:
		w.at(path+".namespace", "", "%s", CheckName(t.Namespace))
	case t.Namespace == of:
		w.at(path+".namespace", "", "is this namespace itself: its messages would never end")
	case first != "":
		w.at(path+".namespace", "", "is that of target %s already; a namespace gets each message once", first)
	}
	seen[t.Namespace] = t.Name
}

var headerNameRE = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

func (w *walker) validateHTTP(path string, t *HTTPTarget, allow *AllowConfig, secrets map[string]bool) {
	u, err := url.Parse(t.URL)
	switch {
	case w.reported(path + ".url"):
	case t.URL == "":
		w.at(path, "", "has no url")
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		w.at(path+".url", "", "is not a URL of HTTP; write it as in https://orders.example.com/events")
	case u.User != nil:
		w.at(path+".url", "", "has credentials, which GetNamespace would show; sign what is sent with secret, or let the receiver tell by the address")
	case u.Fragment != "":
		w.at(path+".url", "", "has a fragment, which is not sent; leave it out")
	case !portOK(u.Port()):
		w.at(path+".url", "", "port %s does not exist", quote(u.Port()))
	case !allow.Allows(u.Hostname()) && endpoint.PrivateHost(u.Hostname()):
		w.at(path+".url", "", "%s is not an address of the public internet; allow it with delivery.allow: { hosts: [%s] }", u.Hostname(), u.Hostname())
	}
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		switch canonical := textproto.CanonicalMIMEHeaderKey(name); {
		case !headerNameRE.MatchString(name):
			w.at(path+".headers", "", "%s is not a header's name", quote(name))
		case !endpoint.MaySet(name):
			w.at(path+".headers", "", "%s is set by every delivery, or is the connection's; leave it out", canonical)
		case strings.ContainsFunc(t.Headers[name], func(r rune) bool { return r < ' ' || r == 0x7f }):
			w.at(path+".headers", "", "the value of %s has a line break or another control character", name)
		case canonical == "Authorization", canonical == "Cookie", canonical == "Proxy-Authorization":
			w.at(path+".headers", "", "%s would be shown by GetNamespace; sign what is sent with secret", canonical)
		}
	}
	w.validateSecret(path, t.Secret, secrets)
}

func (w *walker) validateSecret(path, name string, secrets map[string]bool) {
	if name != "" && secrets != nil && !secrets[name] {
		w.at(path+".secret", "", "this server is configured with no secret %s; give it in secrets of the process's configuration: secrets: { %s: { file: ... } }", quote(name), name)
	}
}

var grpcMethodRE = regexp.MustCompile(`^/?[A-Za-z_][A-Za-z0-9_.]*/[A-Za-z_][A-Za-z0-9_]*$`)

func (w *walker) validateGRPC(path string, t *GRPCTarget, allow *AllowConfig, secrets map[string]bool) {
	hostPort, _, err := endpoint.GRPCAddress(t.Address)
	host, port, _ := net.SplitHostPort(hostPort)
	switch {
	case w.reported(path + ".address"):
	case t.Address == "":
		w.at(path, "", "has no address")
	case err != nil:
		w.at(path+".address", "", "is not an address of gRPC; write it as in orders.example.com:443, or https://orders.example.com:443 for TLS")
	case !portOK(port):
		w.at(path+".address", "", "port %s does not exist", quote(port))
	case !allow.Allows(host) && endpoint.PrivateHost(host):
		w.at(path+".address", "", "%s is not an address of the public internet; allow it with delivery.allow: { hosts: [%s] }", host, host)
	}
	switch {
	case w.reported(path + ".method"):
	case t.Method == "":
		w.at(path, "", "has no method")
	case !grpcMethodRE.MatchString(t.Method):
		w.at(path+".method", "", "%s is not a method; write it as in orders.v1.Orders/Receive", quote(t.Method))
	}
	w.validateSecret(path, t.Secret, secrets)
}

func portOK(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

func isIPv6(h string) bool {
	a, err := netip.ParseAddr(h)
	return err == nil && a.Is6()
}

// Allows reports whether a host may have any address.
func (a *AllowConfig) Allows(host string) bool {
	return a.PrivateAddresses || slices.ContainsFunc(a.Hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

func (d *DeliveryConfig) settings() (ss []setting) {
	if len(d.Targets) == 0 {
		return nil
	}
	for i := range d.Targets {
		t := &d.Targets[i]
		p := "delivery.targets." + t.Name // a name stands for its place in the list; see Marshal
		if t.InOrder() {
			if t.Namespace != "" {
				ss = append(ss, setting{path: p + ".namespace", value: t.Namespace, words: true})
			} else {
				ss = append(ss,
					setting{path: p + ".kafka.cluster", value: t.Kafka.Cluster, words: true}, setting{path: p + ".kafka.topic", value: t.Kafka.Topic, words: true},
				)
			}
			ss = append(ss,
				setting{path: p + ".default", value: strconv.FormatBool(t.Default)},
				setting{path: p + ".timeout", value: formatDuration(t.Timeout)},
				setting{path: p + ".rate", value: strconv.Itoa(t.Rate)},
			)
			continue
		}
		if t.GRPC != (GRPCTarget{}) {
			ss = append(ss,
				setting{path: p + ".grpc.address", value: t.GRPC.Address, words: true}, setting{path: p + ".grpc.method", value: t.GRPC.Method, words: true},
			)
			if t.GRPC.Secret != "" {
				ss = append(ss, setting{path: p + ".grpc.secret", value: t.GRPC.Secret, words: true})
			}
		} else {
			ss = append(ss, setting{path: p + ".http.url", value: t.HTTP.URL, words: true})
		}
		if t.HTTP.Method != "" {
			ss = append(ss, setting{path: p + ".http.method", value: t.HTTP.Method, words: true})
		}
		for _, name := range slices.Sorted(maps.Keys(t.HTTP.Headers)) {
			ss = append(ss, setting{path: p + ".http.headers." + name, value: t.HTTP.Headers[name], words: true})
		}
		if t.HTTP.Secret != "" {
			ss = append(ss, setting{path: p + ".http.secret", value: t.HTTP.Secret, words: true})
		}
		ss = append(ss,
			setting{path: p + ".ordered", value: strconv.FormatBool(t.Ordered)},
			setting{path: p + ".on_dead", value: t.deadWord(), words: true},
			setting{path: p + ".default", value: strconv.FormatBool(t.Default)},
			setting{path: p + ".timeout", value: formatDuration(t.Timeout)},
			setting{path: p + ".concurrency", value: strconv.Itoa(t.Concurrency)},
			setting{path: p + ".rate", value: strconv.Itoa(t.Rate)},
		)
	}
	ss = append(ss,
		setting{path: "delivery.retry.initial", value: formatDuration(d.Retry.Initial)},
		setting{path: "delivery.retry.multiplier", value: strconv.FormatFloat(d.Retry.Multiplier, 'g', -1, 64)},
		setting{path: "delivery.retry.max", value: formatDuration(d.Retry.Max)},
		setting{path: "delivery.retry.attempts", value: strconv.FormatInt(d.Retry.Attempts, 10)},
		setting{path: "delivery.retry.age", value: formatDuration(d.Retry.Age)},
		setting{path: "delivery.keep_done", value: formatDuration(d.KeepDone)},
	)
	if len(d.Allow.Hosts) > 0 {
		ss = append(ss, setting{path: "delivery.allow.hosts", value: strings.Join(d.Allow.Hosts, ", "), list: d.Allow.Hosts})
	}
	return append(ss, setting{path: "delivery.allow.private_addresses", value: strconv.FormatBool(d.Allow.PrivateAddresses)})
}

func scalarNode(v string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: v} }

func (d *DeliveryConfig) targetsNode() *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range d.Targets {
		t := &d.Targets[i]
		m, h := &yaml.Node{Kind: yaml.MappingNode}, &yaml.Node{Kind: yaml.MappingNode}
		list.Content = append(list.Content, m)
		add(m, "name", str(t.Name))
		if t.InOrder() {
			if t.Namespace != "" {
				add(m, "namespace", str(t.Namespace))
			} else {
				k := &yaml.Node{Kind: yaml.MappingNode}
				add(k, "cluster", str(t.Kafka.Cluster))
				add(k, "topic", str(t.Kafka.Topic))
				add(m, "kafka", k)
			}
			add(m, "default", scalarNode(strconv.FormatBool(t.Default)))
			add(m, "timeout", scalarNode(formatDuration(t.Timeout)))
			add(m, "rate", scalarNode(strconv.Itoa(t.Rate)))
			continue
		}
		if t.GRPC != (GRPCTarget{}) {
			g := &yaml.Node{Kind: yaml.MappingNode}
			add(g, "address", str(t.GRPC.Address))
			add(g, "method", str(t.GRPC.Method))
			if t.GRPC.Secret != "" {
				add(g, "secret", str(t.GRPC.Secret))
			}
			add(m, "grpc", g)
		} else {
			add(h, "url", str(t.HTTP.URL))
		}
		if t.HTTP.Method != "" {
			add(h, "method", str(t.HTTP.Method))
		}
		if len(t.HTTP.Headers) > 0 {
			hs := &yaml.Node{Kind: yaml.MappingNode}
			for _, name := range slices.Sorted(maps.Keys(t.HTTP.Headers)) {
				add(hs, name, str(t.HTTP.Headers[name]))
			}
			add(h, "headers", hs)
		}
		if t.HTTP.Secret != "" {
			add(h, "secret", str(t.HTTP.Secret))
		}
		if len(h.Content) > 0 {
			add(m, "http", h)
		}
		add(m, "ordered", scalarNode(strconv.FormatBool(t.Ordered)))
		add(m, "on_dead", scalarNode(t.deadWord()))
		add(m, "default", scalarNode(strconv.FormatBool(t.Default)))
		add(m, "timeout", scalarNode(formatDuration(t.Timeout)))
		add(m, "concurrency", scalarNode(strconv.Itoa(t.Concurrency)))
		add(m, "rate", scalarNode(strconv.Itoa(t.Rate)))
	}
	return list
}
