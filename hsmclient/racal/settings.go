package racal

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/wire"
)

// defaultHeader is the factory setting of the header's length (facts/hsm.md §1.1).
const defaultHeader = 4

// Make is the driver.Maker of the family. The settings are:
//
//	header_length  0 to 255     characters in front of every command (4)
//	length_rule    all|payload  whether the length field counts the header (all)
//	echo           true|false   whether the device gives the header back; without it one request is under way at a time (true)
//	trailer        true|false   a second label at the end, by which an answer with another request's header is found out (as echo)
//	lmk_id         00 to 99     the LMK of the device to work with, as %nn behind every command (none: the port's own)
//	lmk            variant|keyblock           the form of the keys (variant)
//	variant_set    payshield|sjj1310          the set of host commands (payshield)
//	legacy_types   true|false   terminal master and terminal PIN keys are both of type 002 (false)
//	old_domain     text         the LMK domain whose LMK is in the device's key-change storage, for BW (none)
//	zone_form      variant|plain|tr31         the form in which keys leave under a zone master key (variant; tr31 with lmk=keyblock)
func Make(settings map[string]string) (driver.Driver, error) {
	d, err := newDriver(settings)
	if err != nil {
		return nil, err // not d: a nil *Driver in the interface would not be nil
	}
	return d, nil
}

// keyForm says in words what decides the form of keys under the LMK, and the type that they are made with.
func keyForm(blocks, chinese, legacy bool) string {
	switch {
	case blocks:
		return "key blocks (lmk keyblock)"
	case chinese && legacy:
		return "keys under a variant LMK with the types of sjj1310, terminal keys of type 002 (lmk variant, variant_set sjj1310, legacy_types true)"
	case chinese:
		return "keys under a variant LMK with the types of sjj1310 (lmk variant, variant_set sjj1310)"
	case legacy:
		return "keys under a variant LMK, terminal keys of type 002 (lmk variant, legacy_types true)"
	}
	return "keys under a variant LMK (lmk variant)"
}

// KeyForm implements driver.KeyFormer.
func (d *Driver) KeyForm() string { return d.keyForm }

// CheckAddr implements driver.AddrChecker: host and port of a TCP connection.
func (*Driver) CheckAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("the address %q is not host:port", addr)
	}
	if n, err := strconv.Atoi(port); host == "" || err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("the address %q needs a host, and a port from 1 to 65535", addr)
	}
	return nil
}

func newDriver(settings map[string]string) (*Driver, error) {
	p := parser{settings: settings}
	d := &Driver{
		frame: wire.Config{
			HeaderLength: p.number("header_length", defaultHeader, 255),
			BareLength:   p.choice("length_rule", "all", "payload") == 1,
			Probe:        cmdNC,
		},
		oldDomain: p.text("old_domain"),
	}
	blocks, chinese := p.choice("lmk", "variant", "keyblock") == 1, p.choice("variant_set", "payshield", "sjj1310") == 1
	legacy := p.flag("legacy_types", false)
	d.keyForm = keyForm(blocks, chinese, legacy)
	d.set = payshield
	switch {
	case chinese:
		d.set = sjj1310
	case blocks:
		d.set = payshieldBlocks
	}
	if legacy {
		d.set.types = legacyTypes(d.set.types)
	}
	d.form, d.zone = variantForm{types: d.set.types}, zoneForm(p.choice("zone_form", "variant", "plain", "tr31"))
	if blocks {
		d.form = blockForm{}
		if settings["zone_form"] == "" {
			d.zone = zoneTR31
		}
	}
	d.frame.Echo = p.flag("echo", d.frame.HeaderLength > 0)
	d.frame.Trailer = p.flag("trailer", d.frame.Echo)
	if id := p.text("lmk_id"); id != "" {
		if len(id) != 2 || strings.Trim(id, "0123456789") != "" {
			p.fail("lmk_id", id, "two digits")
		}
		d.frame.Suffix = "%" + id
	}
	switch {
	case p.err != nil:
	case chinese && blocks:
		p.err = errors.New("setting lmk: the set sjj1310 has no key blocks: leave lmk out")
	case d.zone == zoneTR31 && !blocks:
		p.err = errors.New("setting zone_form: only a key-block LMK makes TR-31 blocks: set lmk to keyblock, or zone_form to variant or plain")
	case d.frame.Echo && d.frame.HeaderLength == 0:
		p.err = errors.New("setting echo: a header of length 0 cannot be given back: set echo to false, or header_length to what the device has")
	case d.frame.Trailer && !d.frame.Echo:
		p.err = errors.New("setting trailer: it is of use only with echo: leave it out")
	}
	if err := p.end(); err != nil {
		return nil, fmt.Errorf("racal driver: %w", err)
	}
	return d, nil
}

// parser reads settings. The first mistake is kept.
type parser struct {
	settings map[string]string
	known    []string
	err      error
}

func (p *parser) text(name string) string {
	p.known = append(p.known, name)
	return p.settings[name]
}

func (p *parser) fail(name, value, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("setting %s is %q, want %s", name, value, want)
	}
}

func (p *parser) number(name string, normal, highest int) int {
	value := p.text(name)
	if value == "" {
		return normal
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 || n > highest {
		p.fail(name, value, fmt.Sprintf("a number from 0 to %d", highest))
	}
	return n
}

func (p *parser) flag(name string, normal bool) bool {
	switch value := p.text(name); value {
	case "":
		return normal
	case "true":
		return true
	case "false":
	default:
		p.fail(name, value, "true or false")
	}
	return false
}

// choice gives the place of the value among the choices, of which the first is the normal one.
func (p *parser) choice(name string, choices ...string) int {
	value := p.text(name)
	i := slices.Index(choices, value)
	if i < 0 && value != "" {
		p.fail(name, value, strings.Join(choices, " or "))
	}
	return max(i, 0)
}

// end refuses settings that nobody has asked for.
func (p *parser) end() error {
	for _, name := range slices.Sorted(maps.Keys(p.settings)) {
		if p.err == nil && !slices.Contains(p.known, name) {
			p.err = fmt.Errorf("setting %q is not known, the driver has: %s", name, strings.Join(p.known, ", "))
		}
	}
	return p.err
}
