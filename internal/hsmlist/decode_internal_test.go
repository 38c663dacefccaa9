package hsmlist

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/keyward/keyward/hsmclient/member"
)

// FuzzDecode: what stands in the database or in the local copy is read or refused, never more; what was read can be written and read again.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		"", "null", "[]", "{}", `[{"name":"hsm1","addr":"a:1","tls":{"cert":"c"},"settings":{"x":"y"}}]`, `[{"name":1}]`, `[{"colour":"red"}]`,
		`{"group":"online","version":1,"members":[{"name":"hsm1"}]}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		specs, err := decode(text)
		if err == nil {
			again, err := encode(specs)
			if err != nil {
				t.Fatal(err)
			}
			var back []member.Spec
			if back, err = decode(again); err != nil || len(back) != len(specs) {
				t.Fatalf("%v: %s", err, again)
			}
		}
		l := &List{cfg: Config{Group: "online", LocalCopy: filepath.Join(t.TempDir(), "copy")}}
		if err := os.WriteFile(l.cfg.LocalCopy, text, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := l.readCopy()
		if err != nil {
			return
		}
		if err := l.writeCopy(*v); err != nil {
			t.Fatal(err)
		}
		if again, err := l.readCopy(); err != nil || again.Version != v.Version || len(again.Members) != len(v.Members) {
			t.Fatalf("%v: %+v", err, again)
		}
	})
}
