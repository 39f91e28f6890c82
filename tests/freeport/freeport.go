// Package freeport finds ports for programs that are told where to listen before
// they do.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports are below those that are given to outgoing connections (32768 and up
// on Linux), of which a busy machine has many: so one is free until its program
// listens, and when it is started again.
const (
	first = 15000
	end   = 32768
)

// Ports returns n different ports at which nobody listens.
func Ports(n int) ([]int, error) {
	var ports []int
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range 100 * n {
		if len(ports) == n {
			return ports, nil
		}
		port := first + rand.IntN(end-first)
		if l, err := net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			held, ports = append(held, l), append(ports, port)
		}
	}
	if len(ports) == n {
		return ports, nil
	}
	return nil, errors.New("no port is free")
}

// Addrs returns the addresses on loopback of n different ports.
func Addrs(n int) ([]string, error) {
	ports, err := Ports(n)
	addrs := make([]string, len(ports))
	for i, port := range ports {
		addrs[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	return addrs, err
}
