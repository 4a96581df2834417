//go:build linux

package node

import (
	"context"
	"net"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1 "k8s.io/client-go/listers/core/v1"
)

// resolver answers NAME.NAMESPACE.svc.DOMAIN with the Service's address (RFC 1035, type A
// by UDP), and that everything else doesn't exist. It goes on without the API server.
type resolver struct {
	services corev1.ServiceLister
	conn     *net.UDPConn
	cancel   context.CancelFunc
}

func startResolver(ctx context.Context, clients kubernetes.Interface) (*resolver, error) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(Address), Port: 53})
	if err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(context.WithoutCancel(ctx))
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(metav1.NamespaceAll))
	r := &resolver{services: factory.Core().V1().Services().Lister(), conn: conn, cancel: cancel}
	if err := follow(ctx, watching, factory); err != nil {
		r.stop()
		return nil, err
	}
	go r.serve()
	return r, nil
}

func (r *resolver) stop() {
	r.cancel()
	_ = r.conn.Close()
}

func (r *resolver) serve() {
	buffer := make([]byte, 4096)
	for {
		size, from, err := r.conn.ReadFromUDP(buffer)
		if err != nil {
			return
		}
		if reply := answer(buffer[:size], r.lookUp); reply != nil {
			_, _ = r.conn.WriteToUDP(reply, from)
		}
	}
}

// lookUp is nil for a name that doesn't exist.
func (r *resolver) lookUp(name string) net.IP {
	labels := strings.Split(strings.TrimSuffix(strings.ToLower(name), "."), ".")
	if len(labels) < 3 || strings.Join(labels[2:], ".") != "svc."+domain {
		return nil
	}
	service, err := r.services.Services(labels[1]).Get(labels[0])
	if err != nil {
		return nil
	}
	return net.ParseIP(service.Spec.ClusterIP).To4()
}

const seconds = 5 // that an answer may be kept

// answer is nil for what is no question.
func answer(query []byte, lookUp func(string) net.IP) []byte {
	var message dnsmessage.Message
	if message.Unpack(query) != nil || message.Response || len(message.Questions) != 1 {
		return nil
	}
	question := message.Questions[0]
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: message.ID, Response: true, Authoritative: true, RecursionDesired: message.RecursionDesired},
		Questions: message.Questions,
	}
	address := lookUp(question.Name.String())
	switch {
	case address == nil:
		reply.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA && question.Class == dnsmessage.ClassINET:
		header := dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class, TTL: seconds}
		reply.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: [4]byte(address)}}}
	}
	packed, err := reply.Pack()
	if err != nil {
		return nil
	}
	return packed
}
