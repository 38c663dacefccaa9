package httpapi

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ownHost refuses requests whose Host header is a name that somebody else can give. A page of any site can let its own name point to
// 127.0.0.1 (DNS rebinding); for the browser this service is then that site, and no check of origins helps. Only a plain
// listener on a loopback address needs it: elsewhere a certificate proves the name, or the name is what people call the machine.
func ownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ownName(r.Host) {
			WriteError(w, r, &Error{
				Status: http.StatusForbidden, Detail: "this listener is for this machine only and does not go by that name",
				NextStep: "call it by 127.0.0.1 or localhost; a proxy in front of it must send such a Host header",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ownName accepts addresses, which nobody can point elsewhere, localhost (RFC 6761 §6.3), and no name at all (HTTP/1.0).
func ownName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	_, err := netip.ParseAddr(host)
	return err == nil || host == "" || strings.EqualFold(host, "localhost")
}

// onLoopback says whether an address can be reached from this machine only.
func onLoopback(addr net.Addr) bool {
	a, ok := addr.(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}
