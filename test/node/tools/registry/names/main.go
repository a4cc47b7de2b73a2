// Command names serves one registry, kept in memory, at two places of loopback: by HTTP on a free port, to
// push to, and by HTTPS on 127.0.0.1:443 under the names of other registries, for clients that cannot be
// told another address. Whoever uses it must be in a network and a mount namespace of its own, with these
// names in /etc/hosts, and must trust the authority that it writes when it starts.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

var (
	names     = flag.String("names", "", "names to answer to, separated by commas")
	authority = flag.String("authority", "", "file that gets the certificate to be trusted (PEM)")
)

func main() {
	flag.Parse()
	certificate, err := certify(strings.Split(*names, ","))
	if err != nil {
		log.Fatalf("could not make a certificate for %s: %v", *names, err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	if err := os.WriteFile(*authority, text, 0o644); err != nil {
		log.Fatalf("could not write the certificate: %v", err)
	}
	secure, err := tls.Listen("tcp", "127.0.0.1:443", &tls.Config{
		Certificates: []tls.Certificate{*certificate},
		NextProtos:   []string{"http/1.1"},
	})
	if err != nil {
		log.Fatalf("could not listen for HTTPS: %v", err)
	}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatalf("could not listen for HTTP: %v", err)
	}
	server := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: registry.New()}
	log.Printf("serving on port %d", plain.Addr().(*net.TCPAddr).Port)
	go func() { log.Fatal(server.Serve(secure)) }()
	log.Fatal(server.Serve(plain))
}

// certify makes a certificate that signs itself: it is its own authority.
func certify(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	form := x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "registries of a test"},
		DNSNames:              names,
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	body, err := x509.CreateCertificate(rand.Reader, &form, &form, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{body}, PrivateKey: key}, nil
}
