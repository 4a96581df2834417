//go:build linux

package node

import (
	"net"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func TestAnswer(t *testing.T) {
	for _, test := range []struct {
		name    string
		kind    dnsmessage.Type
		code    dnsmessage.RCode
		answers int
	}{
		{"orders.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeSuccess, 1},
		{"orders.shop.svc.cluster.local.", dnsmessage.TypeAAAA, dnsmessage.RCodeSuccess, 0},
		{"other.shop.svc.cluster.local.", dnsmessage.TypeA, dnsmessage.RCodeNameError, 0},
	} {
		query := dnsmessage.Message{
			Header:    dnsmessage.Header{ID: 7, RecursionDesired: true},
			Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(test.name), Type: test.kind, Class: dnsmessage.ClassINET}},
		}
		packed, err := query.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var reply dnsmessage.Message
		if err := reply.Unpack(answer(packed, known)); err != nil {
			t.Fatalf("%v: %v", test, err)
		}
		if reply.ID != 7 || !reply.Response || reply.RCode != test.code || len(reply.Answers) != test.answers || len(reply.Questions) != 1 {
			t.Errorf("%v: %+v", test, reply)
		}
		for _, a := range reply.Answers {
			if body, is := a.Body.(*dnsmessage.AResource); !is || body.A != [4]byte{10, 0, 0, 7} || a.Header.Name.String() != test.name {
				t.Errorf("%v: %+v", test, a)
			}
		}
	}
}

func known(name string) net.IP {
	if name == "orders.shop.svc.cluster.local." {
		return net.IPv4(10, 0, 0, 7).To4()
	}
	return nil
}
