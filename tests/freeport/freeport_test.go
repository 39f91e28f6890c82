package freeport

import (
	"net"
	"slices"
	"testing"
)

func TestAddressesAreDifferentFreeAndBelowOutgoingOnes(t *testing.T) {
	addrs, err := Addrs(50)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(addrs)
	if got := len(slices.Compact(addrs)); got != 50 {
		t.Fatalf("%d different addresses, want 50", got)
	}
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if port := l.Addr().(*net.TCPAddr).Port; port < first || port >= end {
			t.Errorf("port %d", port)
		}
	}
}
