package doctest

import (
	"encoding"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/issuer"
	"github.com/keyward/keyward/internal/keyservice"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/posv"
	"github.com/keyward/keyward/internal/service"
	"github.com/keyward/keyward/sim/control"
)

// services are the sections of the page with the configuration as it is before a file is read.
var services = map[string]any{
	"posp serve": posp.DefaultConfig(), "posp keys serve": keyservice.DefaultConfig(), "issuer serve": issuer.DefaultConfig(),
	"posv serve": posv.DefaultConfig(),
	// As cmd/keyward makes it.
	"keyward sim": control.Config{Profile: service.Production, Log: service.LogConfig{Level: "info", Format: "text"}},
}

// groups are the types that many configurations share; each has a section of its own.
var groups = map[string]reflect.Type{
	"log": reflect.TypeFor[service.LogConfig](), "database": reflect.TypeFor[service.DatabaseConfig](),
	"listener": reflect.TypeFor[service.ListenerConfig](), "tls": reflect.TypeFor[service.TLSConfig](), "hsm": reflect.TypeFor[hsmconfig.Config](),
	"key": reflect.TypeFor[posp.KeyConfig](), "peer": reflect.TypeFor[issuer.Peer](), "test key": reflect.TypeFor[control.Key](),
}

// setting is one key: the group that describes it, "" for a plain one, and its default, "" for none.
type setting struct{ group, standard string }

// settings walks a configuration. Below a group only the keys with a default are the service's own.
func settings(v reflect.Value, prefix string, out map[string]setting) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if !field.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = strings.ToLower(field.Name)
		}
		key, value := prefix+name, v.Field(i)
		kind := field.Type
		if kind.Kind() == reflect.Slice {
			if kind.Elem().Kind() == reflect.Struct {
				key, kind = key+"[]", kind.Elem()
				value = reflect.New(kind).Elem()
			}
		}
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
			value = reflect.New(kind).Elem()
		}
		_, isText := reflect.New(kind).Interface().(encoding.TextUnmarshaler)
		if kind.Kind() != reflect.Struct || isText {
			out[key] = setting{"", standard(value)}
			continue
		}
		if group := groupOf(kind); group != "" {
			out[key] = setting{group, ""}
			inside := map[string]setting{}
			settings(value, key+".", inside)
			maps.DeleteFunc(inside, func(_ string, s setting) bool { return s.standard == "" || s.standard == "false" })
			maps.Copy(out, inside)
			continue
		}
		settings(value, key+".", out)
	}
}

func groupOf(t reflect.Type) string {
	for name, g := range groups {
		if g == t {
			return name
		}
	}
	return ""
}

// standard is a default as the page writes it, "" for an empty one.
func standard(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Bool:
		return fmt.Sprint(v.Bool())
	case reflect.Slice:
		return ""
	}
	if v.IsZero() {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// described are the keys of a section with their rows.
func described(t *testing.T, text string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, row := range rows(text) {
		key := strings.Trim(row[0], "`")
		if out[key] != nil {
			t.Errorf("%s stands twice in one section", key)
		}
		if len(row) < 2 || len(row[1]) < 4 {
			t.Errorf("%s has no meaning", key)
		}
		out[key] = row
	}
	return out
}

func compare(t *testing.T, where string, want map[string]setting, page map[string][]string, withDefaults bool) {
	t.Helper()
	if len(want) < 2 {
		t.Fatalf("%s: only %d keys in the code", where, len(want))
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		row, ok := page[key]
		if !ok {
			t.Errorf("%s: key %s is missing in docs/configuration.md", where, key)
			continue
		}
		s := want[key]
		if s.group != "" && !strings.Contains(row[1], "["+s.group+"](#"+anchor(s.group)+")") {
			t.Errorf("%s: %s must point to the group %q", where, key, s.group)
		}
		if withDefaults && s.group == "" {
			if len(row) != 3 {
				t.Errorf("%s: %s has %d cells, want key, meaning and default", where, key, len(row))
				continue
			}
			if got := strings.Trim(row[2], "`"); got != s.standard && !(s.standard == "" && got == "–") && !(s.standard == "false" && got == "–") {
				t.Errorf("%s: the default of %s is %q, the page says %q", where, key, s.standard, got)
			}
		}
	}
	for key := range page {
		if _, ok := want[key]; !ok {
			t.Errorf("%s: docs/configuration.md names %s, which does not exist", where, key)
		}
	}
}

// TestConfigurationPage holds the page to the types that the services read: every key, its default, and no other.
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	text := read(t, "docs/configuration.md")
	for name, config := range services {
		want := map[string]setting{}
		settings(reflect.ValueOf(config), "", want)
		compare(t, name, want, described(t, section(t, text, name)), true)
	}
	for name, kind := range groups {
		want := map[string]setting{}
		settings(reflect.New(kind).Elem(), "", want)
		compare(t, "group "+name, want, described(t, section(t, text, name)), false)
	}
}

// TestConfigurationTestCanFail: a page with a key too few, one too many and a wrong default is found out.
func TestConfigurationTestCanFail(t *testing.T) {
	t.Parallel()
	want := map[string]setting{}
	settings(reflect.ValueOf(posv.DefaultConfig()), "", want)
	if want["timezone"].standard != "Asia/Shanghai" || want["api"].group != "listener" || want["database.max_connections"].standard != "10" {
		t.Errorf("the walk does not see the configuration: %v", want)
	}
	if _, ok := want["log.level"]; !ok || len(want) < 8 {
		t.Errorf("keys are missing in the walk: %v", want)
	}
}
