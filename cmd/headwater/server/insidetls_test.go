package server

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	clusterv1 "github.com/headwater-db/headwater/api/headwater/cluster/v1"
	"github.com/headwater-db/headwater/consumers/remote"
)

// TestInternalListenerByMutualTLS: processes that show a certificate of the cluster's signer are let in, and others are not, even
// where they know the secret.
func TestInternalListenerByMutualTLS(t *testing.T) {
	t.Parallel()
	_, files := selfSignedFiles(t)
	_, strange := selfSignedFiles(t)
	c := startSplit(t, &split{brokers: kafkaFake(t), tls: files})
	owned(t, c.gateway)
	is(t, "put", call(t, c.gateway, "KeyValue.PutItems", `{"namespace":"demo-kv","id":"r","items":[{"key":"aw==","value":"MQ=="}]}`))
	is(t, "get", call(t, c.gateway, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r","consistency":"LATEST"}`))
	is(t, "what is forwarded", call(t, c.gateway, "Admin.ListStores", `{"namespace":"demo-kv"}`))

	good, err := files.mutual()
	if err != nil {
		t.Fatal(err)
	}
	bad, err := strange.mutual()
	if err != nil {
		t.Fatal(err)
	}
	bad.RootCAs = good.RootCAs // it believes the worker, which does not believe it
	none := good.Clone()
	none.Certificates = nil
	for what, cfg := range map[string]*tls.Config{"in the clear": nil, "no certificate": none, "another signer's": bad} {
		peers := remote.NewPeers(c.worker.insideSecret(), cfg)
		conn, err := peers.Conn(c.worker.InternalAddr())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := clusterv1.NewOwnerServiceClient(conn).Ask(ctx, &clusterv1.AskRequest{Namespace: "demo-kv"}); err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v", what, err)
		}
		cancel()
		peers.Close()
	}
	// A gateway that was not given it says so, and takes writes.
	c.tls = nil
	clear := c.open(t, Gateway, "")
	defer closeServer(t, clear)
	is(t, "put", call(t, clear, "KeyValue.PutItems", `{"namespace":"demo-kv","id":"r","items":[{"key":"aw==","value":"Mg=="}]}`))
	refused(t, "a read", call(t, clear, "KeyValue.GetItems", `{"namespace":"demo-kv","id":"r","consistency":"LATEST"}`), 503, "HW-1517", "")

	for what, bad := range map[string]struct {
		files TLSFiles
		says  string
	}{
		"no signer":      {TLSFiles{CertFile: files.CertFile, KeyFile: files.KeyFile}, "internal_tls: ca_file, cert_file and key_file are needed"},
		"no certificate": {TLSFiles{CAFile: files.CAFile}, "internal_tls: ca_file, cert_file and key_file are needed"},
		"no such file":   {TLSFiles{CAFile: files.CAFile, CertFile: files.CertFile, KeyFile: files.KeyFile + "-none"}, "internal_tls: read the certificate of this process"},
	} {
		cfg := c.config(Gateway, "")
		cfg.InternalTLS = &bad.files
		if s, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: it starts", what)
			closeServer(t, s)
		} else if !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%s: %v; it lacks %q", what, err, bad.says)
		}
	}
}
