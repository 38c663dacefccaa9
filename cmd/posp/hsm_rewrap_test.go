package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/keyservice"
	"github.com/keyward/keyward/internal/keyservice/keyservicetest"
	"github.com/keyward/keyward/keys"
)

// mover runs "posp hsm rewrap" against a key service.
type mover struct {
	t      *testing.T
	config string
}

func newMover(t *testing.T, s *keyservicetest.Service, name string) *mover {
	t.Helper()
	id := s.Identity(t, name)
	file := filepath.Join(t.TempDir(), "hsm-issuing.yaml")
	text := fmt.Sprintf("url: %s\ncert: %s\nkey: %s\nca: %s\n", s.URL, id.Cert, id.Key, id.CA)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return &mover{t, file}
}

// run wants the exit code and every word in output or errors.
func (m *mover) run(args string, code int, words ...string) string {
	m.t.Helper()
	var out, errs bytes.Buffer
	got := run(append([]string{"hsm", "--config", m.config, "rewrap"}, strings.Fields(args)...), &out, &errs)
	text := out.String() + errs.String()
	if got != code {
		m.t.Fatalf("%s: exit code %d, want %d: %s", args, got, code, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			m.t.Errorf("%s: no %q in %s", args, w, text)
		}
	}
	return out.String()
}

// TestRewrapCommands goes the whole way from one LMK to the other by command line.
func TestRewrapCommands(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{Operators: []string{"li.na"}, Migration: func(s *keyservicetest.Service) keyservice.MigrationHSM { return s.Group(t, "migration") }})
	m, stranger, posp := newMover(t, s, "li.na"), newMover(t, s, "stranger"), newMover(t, s, "posp")
	m.run("status", 0, "no job yet")
	m.run("pause", exitNotFound, "no job is open")
	m.run("pause x", exitUsage, "no number of a job")
	m.run("nothing", exitUsage)
	m.run("start --from dev", exitUsage, "to")
	m.run("start --from nowhere --to dev-block", exitRefused, "no key lives in LMK domain nowhere")
	stranger.run("status", exitForbidden, "rewrap.operators")
	posp.run("start --from dev --to dev-block", exitForbidden)
	m.run("start --from dev --to dev-block --rate 1000 --watch", 0, "copied", "[##############################] 100%  5 of 5")
	m.run("start --from dev --to dev-block", exitRefused, "job 1")
	m.run("status", 0, "job 1: dev to dev-block", "copied               5 of 5, 0 left, 0 differ", "at most 1000 keys/s", "retire waits: keys still work in domain dev", "by li.na")
	posp.run("status", 0, "job 1")
	var st struct {
		Job      int    `json:"job"`
		State    string `json:"state"`
		Progress struct{ Done int }
	}
	if err := json.Unmarshal([]byte(m.run("status 1 --output json", 0)), &st); err != nil || st.Job != 1 || st.State != "copied" || st.Progress.Done != 5 {
		t.Errorf("status %+v: %v", st, err)
	}
	m.run("status 9", exitNotFound)
	m.run("switch", exitUsage, "which keys?")
	m.run("switch --all --share 5", exitUsage, "--all is every key")
	m.run("switch --card 1", exitRefused, "20 digits")
	m.run("switch --name PSAM-ROOT --watch", 0, "switched", "2 of 5")
	m.run("switch --all --watch --output json", 0, `"switched": 5`)
	m.run("back --watch", 0, "copied")
	m.run("switch --all --watch", 0, "5 of 5")

	// A key of posp's configuration, as YAML and as JSON.
	variant, err := s.Device.EncryptUnderLMK("001", "U", []byte{0x10, 0x20, 0x40, 0x80, 0x01, 0x02, 0x04, 0x08, 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80})
	if err != nil {
		t.Fatal(err)
	}
	m.run("key", exitUsage, "--posp FILE")
	m.run("key --usage zpk --kcv x --cryptogram "+variant, exitUsage, "--kcv")
	m.run("key --usage tmk --cryptogram "+variant, exitRefused, "stands in no configuration")
	m.run("key --usage zpk --kcv 111111 --cryptogram "+variant, exitRefused, "stored is 111111")
	m.run("key --usage zpk --kcv 2121A7 --cryptogram "+variant, 0, "# zpk, check value 2121A7B507A7726D in dev-block as before\ntwins: [{domain: dev-block, cryptogram: S1")
	file := filepath.Join(t.TempDir(), "posp.yaml")
	zak, err := s.Device.EncryptUnderLMK("008", "U", []byte{8, 8, 8, 8, 16, 16, 16, 16, 32, 32, 32, 32, 64, 64, 64, 64})
	if err != nil {
		t.Fatal(err)
	}
	const config = `profile: dev
instance: posp-1
database: {url_file: u}
terminals: [{addr: "127.0.0.1:7001", private: true}]
hsm: {domain: dev, members: [{name: hsm1, addr: "127.0.0.1:1"}]}
hosts: [{name: bank, dialect: core, addr: "127.0.0.1:2", private: true, zpk: {algorithm: tdes, domain: dev, version: 1, cryptogram: %s}, zak: {algorithm: tdes, domain: dev, version: 1, cryptogram: %s, kcv: 288AC5}}]
seal_key: {algorithm: tdes, domain: dev, version: 1, cryptogram: %s%s}
journal: {dir: j}
`
	for kcv, expect := range map[string]int{"": 0, ", kcv: 111111": exitRefused} {
		if err := os.WriteFile(file, []byte(fmt.Sprintf(config, variant, zak, zak, kcv)), 0o600); err != nil {
			t.Fatal(err)
		}
		text := m.run("key --posp "+file, expect)
		if expect == 0 && (strings.Count(text, "twins: [{domain: dev-block, cryptogram: S1") != 3 || !strings.Contains(text, "# hosts.bank.zak, check value 288AC55A617E471D") || !strings.Contains(text, `, kcv: "288AC55A617E471D"}]`)) {
			t.Errorf("twins %s", text)
		}
	}

	m.run("report", 0, "PSAM-TRANSPORT  card-control  tdes", "agrees", "5 keys agree, 0 differ")
	var report struct{ Good, Differ int }
	if err := json.Unmarshal([]byte(m.run("report 1 --output json", 0, "kcv_before")), &report); err != nil || report.Good != 5 || report.Differ != 0 {
		t.Errorf("report %+v: %v", report, err)
	}
	m.run("cancel", exitRefused, "cannot become cancelling")
	m.run("retire --watch", 0, "retired")
	m.run("retire", exitNotFound, "no job is open")
	m.run("status", 0, "retired", "dev-block", "translate")
	if _, err := s.Store.Newest(t.Context(), "PSAM-ROOT", keys.Root, keys.TDES); err != nil {
		t.Error(err)
	}
}

// TestRewrapDiffers: a key that does not come out as it went in ends the watched copy and the report with a code of their own.
func TestRewrapDiffers(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{Operators: []string{"li.na"}})
	if _, err := s.DB.Pool(t, "keyward_keys").Exec(t.Context(), `UPDATE keys SET kcv = '0000000000000000' WHERE name = 'PSAM-ACK'`); err != nil {
		t.Fatal(err)
	}
	m := newMover(t, s, "li.na")
	m.run("start --from dev --to dev-block --rate 1000 --watch", exitRewrapDiffers, "4 of 5", "1 differ", "rewrap report 1 --differences")
	m.run("report --differences", exitRewrapDiffers, "PSAM-ACK", "DIFFERS", "4 keys agree, 1 differ")
	m.run("switch --all", exitRefused, "keys differ")
	m.run("resume --rate 500 --watch", exitRewrapDiffers)
	m.run("cancel --watch", 0, "cancelled")
}

// TestKeysImportTwin: the same key under another LMK becomes a twin, checked by a device of its own domain.
func TestKeysImportTwin(t *testing.T) {
	t.Parallel()
	s := keyservicetest.New(t, keyservicetest.Options{})
	config := keysConfig(t, s, "127.0.0.1:0")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, []byte(fmt.Sprintf(`rewrap:
  hsm:
    domain: dev-block
    settings: {lmk: keyblock, lmk_id: "01"}
    members: [{name: hsm1-block, addr: "%s"}]
`, s.Device.Addr("migration")))...)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	block, err := s.Device.EncryptInKeyBlock("E7T2X00N00", []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10})
	if err != nil {
		t.Fatal(err)
	}
	for domain, word := range map[string]string{"dev-block": "PSAM-ROOT root/tdes version 1, check value 08D7B4FB629D0885: stored", "elsewhere": "neither hsm nor rewrap.hsm"} {
		var out, errs bytes.Buffer
		run([]string{"keys", "import", "--config", config, "--name", "PSAM-ROOT", "--usage", "root", "--domain", domain, "--cryptogram", block}, &out, &errs)
		if text := out.String() + errs.String(); !strings.Contains(text, word) {
			t.Errorf("%s: %s", domain, text)
		}
	}
	k, err := s.Store.Newest(t.Context(), "PSAM-ROOT", keys.Root, keys.TDES)
	if err != nil || k.Domain != "dev" {
		t.Fatalf("the key works in %v: %v", k, err)
	}
	if twin, err := s.Store.InDomain(t.Context(), k, "dev-block"); err != nil || twin.Cryptogram != block {
		t.Errorf("twin %v: %v", twin, err)
	}
}
