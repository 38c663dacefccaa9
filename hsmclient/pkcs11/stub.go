//go:build !cgo

package pkcs11

import (
	"errors"

	"github.com/keyward/keyward/hsmclient/driver"
)

// New refuses: a PKCS#11 library is C code, and this program was built without the means to call it.
func New(map[string]string) (driver.Driver, error) {
	return nil, errors.New("hsm driver pkcs11: this program was built without cgo and cannot call a PKCS#11 library: build it with CGO_ENABLED=1 and a C compiler")
}
