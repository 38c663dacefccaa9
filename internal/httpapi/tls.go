package httpapi

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// ServerTLS builds a configuration for mutual TLS 1.3 from PEM files: the server's certificate chain, its key, and the authorities
// whose client certificates are accepted. A client without such a certificate is refused in the handshake.
func ServerTLS(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
	cert, pool, err := identity("server", certFile, keyFile, clientCAFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}, nil
}

// ClientTLS builds the other side: the client's certificate chain and key, and the authorities that may have signed the server's
// certificate; the system's authorities are not trusted. The server's name is the host that is called.
func ClientTLS(certFile, keyFile, serverCAFile string) (*tls.Config, error) {
	cert, pool, err := identity("client", certFile, keyFile, serverCAFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool}, nil
}

// identity reads the three files; an error names the one at fault and no content.
func identity(side, certFile, keyFile, caFile string) (tls.Certificate, *x509.CertPool, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("TLS %s certificate %s with key %s: %w", side, certFile, keyFile, err)
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return tls.Certificate{}, nil, fmt.Errorf("TLS %s: authorities: %w", side, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return tls.Certificate{}, nil, fmt.Errorf("TLS %s: authorities: %s holds no certificate in PEM form", side, caFile)
	}
	return cert, pool, nil
}
