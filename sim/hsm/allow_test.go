package hsm

import (
	"testing"
)

func TestAllowEntries(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"ZZ", "", "M2/", "M2/ZZZ", "CA/001", "NC/001", "M2/FFF", "M2/P0", "CA/72"} {
		if _, err := parseAllow([]string{bad}); err == nil {
			t.Errorf("entry %q accepted", bad)
		}
	}
	list, err := parseAllow([]string{"M2/30B", "M2/00B", "M2/23", "M0/30B", "M0", "M4", "M4/30B"})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, keyType string
		want          bool
	}{{"M2", "30B", true}, {"M2", "00B", true}, {"M2", "23", true}, {"M2", "22", false}, {"M2", "00A", false}, {"M0", "00A", true}, {"M4", "00A", true}} {
		if list[row.name].permits(row.keyType) != row.want {
			t.Errorf("%s with %s: want %v", row.name, row.keyType, row.want)
		}
	}
	for _, name := range AllCommands() {
		if _, err := parseAllow([]string{name}); err != nil {
			t.Error(err)
		}
	}
}

// TestGroups asks every command on every ready list: 68 when it is not on it, anything else when it is.
func TestGroups(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Ports: []Port{
		{Name: "online", Addr: "127.0.0.1:0", Allow: OnlineCommands()}, {Name: "issuing", Addr: "127.0.0.1:0", Allow: IssuingCommands()},
		{Name: "migration", Addr: "127.0.0.1:0", Allow: MigrationCommands()},
		{Name: "all", Addr: "127.0.0.1:0", Allow: AllCommands()},
	}})
	allowed := map[string]map[string]bool{"online": {}, "issuing": {}, "migration": {}, "all": {}}
	for _, name := range []string{"B2", "NC", "NO", "N0", "JK", "J2", "J4", "BU", "HA", "HC", "A0", "CA", "TI", "CC", "M2", "M4", "M6", "M8", "S0"} {
		allowed["online"][name] = true
	}
	for _, name := range []string{"B2", "NC", "NO", "N0", "JK", "J2", "J4", "BU", "BW", "KD", "KG", "SH", "KR"} {
		allowed["issuing"][name] = true
	}
	for _, name := range []string{"B2", "NC", "NO", "BU", "A6", "A8", "BW"} {
		allowed["migration"][name] = true
	}
	for port, list := range allowed {
		c := dial(t, d, port)
		for _, name := range AllCommands() {
			code, _ := c.ask(name)
			if port != "all" && (code != "68") != list[name] {
				t.Errorf("%s on port %s: code %s", name, port, code)
			}
			if port == "all" && (code == "68") == commands[name].in(false) {
				t.Errorf("%s on the port for all: code %s", name, code)
			}
		}
	}
}

func TestOnlineRestrictions(t *testing.T) {
	t.Parallel()
	d := startDevice(t, Config{Ports: []Port{{Name: "online", Addr: "127.0.0.1:0", Allow: OnlineCommands()}}})
	c := dial(t, d, "online")
	const clear, block = "0123456789ABCDEFFEDCBA9876543210", "00100000000000000000"
	tdk, zek, dek := typeTDK+sealed(t, d, typeTDK, "U", clear), typeZEK+sealed(t, d, typeZEK, "U", clear), typeDEK+sealed(t, d, typeDEK, "U", clear)
	tmk, zmk := sealed(t, d, typeTMK, "U", clear), sealed(t, d, typeZMK, "U", clear)
	for name, row := range map[string]struct{ body, code string }{
		"decrypt a track":            {"M20011" + tdk + block, "00"},
		"decrypt other data":         {"M20011" + dek + block, "29"},
		"decrypt zone data":          {"M20011" + zek + block, "29"},
		"translate a track":          {"M4000011" + tdk + zek + block, "00"},
		"translate to a track key":   {"M4000011" + zek + tdk + block, "29"},
		"track key for a terminal":   {"A0130BU;1" + tmk + "X", "00"},
		"track key for a zone":       {"A0130BU;0" + zmk + "X", "29"},
		"track key, not exported":    {"A0030BU", "29"},
		"other key for a terminal":   {"A01003U;1" + tmk + "X", "29"},
		"encrypt":                    {"M00011" + tdk + block, "68"},
		"export":                     {"A8001" + zmk + tmk + "X", "68"},
		"derive":                     {"KD011" + tmk + "80DU0010000000000000001", "68"},
		"derive before reading it":   {"KD", "68"},
		"card export":                {"SH00", "68"},
		"check value of a root key":  {"BUFF1" + sealed(t, d, typeRoot, "U", clear) + ";011;000", "00"},
		"MAC with the card key type": {"S0" + "0308" + "309" + sealed(t, d, typeControl, "U", clear) + "00" + "00" + "01" + "0000" + "0000000000000000", "29"},
	} {
		if code, rest := c.ask(row.body); code != row.code || code != "00" && rest != "" {
			t.Errorf("%s: code %s with %d characters, want %s", name, code, len(rest), row.code)
		}
	}
}
