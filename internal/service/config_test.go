package service_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyward/keyward/internal/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type sample struct {
	Profile service.Profile    `yaml:"profile"`
	Listen  string             `yaml:"listen"`
	Port    uint16             `yaml:"port"`
	Wait    service.Duration   `yaml:"wait"`
	Private bool               `yaml:"private"`
	Key     service.SecretFile `yaml:"key_file"`
	HSM     []member           `yaml:"hsm"`
	Keys    map[string]zone    `yaml:"zones"`
	Limits  *struct{ Max int } `yaml:"limits"`
	Tags    []string           `yaml:"tags"`
	invalid error              // what Validate returns
}

type member struct {
	Addr     string             `yaml:"addr"`
	Password service.SecretFile `yaml:"password_file"`
}

type zone struct {
	File service.SecretFile `yaml:"file"`
}

func (s *sample) Validate() error { return s.invalid }

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return path
}

func TestLoadConfig(t *testing.T) {
	t.Parallel()
	path := write(t, "posp.yaml", `# a comment
profile: dev
listen: 127.0.0.1:7001
port: 7001
wait: 1500ms
private: true
key_file: secrets/key
hsm:
  - addr: 127.0.0.1:15001
    password_file: /abs/pw
  - {addr: "127.0.0.1:15002"}
zones:
  bank: {file: zone.key}
limits:
  max: 5
tags: [a, b]
`, 0o644)
	c := sample{Listen: "default"}
	if err := service.LoadConfig(path, &c); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	if c.Wait.Std() != 1500*time.Millisecond || c.Port != 7001 || !c.Private || c.Profile != service.Dev || c.Limits.Max != 5 || len(c.Tags) != 2 {
		t.Fatalf("%+v", c)
	}
	if string(c.Key) != filepath.Join(dir, "secrets/key") || c.HSM[0].Password != "/abs/pw" || string(c.Keys["bank"].File) != filepath.Join(dir, "zone.key") || c.HSM[1].Password != "" {
		t.Fatalf("secret paths: %+v", c)
	}
	empty := sample{Listen: "default"}
	if err := service.LoadConfig(write(t, "empty.yaml", "# nothing\n", 0o644), &empty); err != nil || empty.Listen != "default" {
		t.Fatalf("an empty file leaves the defaults: %+v, %v", empty, err)
	}
}

func TestLoadConfigRefuses(t *testing.T) {
	t.Parallel()
	const hidden = "0123456789ABCDEFFEDCBA9876543210"
	cases := []struct {
		name, text string
		want       []string
	}{
		{"unknown key", "profile: dev\nlisten_on: x\n", []string{"line 2", "listen_on", "unknown key", "allowed here: hsm, key_file, limits, listen"}},
		{"unknown key below", "hsm:\n  - addr: x\n  - adr: " + hidden + "\n", []string{"line 3", "hsm[1].adr", "allowed here: addr, password_file"}},
		{"unknown key in a map's value", "zones:\n  bank:\n    key: x\n", []string{"line 3", "zones.bank.key", "allowed here: file"}},
		{"all faults at once", "port: many\nwait: 10\n", []string{"line 1: port", "from 0 to 65535", "line 2: wait", "a duration with its unit"}},
		{"number above the type", "port: 65536\n", []string{"port", "from 0 to 65535"}},
		{"negative duration", "wait: -1s\n", []string{"wait", "a duration"}},
		{"text for a boolean", "private: " + hidden + "G\n", []string{"private", "true or false"}},
		{"profile", "profile: prod\n", []string{"profile", "dev, test or production"}},
		{"text for a list", "hsm: " + hidden + "G\n", []string{"hsm", "a list of"}},
		{"text for a group", "limits: " + hidden + "G\n", []string{"limits", "a group of keys: max"}},
		{"group for a text", "listen: {a: " + hidden + "}\n", []string{"listen", "a text"}},
		{"secret in place of a path", "key_file: [" + hidden + "]\n", []string{"key_file", "the path of a file"}},
		{"repeated key", "listen: x\nlisten: y\n", []string{"line 2"}},
		{"no YAML", "listen: [" + hidden + "\n", []string{"posp.yaml"}},
		{"two documents", "listen: x\n---\nlisten: y\n", []string{"2 documents"}},
		{"a list at the top", "- a\n", []string{"the top level"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := service.LoadConfig(write(t, "posp.yaml", tc.text, 0o644), &sample{})
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range append(tc.want, "posp.yaml") {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is missing in: %v", w, err)
				}
			}
			if strings.Contains(err.Error(), hidden) {
				t.Errorf("a value is shown: %v", err)
			}
		})
	}
}

func TestLoadConfigValidates(t *testing.T) {
	t.Parallel()
	path := write(t, "c.yaml", "listen: x\n", 0o644)
	err := service.LoadConfig(path, &sample{invalid: errors.Join(errors.New("first"), errors.New("second"))})
	if err == nil || !strings.Contains(err.Error(), "first") || !strings.Contains(err.Error(), "second") || !strings.Contains(err.Error(), path) {
		t.Fatalf("%v", err)
	}
	if err := service.LoadConfig(path, sample{}); err == nil {
		t.Fatal("loaded into a copy")
	}
	if err := service.LoadConfig(path+".gone", &sample{}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v", err)
	}
}

func TestSecretFile(t *testing.T) {
	t.Parallel()
	loose, tight := write(t, "loose", "s3cret\n", 0o644), write(t, "tight", "s3cret\r\n", 0o640)
	for _, profile := range []string{"dev", "production"} {
		var c sample
		err := service.LoadConfig(write(t, "c.yaml", "profile: "+profile+"\nkey_file: "+loose+"\n", 0o644), &c)
		if profile == "dev" {
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "chmod 0600 "+loose) {
			t.Fatalf("production with a loose file: %v", err)
		}
	}
	var c sample
	if err := service.LoadConfig(write(t, "c.yaml", "profile: production\nhsm: [{password_file: "+tight+"}]\n", 0o644), &c); err != nil {
		t.Fatal(err)
	}
	got, err := c.HSM[0].Password.Read()
	if err != nil || string(got.Reveal()) != "s3cret" {
		t.Fatalf("%v", err)
	}
	for name, f := range map[string]service.SecretFile{
		"none": "", "missing": "/does/not/exist", "empty": service.SecretFile(write(t, "e", "\n", 0o600)),
		"too long": service.SecretFile(write(t, "l", strings.Repeat("x", 70000), 0o600)),
	} {
		if _, err := f.Read(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzLoadConfig(f *testing.F) {
	f.Add("profile: dev\nhsm: [{addr: x}]\n")
	f.Add("a: &x 1\nb: *x\n<<: {c: 1}\n")
	f.Add("- 1\n")
	f.Add("listen: !!str 5\nwait: 5m\n")
	f.Add("limits:\n  max: |\n    5\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = service.LoadConfig(path, &sample{}) // must not panic
	})
}
