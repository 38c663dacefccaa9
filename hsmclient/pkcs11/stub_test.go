//go:build !cgo

package pkcs11

import (
	"strings"
	"testing"
)

func TestStubRefuses(t *testing.T) {
	t.Parallel()
	d, err := New(map[string]string{settingToken: "a", settingLMKLabel: "LMK"})
	if d != nil || err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=1") {
		t.Errorf("got %v, %v", d, err)
	}
}
