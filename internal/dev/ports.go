package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// loopback is where everything listens: dev mode is for one machine.
const loopback = "127.0.0.1"

// maxOffset keeps the highest port within 16 bits.
const maxOffset = 65535 - portMigration

// The contracts of design.md §6, and the issuing and migration ports of the HSM simulators, before the offset.
const (
	portTerminals  = 7001
	portTLS        = 7002
	portBank       = 7101
	portPOSV       = 8080
	portIssuer     = 8081
	portOperations = 8082
	portKeys       = 8083
	portOperation  = 8084
	portControl    = 8090
	portHSM        = 15001 // and the two above
	portIssuing    = 15011 // and the two above
	portMigration  = 15021 // of hsm1 only
	hsmCount       = 3
)

// port is one listener of the system.
type port struct {
	what   string
	number int
}

// listeners are all ports with the offset, in the order of the table that people see.
func listeners(offset int) []port {
	list := []port{
		{"terminals (plain TCP, UnionPay dialect)", portTerminals}, {"terminals (TLS, terminals' certificates)", portTLS}, {"console and registry API", portPOSV}, {"issuer API", portIssuer},
		{"posp operations API", portOperations}, {"key service (HTTPS, client certificates)", portKeys},
		{"operation of posp's HSMs (HTTPS, operators' certificates)", portOperation},
		{"simulators' control API", portControl}, {"bank simulator", portBank},
	}
	for i := range hsmCount {
		list = append(list, port{fmt.Sprintf("HSM simulator hsm%d, transactions", i+1), portHSM + i})
	}
	for i := range hsmCount {
		list = append(list, port{fmt.Sprintf("HSM simulator hsm%d, issuing", i+1), portIssuing + i})
	}
	list = append(list, port{"HSM simulator hsm1, moving keys", portMigration})
	for i := range list {
		list[i].number += offset
	}
	return list
}

// at is the loopback address of a contract port with the offset.
func at(number, offset int) string { return net.JoinHostPort(loopback, strconv.Itoa(number+offset)) }

// checkPorts says in one sentence per port which are taken and what to do. It binds each for a moment, because asking who listens
// misses what is bound and does not listen.
func checkPorts(ctx context.Context, offset int) error {
	var busy []string
	for _, p := range listeners(offset) {
		err := probePort(ctx, p.number)
		switch {
		case err == nil:
		case errors.Is(err, syscall.EADDRINUSE):
			busy = append(busy, fmt.Sprintf("port %d is in use (%s)", p.number, p.what))
		default:
			return fmt.Errorf("port %d (%s) cannot be opened: %w: choose other ports with --port-offset", p.number, p.what, err)
		}
	}
	if len(busy) > 0 {
		return fmt.Errorf("%s: stop the program that listens there (perhaps another \"make dev\"), or run beside it with --port-offset 100", strings.Join(busy, ", "))
	}
	return nil
}

func probePort(ctx context.Context, number int) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", at(number, 0))
	if err != nil {
		return err
	}
	return l.Close()
}

// FreeOffset looks for an offset at which all ports of the system are free, for a system that stands beside others.
func FreeOffset(ctx context.Context) (int, error) {
	const (
		first, step = 2000, 150 // the highest port, 15021+2000+99*150, stays below the ephemeral ports of Linux (32768)
		tries       = 100
	)
	for i := range tries {
		// Several demos on one machine begin their search at different places.
		offset := first + (i*step+os.Getpid()*step)%(tries*step)
		if checkPorts(ctx, offset) == nil {
			return offset, nil
		}
	}
	return 0, errors.New("no free range of ports was found between 9000 and 32000: stop what uses them and try again")
}
