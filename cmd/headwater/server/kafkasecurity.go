package server

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// KafkaSecurity is how brokers are talked to. The zero value is in the clear, and as nobody.
type KafkaSecurity struct {
	TLS *TLSFiles // nil: in the clear
	// Mechanism is one of SASLMechanisms; empty: none. The password is read from its file at each
	// connection, so that it can be changed; a line end behind it is not its own.
	Mechanism, Username, PasswordFile string
}

// SASLMechanisms are those of KafkaSecurity.
var SASLMechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}

// opts are those of every connection to a broker. It reads each file once, so that one that is missing
// ends the start.
func (k *KafkaSecurity) opts() (opts []kgo.Opt, err error) {
	if k.TLS != nil {
		cfg, err := k.TLS.config()
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	if k.Mechanism == "" {
		return opts, nil
	}
	if _, err := k.password(); err != nil {
		return nil, fmt.Errorf("sasl: %w", err)
	}
	var m sasl.Mechanism
	switch k.Mechanism {
	case "PLAIN":
		m = plain.Plain(func(context.Context) (plain.Auth, error) {
			pass, err := k.password()
			return plain.Auth{User: k.Username, Pass: pass}, err
		})
	case "SCRAM-SHA-256":
		m = scram.Sha256(k.scram)
	case "SCRAM-SHA-512":
		m = scram.Sha512(k.scram)
	default:
		return nil, fmt.Errorf("sasl.mechanism: %.64q is none of %s", k.Mechanism, strings.Join(SASLMechanisms, ", "))
	}
	return append(opts, kgo.SASL(m)), nil
}

func (k *KafkaSecurity) scram(context.Context) (scram.Auth, error) {
	pass, err := k.password()
	return scram.Auth{User: k.Username, Pass: pass}, err
}

func (k *KafkaSecurity) password() (string, error) {
	b, err := os.ReadFile(k.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("read the password of %s: %w", k.Username, err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}
