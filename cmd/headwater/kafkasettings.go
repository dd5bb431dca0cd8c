package main

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/headwater-db/headwater/cmd/headwater/server"
)

// The settings of tls and log.sasl, which only a file has.
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

// sasl reads log.sasl.
func (c *configFile) sasl(n *yaml.Node) {
	k := &c.kafka
	c.mapping(n, "log.sasl.", saslSettings, func(key, _ string, v *yaml.Node) {
		c.text("log.sasl."+key, v, map[string]*string{"mechanism": &k.Mechanism, "username": &k.Username, "password_file": &k.PasswordFile}[key])
	})
	switch {
	case !slices.Contains(server.SASLMechanisms, k.Mechanism):
		c.wrong(n, "log.sasl.mechanism: %.64q is none of %s", k.Mechanism, strings.Join(server.SASLMechanisms, ", "))
	case k.Username == "" || k.PasswordFile == "":
		c.wrong(n, "log.sasl: username and password_file are needed")
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
