package limit

import "net/netip"

// sitePrefix is what one site has of IPv6 addresses, all to itself (RFC 6177).
const sitePrefix = 64

// Network returns what failures of a caller count by: its IPv4 address, or the /64 of its
// IPv6 address, within which it may change. The address may come with a port. What is no
// address counts as itself.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		withPort, err := netip.ParseAddrPort(address)
		if err != nil {
			return address
		}
		ip = withPort.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, sitePrefix).Masked().String()
}
