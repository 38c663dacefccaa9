//go:build !cgo

package pkcs11

import (
	"context"
	"errors"

	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/keys"
)

// errNoCgo: a PKCS#11 library is C code.
var errNoCgo = errors.New("hsm driver pkcs11: this program was built without cgo and cannot call a PKCS#11 library: build it with CGO_ENABLED=1 and a C compiler")

// New refuses, because this program was built without cgo.
func New(map[string]string) (driver.Driver, error) { return nil, errNoCgo }

// MakeLMK refuses, because this program was built without cgo.
func MakeLMK(context.Context, string, map[string]string) (keys.KCV, error) { return "", errNoCgo }

// RestrictLMK refuses, because this program was built without cgo.
func RestrictLMK(context.Context, string, map[string]string) (keys.KCV, error) { return "", errNoCgo }

// MakeSealKey refuses, because this program was built without cgo.
func MakeSealKey(context.Context, string, map[string]string) (keys.Wrapped, error) {
	return keys.Wrapped{}, errNoCgo
}
