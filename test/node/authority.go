//go:build linux

package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// authority signs the certificates of the node's programs, for a day.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	a := &authority{certificate: &x509.Certificate{
		Subject:               pkix.Name{CommonName: "node"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}}
	pair, key, err := a.sign(a.certificate)
	if err != nil {
		return nil, err
	}
	a.key = key
	a.certificate, err = x509.ParseCertificate(pair)
	return a, err
}

// sign signs a template with a new key; by that key itself while there is no other.
func (a *authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	certificate, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), signer)
	return certificate, key, err
}

func (a *authority) pem() []byte { return encode("CERTIFICATE", a.certificate.Raw) }

// server makes the certificate of a server.
func (a *authority) server(names []string, addresses ...string) (certificate, key []byte, err error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	return a.pair(template)
}

// user makes the certificate of a user of the API server, or of the kubelet's.
func (a *authority) user(name string, groups ...string) (certificate, key []byte, err error) {
	return a.pair(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name, Organization: groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) pair(template *x509.Certificate) (certificate, key []byte, err error) {
	signed, private, err := a.sign(template)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	return encode("CERTIFICATE", signed), encode("PRIVATE KEY", encoded), err
}

func encode(kind string, content []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content})
}

// kubeconfig writes the access of a user.
func (a *authority) kubeconfig(file, server, user string, groups ...string) error {
	certificate, key, err := a.user(user, groups...)
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[Name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: a.pem()}
	config.AuthInfos[Name] = &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
	config.Contexts[Name] = &clientcmdapi.Context{Cluster: Name, AuthInfo: Name}
	config.CurrentContext = Name
	return clientcmd.WriteToFile(*config, file)
}

func writePair(certificateFile, keyFile string, certificate, key []byte) error {
	if err := os.WriteFile(certificateFile, certificate, 0o600); err != nil {
		return err
	}
	return os.WriteFile(keyFile, key, 0o600)
}
