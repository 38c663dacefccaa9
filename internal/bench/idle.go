package bench

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// PartIdle measures the memory of idle terminals.
const PartIdle = "idle"

const (
	// idleConnections is how many terminals are connected and silent.
	idleConnections = 20_000
	// idleAddresses is how many loopback addresses they come from: one has 28,000 ports, and a bound per address is to be seen at work.
	idleAddresses = 8
	// idleSpare are the files that posp and this process need for everything else.
	idleSpare = 500
	// idleDialers is how many connections are made at a time.
	idleDialers = 32
	// idleSettle is how long they are silent before posp's memory is read.
	idleSettle = 3 * time.Second
	// idleLimit is the goal in bytes.
	idleLimit = 10 << 10
	// idlePatience bounds one connection with its echo.
	idlePatience = 20 * time.Second
)

// echoFrame is an echo test of terminal 10000001: 2-byte length, TPDU, header, then MTI 0820 with fields 11, 41, 42 and 60
// (facts/unionpay.md §1 to §3).
var echoFrame = func() []byte {
	body, err := hex.DecodeString("6000030000603100310100" + "0820" + "0020000000C00010" + "000001" +
		hex.EncodeToString([]byte("10000001")) + hex.EncodeToString([]byte("104110000000001")) + "0011" + "000000013010")
	if err != nil {
		panic(err) // a constant
	}
	return append([]byte{0, byte(len(body))}, body...)
}()

// runIdle brings a fresh posp up and reads what its memory grows by for each connection that has carried one echo and is silent.
func runIdle(ctx context.Context, opt Options, report *Report, say func(string, ...any)) (err error) {
	n, err := idleCount()
	if err != nil {
		return err
	}
	say("Starting a fresh posp for %d idle terminals ...", n)
	s, err := startSystem(ctx, Options{Terminals: 1, Connections: 1, BinDir: opt.BinDir})
	defer func() { err = errors.Join(err, s.stop()) }()
	if err != nil {
		return err
	}
	pid := s.processes.PIDs()["posp"]
	before, err := resident(pid)
	if err != nil {
		return err
	}
	conns, err := idle(ctx, s.terminalAddr, n)
	defer func() {
		for _, c := range conns {
			_ = c.Close() // they have done their part
		}
	}()
	if err != nil {
		return fmt.Errorf("connect idle terminals: %w", err)
	}
	select {
	case <-time.After(idleSettle):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := resident(pid)
	if err != nil {
		return err
	}
	each := float64(after-before) / float64(n)
	say("%d idle terminals: posp grew from %d to %d KiB", n, before>>10, after>>10)
	report.Lines = append(report.Lines, Line{
		Name: "idle_terminal_bytes", Unit: "B", Value: round(each), Baseline: idleLimit, Ratio: round(each / idleLimit), Against: againstLimit,
	})
	return nil
}

// idleCount is idleConnections, or what the limit of open files leaves: posp has the same limit and needs a file for each.
func idleCount() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil { // set explicitly, children inherit it
		return 0, fmt.Errorf("raise the limit of open files: %w", err)
	}
	if limit.Max <= 2*idleSpare {
		return 0, fmt.Errorf("the limit of open files (%d) leaves no room for idle terminals: raise it (ulimit -Hn)", limit.Max)
	}
	return int(min(idleConnections, limit.Max-idleSpare)), nil
}

// idle opens the connections, each with one echo. What it has opened is returned with an error too.
func idle(ctx context.Context, addr string, n int) ([]net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conns := make([]net.Conn, n)
	var failed error
	var once sync.Once
	var dialers sync.WaitGroup
	for d := range idleDialers {
		dialers.Go(func() {
			for i := d; i < n && ctx.Err() == nil; i += idleDialers {
				c, err := echoed(ctx, addr, net.IPv4(127, 0, 0, byte(2+i%idleAddresses)))
				if err != nil {
					once.Do(func() { failed = fmt.Errorf("number %d: %w", i, err); cancel() })
					return
				}
				conns[i] = c
			}
		})
	}
	dialers.Wait()
	var open []net.Conn
	for _, c := range conns {
		if c != nil {
			open = append(open, c)
		}
	}
	return open, failed
}

// echoed is a connection from an address that has carried one echo.
func echoed(ctx context.Context, addr string, from net.IP) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: idlePatience}
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(idlePatience)) // fails only on a closed socket: the write tells
	answer := make([]byte, 2+13)
	_, err = c.Write(echoFrame)
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err == nil && (answer[2+11] != 0x08 || answer[2+12] != 0x30) {
		err = errors.New("the echo is not answered with 0830")
	}
	if err == nil {
		_, err = io.CopyN(io.Discard, c, int64(answer[0])<<8+int64(answer[1])-13)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// resident is the memory of a process that is in RAM, in bytes.
func resident(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory of posp (measured on Linux only): %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("memory of posp: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("memory of posp: /proc does not tell it")
}
