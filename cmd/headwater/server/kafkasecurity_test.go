package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// selfSigned is a certificate of 127.0.0.1, and a file that has it.
func selfSigned(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	c, f := selfSignedFiles(t)
	return c, f.CAFile
}

// selfSignedFiles is selfSigned as processes use it that know each other by it.
func selfSignedFiles(t *testing.T) (tls.Certificate, *TLSFiles) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path, keyPath := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, &TLSFiles{CAFile: path, CertFile: path, KeyFile: keyPath}
}

// TestKafkaByTLSAndSASL: brokers that want both are reached with both; with anything less the start says why.
func TestKafkaByTLSAndSASL(t *testing.T) {
	t.Parallel()
	cert, ca := selfSigned(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mechanism := range SASLMechanisms {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}}), kfake.EnableSASL(), kfake.Superuser(mechanism, "hw", "secret"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			good := KafkaSecurity{TLS: &TLSFiles{CAFile: ca}, Mechanism: mechanism, Username: "hw", PasswordFile: password}
			start := func(k KafkaSecurity) (*Server, error) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				return Open(ctx, Config{DataDir: t.TempDir(), Demo: true, KafkaBrokers: c.ListenAddrs(), ReplicationFactor: 1, Kafka: k, StartTimeout: 2 * time.Second})
			}
			s, err := start(good)
			if err != nil {
				t.Fatal(err)
			}
			defer closeServer(t, s)
			until(t, "it is written", func() bool { return send(t, s, "PUT", greeting, "good morning").status == 204 })
			until(t, "it is read", func() bool { return send(t, s, "GET", greeting, "").body == "good morning" })

			for what, bad := range map[string]struct {
				change func(*KafkaSecurity)
				says   string
			}{
				"another user":      {func(k *KafkaSecurity) { k.Username = "who" }, "reach Kafka at "},
				"no file":           {func(k *KafkaSecurity) { k.PasswordFile = password + "-none" }, "log.sasl: read the password of hw"},
				"another mechanism": {func(k *KafkaSecurity) { k.Mechanism = "GSSAPI" }, "log.sasl.mechanism"},
				"unknown signer":    {func(k *KafkaSecurity) { k.TLS = &TLSFiles{} }, "certificate"},
				"no such signer":    {func(k *KafkaSecurity) { k.TLS = &TLSFiles{CAFile: ca + "-none"} }, "log.tls: read the certificates"},
				"no certificate":    {func(k *KafkaSecurity) { k.TLS = &TLSFiles{CAFile: password} }, "has no certificate in PEM"},
				"no key":            {func(k *KafkaSecurity) { k.TLS = &TLSFiles{CAFile: ca, CertFile: ca} }, "log.tls: read the certificate of this process"},
				"another name":      {func(k *KafkaSecurity) { k.TLS = &TLSFiles{CAFile: ca, ServerName: "kafka.internal"} }, "kafka.internal"},
			} {
				k := good
				bad.change(&k)
				if s, err := start(k); err == nil {
					t.Errorf("%s: it starts", what)
					closeServer(t, s)
				} else if !strings.Contains(err.Error(), bad.says) {
					t.Errorf("%s: %v; it lacks %q", what, err, bad.says)
				}
			}
		})
	}
}
