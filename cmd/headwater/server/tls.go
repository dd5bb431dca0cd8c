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
