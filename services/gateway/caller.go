package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// networks are ranges of addresses, such as 10.0.0.0/8,192.168.1.7/32.
type networks []netip.Prefix

// UnmarshalText implements encoding.TextUnmarshaler. A range with bits beside its
// prefix is refused: it may be a slip of the pen, and would trust many.
func (n *networks) UnmarshalText(text []byte) error {
	*n = nil
	if len(text) == 0 {
		return nil
	}
	for one := range strings.SplitSeq(string(text), ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err != nil {
			return fmt.Errorf("%q is no range of addresses such as 10.0.0.0/8", one)
		}
		if p != p.Masked() {
			return fmt.Errorf("%s is not the beginning of a range: that is %s", p, p.Masked())
		}
		*n = append(*n, p)
	}
	return nil
}

// include reports whether an address is in one of the networks. What is no
// address is in none.
func (n networks) include(address string) bool {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(n, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// caller returns the address of whoever has sent the request, "" if that is not
// known: the peer of the connection or, behind proxies, whom the outermost of them
// has seen. Behind proxies the peer is never the caller. A request that has passed
// by fewer than there should be comes from who knows whom: a proxy that is trusted
// must not lend its name to it.
func caller(r *http.Request, proxies int) string {
	if proxies > 0 {
		return forwarded(r.Header.Values("X-Forwarded-For"), proxies)
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return peer.Addr().String()
}
