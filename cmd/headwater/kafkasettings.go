package main

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/headwater-db/headwater/cmd/headwater/server"
)

// The settings of tls and sasl, which only a file has.
var (
	tlsSettings  = map[string]string{"ca_file": "", "cert_file": "", "key_file": "", "server_name": ""}
	saslSettings = map[string]string{"mechanism": "", "username": "", "password_file": ""}
)

// tls reads a setting tls, whose presence turns TLS on.
func (c *configFile) tls(prefix string, n *yaml.Node) *server.TLSFiles {
	f := &server.TLSFiles{}
	c.mapping(n, prefix+".", tlsSettings, func(key, _ string, v *yaml.Node) {
		c.text(prefix+"."+key, v, map[string]*string{"ca_file": &f.CAFile, "cert_file": &f.CertFile, "key_file": &f.KeyFile, "server_name": &f.ServerName}[key])
	})
	if (f.CertFile == "") != (f.KeyFile == "") {
		c.wrong(n, "%s: cert_file and key_file come together", prefix)
	}
	return f
}

// sasl reads a setting sasl into k.
func (c *configFile) sasl(prefix string, n *yaml.Node, k *server.KafkaSecurity) {
	c.mapping(n, prefix+".", saslSettings, func(key, _ string, v *yaml.Node) {
		c.text(prefix+"."+key, v, map[string]*string{"mechanism": &k.Mechanism, "username": &k.Username, "password_file": &k.PasswordFile}[key])
	})
	switch {
	case !slices.Contains(server.SASLMechanisms, k.Mechanism):
		c.wrong(n, "%s.mechanism: %.64q is none of %s", prefix, k.Mechanism, strings.Join(server.SASLMechanisms, ", "))
	case k.Username == "" || k.PasswordFile == "":
		c.wrong(n, "%s: username and password_file are needed", prefix)
	}
}

// text reads one value.
func (c *configFile) text(key string, v *yaml.Node, to *string) {
	if v.Kind != yaml.ScalarNode || v.Tag == "!!null" || v.Value == "" {
		c.wrong(v, "%s: expected one value", key)
		return
	}
	*to = v.Value
}
