package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSFiles is how a server beside this one is known, and this process to it. The zero value trusts whom the
// system trusts.
type TLSFiles struct {
	// CAFile has the certificates that sign the server's, in PEM; empty: those that the system trusts.
	// CertFile and KeyFile are this process's own, where the server asks for one. ServerName is what its
	// certificates are for, where that is not the name it is reached by.
	CAFile, CertFile, KeyFile, ServerName string
}

// config reads each file once, so that one that is missing ends the start.
func (f *TLSFiles) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CAFile != "" {
		pem, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificates that sign those of the server: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", f.CAFile)
		}
	}
	if f.CertFile != "" || f.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, errors.Join(errors.New("read the certificate of this process, cert_file and key_file"), err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// mutual is config of processes of which each is a client and a server of the others: all show a certificate, and one
// that CAFile has not signed is refused. Of nil it is nil.
func (f *TLSFiles) mutual() (*tls.Config, error) {
	if f == nil {
		return nil, nil
	}
	if f.CAFile == "" || f.CertFile == "" {
		return nil, errors.New("ca_file, cert_file and key_file are needed: each process shows a certificate that ca_file has signed")
	}
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	cfg.ClientCAs, cfg.ClientAuth = cfg.RootCAs, tls.RequireAndVerifyClientCert
	return cfg, nil
}
