package control

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"

	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/hsm"
)

// Config is the configuration file of the simulators (docs/simulators.md). Relative directories are taken from the folder
// in which the process runs.
type Config struct {
	Profile service.Profile   `yaml:"profile"` // dev or test; production is refused: simulators guard nothing
	Log     service.LogConfig `yaml:"log"`
	Listen  string            `yaml:"listen"` // host:port of the control API, which has no access control: a loopback address
	HSMs    []HSM             `yaml:"hsms"`
	Bank    Bank              `yaml:"bank"`
	Cards   Cards             `yaml:"cards"`

	Terminals    Terminals     `yaml:"terminals"`
	TransportKey Key           `yaml:"transport_key"` // what blank cards come with, 16 bytes
	Traffic      TrafficConfig `yaml:"traffic"`
}

// HSM is one simulated device.
type HSM struct {
	Name         string `yaml:"name"`
	Serial       string `yaml:"serial"`   // at most twelve characters, which JK tells too; empty: a value of the simulator's
	Set          string `yaml:"set"`      // commands: payshield (empty) or sjj1310
	Firmware     string `yaml:"firmware"` // nine characters, in the set sjj1310 up to 24; empty: a value of the simulator's
	LMKSeed      string `yaml:"lmk_seed"` // variant LMK, id 00; empty: the public test LMK
	BlockLMKSeed string `yaml:"key_block_lmk_seed"`
	DefaultLMK   string `yaml:"default_lmk"` // id that a command without one means; empty: 00
	// Old LMKs by the id that their keys go to: none, 00, 01, test-old, seed:TEXT or keyblock:TEXT (docs/hsm-sim.md §9.5).
	OldLMKs        map[string]string `yaml:"old_lmks"`
	HeaderLength   *int              `yaml:"header_length"` // 0 to 255; left out: 4
	LengthRule     string            `yaml:"length_rule"`   // all (empty) or payload
	Ports          []Port            `yaml:"ports"`
	MaxConnections int               `yaml:"max_connections"`  // 0: 64
	HistorySize    int               `yaml:"history_size"`     // 0: 1000 commands
	RatedPerSecond int               `yaml:"rated_per_second"` // full load in the answer to J2; 0: commands_per_second, or 2500
	// How fast the device is by nature. Mending goes back to these.
	LatencyMS         int `yaml:"latency_ms"`
	JitterMS          int `yaml:"jitter_ms"`
	CommandsPerSecond int `yaml:"commands_per_second"` // 0: no limit
}

// Port is one listener of a device.
type Port struct {
	Name  string `yaml:"name"` // empty: the group
	Addr  string `yaml:"addr"`
	Group string `yaml:"group"` // the list of commands: online, issuing, migration or all (docs/hsm-sim.md §4)
}

// Bank is the simulated core bank.
type Bank struct {
	Addr       string `yaml:"addr"`
	StateFile  string `yaml:"state_file"`  // empty: the book lives in memory
	IssuerCode string `yaml:"issuer_code"` // field 44 of answers; empty: none
	ZPK        Key    `yaml:"zpk"`
	ZAK        Key    `yaml:"zak"`
}

// Cards is the tray of virtual PSAM cards.
type Cards struct {
	Dir string `yaml:"dir"` // one image per card
	// Refill puts a blank card into the reader for any number that is asked for, as a full stock would.
	Refill bool `yaml:"refill"`
}

// Terminals are the simulated POS terminals.
type Terminals struct {
	StateDir string      `yaml:"state_dir"` // one file per terminal
	POSP     string      `yaml:"posp_addr"` // host:port of posp's terminal listener
	TLS      TerminalTLS `yaml:"tls"`       // the other way to posp, for commands that ask for it; left out: none
	List     []Terminal  `yaml:"list"`      // terminals that are there from the start; others come by POST /v1/terminals
}

// TerminalTLS is posp's TLS listener as the simulated terminals use it.
type TerminalTLS struct {
	Addr string `yaml:"addr"` // host:port
	CA   string `yaml:"ca"`   // the authority of posp's certificate, PEM
	Dir  string `yaml:"dir"`  // has NUMBER.crt and NUMBER.key of each terminal, PEM
}

// Terminal binds a terminal to a merchant and a card. An empty merchant or card means the default of 1000NNNN (design.md §6).
type Terminal struct {
	TerminalID string `yaml:"terminal_id" json:"terminal_id"`
	MerchantID string `yaml:"merchant_id" json:"merchant_id,omitempty"`
	PSAMNo     string `yaml:"psam_no" json:"psam_no,omitempty"`
}

// TrafficConfig is a stream of transactions. In a configuration a rate of 0 means none.
type TrafficConfig struct {
	RatePerSecond float64  `yaml:"rate_per_second" json:"rate_per_second"` // over all terminals, up to 1000
	Terminals     []string `yaml:"terminals" json:"terminals"`             // terminal numbers
}

// keyBytes is the size of every key in this file.
const keyBytes = 16

// Key is a public test value: written down as it is, or in a file of its own.
type Key struct {
	Value string             `yaml:"value"` // 32 hex digits
	File  service.SecretFile `yaml:"file"`  // a file that holds 32 hex digits
}

// String hides the value.
func (Key) String() string { return "***" }

// GoString hides the value.
func (k Key) GoString() string { return k.String() }

// bytes reads the key. Errors never show it.
func (k Key) bytes() ([]byte, error) {
	text := k.Value
	if (k.Value == "") == (k.File == "") {
		return nil, errors.New("give either value (32 hex digits) or file")
	}
	if k.File != "" {
		content, err := k.File.Read()
		if err != nil {
			return nil, err
		}
		text = string(content.Reveal())
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != keyBytes {
		return nil, errors.New("need 32 hex digits")
	}
	return key, nil
}

// groups are the lists of commands that a port may have.
var groups = map[string]func() []string{
	"online": hsm.OnlineCommands, "issuing": hsm.IssuingCommands, "migration": hsm.MigrationCommands, "all": hsm.AllCommands,
}

var _ service.Validator = (*Config)(nil)

// Validate checks what the types cannot. The simulators check their own parts when they are made.
func (c *Config) Validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Profile != service.Dev && c.Profile != service.Test {
		add("profile: must be dev or test: simulators hold public test keys and must never stand beside a production system")
	}
	for what, addr := range map[string]string{"listen": c.Listen, "bank.addr": c.Bank.Addr, "terminals.posp_addr": c.Terminals.POSP} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			add("%s: want host:port", what)
		}
	}
	if c.Cards.Dir == "" || c.Terminals.StateDir == "" {
		add("cards.dir and terminals.state_dir: name the directories in which cards and terminals are kept")
	}
	names := map[string]bool{}
	for i, h := range c.HSMs {
		if !plainName(h.Name) || names[h.Name] {
			add("hsms[%d].name: want 1 to %d letters, digits or hyphens, each name once", i, maxName)
		}
		names[h.Name] = true
		for j, p := range h.Ports {
			if groups[p.Group] == nil {
				add("hsms[%d].ports[%d].group: want online, issuing, migration or all", i, j)
			}
		}
	}
	if c.Traffic.RatePerSecond != 0 {
		if err := c.Traffic.check(); err != nil {
			add("traffic: %w", err)
		}
	}
	return errors.Join(faults...)
}

// maxName bounds the name of a device; it stands in paths and logs.
const maxName = 32

func plainName(name string) bool {
	for _, c := range []byte(name) {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}
