// Package peer tells where a request comes from, through the proxies that an operator
// trusts.
package peer

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// maxHops bounds how many addresses of a header are looked at.
const maxHops = 32

// Proxies are the networks whose word is taken about where a request comes from.
type Proxies []netip.Prefix

// ParseProxies reads a list of networks (CIDR) and addresses, separated by commas. An
// empty one trusts nobody.
func ParseProxies(list string) (Proxies, error) {
	if list == "" {
		return nil, nil
	}
	var p Proxies
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		network, err := netip.ParsePrefix(item)
		if err != nil {
			address, err := netip.ParseAddr(item)
			if err != nil || address.Zone() != "" {
				return nil, fmt.Errorf("%q is neither a network, such as 10.0.0.0/8, nor an address", item)
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		if network.Addr().Is4In6() {
			return nil, fmt.Errorf("%q is an IPv4 network within IPv6: write it as an IPv4 network", item)
		}
		p = append(p, network.Masked())
	}
	return p, nil
}

// Address returns the address that a request comes from, without a port. If that is a
// trusted proxy's, it is the rightmost address of X-Forwarded-For that isn't: what stands
// left of it anybody can have written.
func (p Proxies) Address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	at, err := netip.ParseAddr(host)
	if err != nil || !p.trust(at) {
		return host
	}
	hops := maxHops
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for ; line != "" && hops > 0; hops-- {
			comma := strings.LastIndexByte(line, ',')
			hop, ok := parseHop(line[comma+1:])
			if !ok {
				return at.String() // it is the last who is known
			}
			if at = hop; !p.trust(at) {
				return at.String()
			}
			line = line[:max(comma, 0)]
		}
	}
	return at.String()
}

func (p Proxies) trust(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(p, func(network netip.Prefix) bool { return network.Contains(a) })
}

// parseHop reads an address, which some proxies write with a port. A zone means nothing
// elsewhere, and could hold anything.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	a, err := netip.ParseAddr(s)
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = withPort.Addr()
	}
	return a.Unmap(), a.Zone() == ""
}
