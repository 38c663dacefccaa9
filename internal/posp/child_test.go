package posp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posp/host"
	"github.com/keyward/keyward/internal/posp/host/core"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/keys"
)

const (
	// childEnv names the configuration file of a posp that runs as a process of its own, in this very binary.
	childEnv = "KEYWARD_POSP_CHILD"
	// childReady is what it prints when it serves.
	childReady = "ready"
)

// child is posp as cmd/posp wires it, from a configuration file, until its parent has gone.
func child(path string) int {
	if err := runChild(path); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

func runChild(path string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent does
		cancel()
	}()
	cfg := posp.DefaultConfig()
	if err := service.LoadConfig(path, &cfg); err != nil {
		return err
	}
	log, err := service.NewLogger(os.Stderr, cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return err
	}
	client, err := hsmclient.New(hsmclient.Config{
		Name: "online", Domains: []hsmclient.Domain{{Name: cfg.HSM.Domain}}, Drivers: map[string]driver.Maker{"racal": racal.Make}, Log: log,
		Members: []member.Spec{{Name: cfg.HSM.Members[0].Name, Addr: cfg.HSM.Members[0].Addr}},
	})
	if err != nil {
		return err
	}
	if err := client.Start(ctx); err != nil {
		return err
	}
	h := cfg.Hosts[0]
	bankHost, err := core.New(core.Config{
		Name: h.Name, Addr: h.Addr, ZPK: h.ZPK.Key(keys.ZonePIN), ZAK: h.ZAK.Key(keys.ZoneMAC), AcquirerID: cfg.Flow.AcquirerID, Log: log,
		BackoffMin: 20 * time.Millisecond, BackoffMax: 100 * time.Millisecond,
	}, client)
	if err != nil {
		return err
	}
	if err := bankHost.Start(ctx); err != nil {
		return err
	}
	app, err := posp.New(posp.Options{Config: cfg, HSM: client, Hosts: []host.Host{bankHost}, Log: log, Registry: service.NewRegistry()})
	if err != nil {
		return err
	}
	if err := app.Start(ctx); err != nil {
		return err
	}
	for bankHost.Ready() != nil && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond) // polling; there is no signal for it
	}
	fmt.Println(childReady)
	if err := app.Wait(ctx); err != nil {
		return err
	}
	return errors.New("the parent has gone")
}

// process is a posp that can be killed.
type process struct {
	s     *system
	file  string
	log   string
	cmd   *exec.Cmd
	stdin io.Closer
}

// newProcess stops the posp of this process and prepares one of its own with the same configuration, spool and database.
func newProcess(s *system) *process {
	s.t.Helper()
	s.stopPOSP()
	dir := s.t.TempDir()
	p := &process{s: s, file: filepath.Join(dir, "posp.yaml"), log: filepath.Join(dir, "posp.log")}
	key := func(k posp.KeyConfig) string {
		return fmt.Sprintf("{algorithm: %s, domain: %s, version: %d, cryptogram: %s}", k.Algorithm, k.Domain, k.Version, k.Cryptogram)
	}
	c := s.cfg
	s.must(os.WriteFile(p.file, []byte(fmt.Sprintf(`profile: test
instance: posp-child
log: {level: debug, format: text}
database: {url_file: %s, max_connections: 10}
terminals: [{addr: "%s", private: true}]
operations: {addr: "%s", private: true}
hsm: {domain: %s, members: [{name: hsm1, addr: "%s"}]}
hosts: [{name: core, dialect: core, addr: "%s", private: true, zpk: %s, zak: %s}]
seal_key: %s
journal: {dir: %s, ack: %s}
flow: {host_timeout: 2s, hsm_timeout: 1s, sign_ons_per_minute: 1000, pins_per_card: 100000, pins_per_terminal: 100000}
`, c.Database.URLFile, c.Terminals[0].Addr, c.Operations.Addr, c.HSM.Domain, c.HSM.Members[0].Addr, c.Hosts[0].Addr, key(c.Hosts[0].ZPK),
		key(c.Hosts[0].ZAK), key(c.SealKey), c.Journal.Dir, c.Journal.Ack)), 0o600))
	s.t.Cleanup(p.kill)
	p.start()
	return p
}

// start runs the process and waits until it serves.
func (p *process) start() {
	p.s.t.Helper()
	binary, err := os.Executable()
	p.s.must(err)
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	p.s.must(err)
	defer func() { _ = log.Close() }()
	cmd := exec.Command(binary) // Without a context: kill ends it.
	cmd.Env = append(os.Environ(), childEnv+"="+p.file)
	cmd.Stderr = log
	stdin, err := cmd.StdinPipe()
	p.s.must(err)
	stdout, err := cmd.StdoutPipe()
	p.s.must(err)
	p.s.must(cmd.Start())
	p.cmd, p.stdin = cmd, stdin
	time.AfterFunc(30*time.Second, func() { _ = stdout.Close() }) // bounds the wait for its word
	if line, err := bufio.NewReader(stdout).ReadString('\n'); strings.TrimSpace(line) != childReady {
		p.s.t.Fatalf("posp said %q, %v; its log:\n%s", line, err, p.tail())
	}
}

// kill ends the process with SIGKILL and waits for its end.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.stdin.Close()
	p.cmd = nil
}

// tail is the end of the process's log.
func (p *process) tail() string {
	const last = 6000
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-last):])
}
