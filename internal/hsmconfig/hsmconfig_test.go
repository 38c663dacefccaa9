package hsmconfig_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/service"
)

// file is a service's configuration with a group, as LoadConfig reads it.
type file struct {
	Profile service.Profile  `yaml:"profile"`
	HSM     hsmconfig.Config `yaml:"hsm"`
}

func (f *file) Validate() error { return f.HSM.Check(f.Profile) }

// load reads a configuration from a directory of the test and gives its members.
func load(t *testing.T, dir, text string) (*file, []member.Spec, error) {
	t.Helper()
	path := filepath.Join(dir, "service.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &file{HSM: hsmconfig.Default()}
	if err := service.LoadConfig(path, f); err != nil {
		return f, nil, err
	}
	specs, err := f.HSM.Specs(f.Profile)
	return f, specs, err
}

// TestShortForm: a domain and members are enough.
func TestShortForm(t *testing.T) {
	t.Parallel()
	f, specs, err := load(t, t.TempDir(), `{profile: dev, hsm: {domain: dev, members: [{name: hsm1, addr: "a:1"}]}}`)
	if err != nil || len(specs) != 1 || specs[0].Domain != "dev" || specs[0].Addr != "a:1" {
		t.Fatalf("%+v, %v", specs, err)
	}
	if !f.HSM.List.Shared || f.HSM.Timeout.Std().Seconds() != 3 || f.HSM.Canary.Key("dev").Cryptogram != "" {
		t.Errorf("defaults: %+v", f.HSM)
	}
}

// TestEverything: every setting of a member arrives, settings of the domain fill what a member leaves out, and a directory adds members.
func TestEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	members := filepath.Join(dir, "hsm.d")
	if err := os.Mkdir(members, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"hsm-b.yaml": `{addr: "b:1", domain: new, private: true, settings: {lmk_id: "02"}}`,
		"other.yaml": `{name: hsm-c, addr: "c:1", tls: {cert: c.pem, key: c.key, ca: ca.pem, server_name: x}}`, "c.key": "x", "notes.txt": "nothing",
	} {
		if err := os.WriteFile(filepath.Join(members, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, specs, err := load(t, dir, `
profile: production
hsm:
  domain: old
  lmk_check: "1122334455667788"
  firmware: [a, b-*]
  canary: {usage: zak, algorithm: tdes, cryptogram: S00, kcv: "A1B2C3D4E5F60718"}
  floor: 2
  settings: {lmk: keyblock}
  domains: [{name: new, lmk_check: "2122334455667788", firmware: [c], canary: {usage: seal, algorithm: tdes, cryptogram: U00, kcv: "B1B2C3D4E5F60718"}, settings: {lmk: variant, lmk_id: "01"}, storage: true}]
  members:
    - {name: hsm-a, driver: racal, addr: "a:1", role: standby, priority: 2, weight: 3, channels: 4, connections: 6, depth: 8, rated: 250, probe: B2, private: true}
  members_dir: DIR/hsm.d
  probing: {every: 2s, timeout: 1s, backoff_min: 1s, backoff_max: 5s, admit_times: 2}
  readmit: working
  hold_down: 1s
  journal: {dir: j, off: true, file_bytes: 100000, file_age: 1h, keep_files: 3, keep_bytes: 1000000, keep_age: 2h}
  drills: {dir: d, keep: 3}
  list: {shared: false, local_copy: l}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []member.Spec{
		{
			Name: "hsm-a", Domain: "old", Driver: "racal", Addr: "a:1", Role: member.Standby, Priority: 2, Weight: 3, Channels: 4, Connections: 6, Depth: 8,
			Rated: 250, Probe: "B2", Settings: map[string]string{"lmk": "keyblock"}, Private: true,
		},
		{Name: "hsm-b", Domain: "new", Addr: "b:1", Settings: map[string]string{"lmk": "variant", "lmk_id": "02"}, Private: true},
		{
			Name: "hsm-c", Domain: "old", Addr: "c:1", Settings: map[string]string{"lmk": "keyblock"},
			TLS: &member.TLS{Cert: "c.pem", Key: filepath.Join(members, "c.key"), CA: "ca.pem", ServerName: "x"},
		},
	}
	if !reflect.DeepEqual(specs, want) {
		t.Errorf("members:\n%+v\nwant\n%+v", specs, want)
	}
	if k := f.HSM.Canary.Key("old"); k.Domain != "old" || k.KCV != "A1B2C3D4E5F60718" || k.Cryptogram != "S00" {
		t.Errorf("canary: %v", k)
	}
}

// TestMemberHasEverySetting: what a member.Spec can be told stands in the file under the same name.
func TestMemberHasEverySetting(t *testing.T) {
	t.Parallel()
	of := func(kind reflect.Type) map[string]bool {
		out := map[string]bool{}
		for i := range kind.NumField() {
			name, _, _ := strings.Cut(kind.Field(i).Tag.Get("yaml"), ",")
			out[name] = true
		}
		return out
	}
	if got, want := of(reflect.TypeFor[hsmconfig.Member]()), of(reflect.TypeFor[member.Spec]()); !reflect.DeepEqual(got, want) {
		t.Errorf("keys %v, want %v", got, want)
	}
	if got, want := of(reflect.TypeFor[hsmconfig.TLS]()), of(reflect.TypeFor[member.TLS]()); !reflect.DeepEqual(got, want) {
		t.Errorf("keys of tls %v, want %v", got, want)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	const good = `
profile: production
hsm:
  domain: prod
  lmk_check: "1122334455667788"
  firmware: ["1500-0020", "1500-003*"]
  canary: {usage: zak, algorithm: tdes, cryptogram: U00, kcv: "A1B2C3D4E5F60718"}
  members: [{name: hsm1, addr: "a:1", private: true}]
  journal: {dir: j}
`
	if _, _, err := load(t, t.TempDir(), good); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ old, new, want string }{
		{"domain: prod", "floor: 1", "hsm.domain"},
		{`lmk_check: "1122334455667788"`, "floor: 1", "hsm.lmk_check"},
		{"1122334455667788", "2686047444912422", "public test LMK"},
		{"1122334455667788", "DB3FB663EE8D2B66", "public test LMK for key blocks"},
		{"1122334455667788", "xyz", "6 to 32 hex digits"},
		{`members: [{name: hsm1, addr: "a:1", private: true}]`, "floor: 1", "at least one member"},
		{", private: true", "", "the line to hsm1 is plain"},
		{`addr: "a:1"`, `addr: ""`, "needs a name and an addr"},
		{"private: true", "private: true, domain: other", "domain other is not among"},
		{"private: true", "role: hot, private: true", "role must be working, standby or fenced"},
		{"private: true", "tls: {cert: c, ca: a}", "cert and key together"},
		{"private: true", "tls: {ca: a}, colour: red", "colour"},
		{"private: true}]", "private: true}, {name: hsm1, addr: \"b:1\", private: true}]", "stands twice"},
		{"journal: {dir: j}", "floor: 1", "hsm.journal.dir"},
		{"journal: {dir: j}", "journal: {dir: j, keep_files: -1}", "must not be below zero"},
		{"journal: {dir: j}", "journal: {dir: j}\n  readmit: soon", "hsm.readmit"},
		{"journal: {dir: j}", "journal: {dir: j}\n  probing: {every: 1s, timeout: 2s}", "hsm.probing.timeout"},
		{"journal: {dir: j}", "journal: {dir: j}\n  probing: {backoff_min: 2s, backoff_max: 1s}", "hsm.probing.backoff_min"},
		{"journal: {dir: j}", "journal: {dir: j}\n  list: {retention: 1h}", "hsm.list.retention"},
		{"journal: {dir: j}", "journal: {dir: j}\n  domains: [{name: prod, lmk_check: \"2122334455667788\"}]", "a name of its own"},
		{"journal: {dir: j}", "journal: {dir: j}\n  domains: [{name: new}]", "hsm.domains: new.lmk_check"},
		{`, kcv: "A1B2C3D4E5F60718"`, "", "canary needs"},
		{`"A1B2C3D4E5F60718"`, "8750E051DC15268A", "public test key"},
		{`canary: {usage: zak, algorithm: tdes, cryptogram: U00, kcv: "A1B2C3D4E5F60718"}`, "floor: 1", "hsm.canary: name a key"},
		{`firmware: ["1500-0020", "1500-003*"]`, "floor: 1", "hsm.firmware: name the firmware"},
		{`"1500-003*"`, `"*"`, "hsm.firmware: name the firmware"},
		{"journal: {dir: j}", "journal: {dir: j}\n  domains: [{name: new, lmk_check: \"2122334455667788\"}]", "hsm.domains: new.canary: name a key"},
		{"journal: {dir: j}", "journal: {dir: j}\n  domains: [{name: new, lmk_check: \"2122334455667788\"}]", "hsm.domains: new.firmware: name the firmware"},
		{"journal: {dir: j}", "journal: {dir: j}\n  members_dir: DIR/none", "hsm.members_dir"},
		{"journal: {dir: j}", "journal: {dir: j}\n  places: [\"10.3.0.0/240\"]", "hsm.places"},
		{"journal: {dir: j}", "journal: {dir: j}\n  places: [\"hsm1:2500\"]", "leave the port out"},
		{"journal: {dir: j}", "journal: {dir: j}\n  private_places: [\"hsm1:2500\"]", "hsm.private_places"},
		{"journal: {dir: j}", "journal: {dir: j}\n  private_places: [/usr/lib/token.so]", "which has no line"},
		{"journal: {dir: j}", "journal: {dir: j}\n  tls: {cert: c, ca: a}", "hsm.tls needs"},
	} {
		text := strings.Replace(good, test.old, test.new, 1)
		if text == good {
			t.Fatalf("%q is not in the text", test.old)
		}
		if _, _, err := load(t, t.TempDir(), text); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", test.new, err, test.want)
		}
	}
}

// TestMembersDirRefusals: a file of a device is as strict as the rest, and a key file open to everybody is refused in production.
func TestMembersDirRefusals(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		"colour": `{addr: "a:1", colour: red}`, "is plain": `{addr: "a:1"}`, "can be read or written by every user": `{addr: "a:1", tls: {cert: c, key: open.key, ca: a}}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "hsm1.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		key := filepath.Join(dir, "open.key")
		if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, 0o644); err != nil {
			t.Fatal(err)
		}
		c := hsmconfig.Config{Domain: "prod", MembersDir: dir}
		if _, err := c.Specs(service.Production); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}

func TestOperation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		o  hsmconfig.Operation
		ok bool
	}{{hsmconfig.Operation{}, true}, {hsmconfig.Operation{Addr: "a:1"}, false}, {hsmconfig.Operation{Addr: "a:1", TLS: &service.TLSConfig{}}, true}} {
		if err := test.o.Check(); (err == nil) != test.ok {
			t.Errorf("%+v: %v", test.o, err)
		}
	}
}

// In production a member has a key-block LMK unless something else is said; other profiles and drivers are left alone.
func TestKeyBlockByDefault(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		profile  service.Profile
		driver   string
		settings map[string]string
		want     string
	}{
		"production":               {service.Production, "", nil, "keyblock"},
		"production, named":        {service.Production, "racal", map[string]string{"trailer": "false"}, "keyblock"},
		"said otherwise":           {service.Production, "racal", map[string]string{"lmk": "variant"}, "variant"},
		"a set without key blocks": {service.Production, "", map[string]string{"variant_set": "sjj1310"}, ""},
		"old types":                {service.Production, "", map[string]string{"legacy_types": "true"}, ""},
		"another driver":           {service.Production, "pkcs11", nil, ""},
		"another profile":          {service.Dev, "", nil, ""},
	} {
		got := hsmconfig.Config{Domain: "d"}.Complete(c.profile, member.Spec{Driver: c.driver, Settings: c.settings})
		if got.Settings["lmk"] != c.want || c.settings["lmk"] != "" && c.settings["lmk"] != c.want {
			t.Errorf("%s: lmk %q, want %q", name, got.Settings["lmk"], c.want)
		}
	}
	own := map[string]string{"trailer": "true"}
	hsmconfig.Config{}.Complete(service.Production, member.Spec{Settings: own})
	if len(own) != 1 {
		t.Error("the caller's settings were changed")
	}
}
