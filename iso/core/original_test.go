package core

import "testing"

func TestOriginal(t *testing.T) {
	t.Parallel()
	o := OriginalOf(purchase())
	s, err := o.Encode()
	if want := "0200" + "000123" + "1121021112" + "00010411000" + "00000000000"; err != nil || s != want {
		t.Errorf("%s, %v", s, err)
	}
	if back, err := ParseOriginal(s); err != nil || back != o {
		t.Errorf("%+v, %v", back, err)
	}
	for _, bad := range []string{"", s[:41], s + "0", "x" + s[1:]} {
		if _, err := ParseOriginal(bad); err == nil {
			t.Errorf("%d characters are accepted", len(bad))
		}
	}
	for name, o := range map[string]Original{"empty": {}, "letter": {"02x0", "000123", "1121021112", "1"}, "long": {"0200", "000123", "1121021112", "123456789012"}} {
		if _, err := o.Encode(); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
