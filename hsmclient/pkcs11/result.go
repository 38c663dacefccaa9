package pkcs11

import (
	"errors"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// result is a return value of a PKCS#11 function (base specification v2.40 §5.1).
type result uint

// Results with a meaning of their own.
const (
	ckrOK                  result = 0x00
	ckrGeneralError        result = 0x05
	ckrFunctionFailed      result = 0x06
	ckrKeyHandle           result = 0x60
	ckrObjectHandle        result = 0x82
	ckrPINIncorrect        result = 0xA0
	ckrPINInvalid          result = 0xA1
	ckrPINLength           result = 0xA2
	ckrPINLocked           result = 0xA4
	ckrSessionHandle       result = 0xB3
	ckrSignatureInvalid    result = 0xC0
	ckrSignatureLength     result = 0xC1
	ckrTokenNotPresent     result = 0xE0
	ckrUnwrappingKeyHandle result = 0xF0
	ckrAlreadyLoggedIn     result = 0x100
	ckrAlreadyInitialised  result = 0x191
	ckrVendorDefined       result = 0x80000000 // and above
)

const (
	faulty     = command.MemberFault
	unlicensed = command.NoLicence
	wrong      = command.CallerFault
)

// meaning is what a result says of the member and of the caller, and what to do about it.
type meaning struct {
	name  string
	class command.Class
	next  string // for people; "" where the name says it all
}

// Next steps that several results share.
const (
	nextPIN     = "put the right PIN into pin_file, or touch the file when the token was given another PIN; the same file is not tried twice, so that the token does not lock"
	nextLibrary = "look into the log of the PKCS#11 library and of the device"
	nextObject  = "the key was taken out of the token"
	nextPolicy  = "the token's policy or firmware does not allow it"
)

// meanings lists the results by what they say. What is not in it, vendors' own results for example, is a fault of the member.
var meanings = map[result]meaning{
	0x02:              {"CKR_HOST_MEMORY", faulty, ""},
	0x03:              {"CKR_SLOT_ID_INVALID", faulty, "look which slot the token is in, or name it by its label"},
	ckrGeneralError:   {"CKR_GENERAL_ERROR", faulty, nextLibrary},
	ckrFunctionFailed: {"CKR_FUNCTION_FAILED", faulty, nextLibrary},
	0x09:              {"CKR_NEED_TO_CREATE_THREADS", faulty, ""},
	0x0A:              {"CKR_CANT_LOCK", faulty, "the library cannot be used by more than one thread: ask its maker for one that can"},
	0x30:              {"CKR_DEVICE_ERROR", faulty, nextLibrary},
	0x31:              {"CKR_DEVICE_MEMORY", faulty, "the token is full: remove keys that are not needed any more"},
	0x32:              {"CKR_DEVICE_REMOVED", faulty, "connect the device again"},
	0x50:              {"CKR_FUNCTION_CANCELED", faulty, ""},
	0x90:              {"CKR_OPERATION_ACTIVE", faulty, ""},
	0x91:              {"CKR_OPERATION_NOT_INITIALIZED", faulty, ""},
	ckrPINIncorrect:   {"CKR_PIN_INCORRECT", faulty, nextPIN},
	ckrPINInvalid:     {"CKR_PIN_INVALID", faulty, nextPIN},
	ckrPINLength:      {"CKR_PIN_LEN_RANGE", faulty, nextPIN},
	0xA3:              {"CKR_PIN_EXPIRED", faulty, "set a new PIN with the device's own tool and put it into pin_file"},
	ckrPINLocked:      {"CKR_PIN_LOCKED", faulty, "the security officer of the token has to set the user's PIN anew (C_InitPIN); then probe the member"},
	0xB0:              {"CKR_SESSION_CLOSED", faulty, ""},
	0xB1:              {"CKR_SESSION_COUNT", faulty, "the token has no session left: give the member fewer channels, or look who else uses the token"},
	ckrSessionHandle:  {"CKR_SESSION_HANDLE_INVALID", faulty, ""},
	0xB4:              {"CKR_SESSION_PARALLEL_NOT_SUPPORTED", faulty, ""},

	ckrTokenNotPresent: {"CKR_TOKEN_NOT_PRESENT", faulty, "put the token back, or connect the device"},
	0xE1:               {"CKR_TOKEN_NOT_RECOGNIZED", faulty, ""},
	0x101:              {"CKR_USER_NOT_LOGGED_IN", faulty, "set pin_file: the token wants a login"},
	0x102:              {"CKR_USER_PIN_NOT_INITIALIZED", faulty, "the security officer of the token has to set the user's PIN first (C_InitPIN)"},
	0x103:              {"CKR_USER_TYPE_INVALID", faulty, ""},
	0x104:              {"CKR_USER_ANOTHER_ALREADY_LOGGED_IN", faulty, "somebody else of this process is logged in to the token as another user"},
	0x105:              {"CKR_USER_TOO_MANY_TYPES", faulty, "somebody else is logged in to the token as another user"},
	0x190:              {"CKR_CRYPTOKI_NOT_INITIALIZED", faulty, ""},
	0x150:              {"CKR_BUFFER_TOO_SMALL", faulty, ""},

	0x11:                   {"CKR_ATTRIBUTE_SENSITIVE", unlicensed, "the token does not hand out clear keys, so that it cannot make data keys"},
	0x12:                   {"CKR_ATTRIBUTE_TYPE_INVALID", unlicensed, nextPolicy},
	0x13:                   {"CKR_ATTRIBUTE_VALUE_INVALID", unlicensed, nextPolicy},
	0x1B:                   {"CKR_ACTION_PROHIBITED", unlicensed, nextPolicy},
	0x54:                   {"CKR_FUNCTION_NOT_SUPPORTED", unlicensed, nextPolicy},
	ckrKeyHandle:           {"CKR_KEY_HANDLE_INVALID", unlicensed, nextObject},
	0x62:                   {"CKR_KEY_SIZE_RANGE", unlicensed, nextPolicy},
	0x63:                   {"CKR_KEY_TYPE_INCONSISTENT", unlicensed, "the stored key is of another kind"},
	0x68:                   {"CKR_KEY_FUNCTION_NOT_PERMITTED", unlicensed, "the stored key has not the attribute for this work"},
	0x69:                   {"CKR_KEY_NOT_WRAPPABLE", unlicensed, nextPolicy},
	0x6A:                   {"CKR_KEY_UNEXTRACTABLE", unlicensed, nextPolicy},
	0x70:                   {"CKR_MECHANISM_INVALID", unlicensed, nextPolicy},
	0x71:                   {"CKR_MECHANISM_PARAM_INVALID", unlicensed, nextPolicy},
	ckrObjectHandle:        {"CKR_OBJECT_HANDLE_INVALID", unlicensed, nextObject},
	0xB5:                   {"CKR_SESSION_READ_ONLY", unlicensed, "set sessions to rw"},
	0xD0:                   {"CKR_TEMPLATE_INCOMPLETE", unlicensed, nextPolicy},
	0xD1:                   {"CKR_TEMPLATE_INCONSISTENT", unlicensed, nextPolicy},
	0xE2:                   {"CKR_TOKEN_WRITE_PROTECTED", unlicensed, "take the token's write protection off, or store the key in another member"},
	ckrUnwrappingKeyHandle: {"CKR_UNWRAPPING_KEY_HANDLE_INVALID", unlicensed, nextObject},
	0xF1:                   {"CKR_UNWRAPPING_KEY_SIZE_RANGE", unlicensed, nextPolicy},
	0xF2:                   {"CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", unlicensed, nextPolicy},
	0x113:                  {"CKR_WRAPPING_KEY_HANDLE_INVALID", unlicensed, nextObject},
	0x114:                  {"CKR_WRAPPING_KEY_SIZE_RANGE", unlicensed, nextPolicy},
	0x115:                  {"CKR_WRAPPING_KEY_TYPE_INCONSISTENT", unlicensed, nextPolicy},
	0x121:                  {"CKR_RANDOM_NO_RNG", unlicensed, nextPolicy},

	0x07:                {"CKR_ARGUMENTS_BAD", wrong, ""},
	0x20:                {"CKR_DATA_INVALID", wrong, ""},
	0x21:                {"CKR_DATA_LEN_RANGE", wrong, ""},
	0x40:                {"CKR_ENCRYPTED_DATA_INVALID", wrong, nextWrapped},
	0x41:                {"CKR_ENCRYPTED_DATA_LEN_RANGE", wrong, nextWrapped},
	ckrSignatureInvalid: {"CKR_SIGNATURE_INVALID", wrong, ""},
	ckrSignatureLength:  {"CKR_SIGNATURE_LEN_RANGE", wrong, ""},
	0x110:               {"CKR_WRAPPED_KEY_INVALID", wrong, nextWrapped},
	0x112:               {"CKR_WRAPPED_KEY_LEN_RANGE", wrong, nextWrapped},

	ckrOK:                 {"CKR_OK", wrong, ""},
	ckrAlreadyLoggedIn:    {"CKR_USER_ALREADY_LOGGED_IN", faulty, ""},
	ckrAlreadyInitialised: {"CKR_CRYPTOKI_ALREADY_INITIALIZED", faulty, ""},
}

// nextWrapped is for a wrapped key that does not open.
const nextWrapped = "the wrapped key is damaged, or was wrapped under another key"

func (r result) meaning() meaning {
	if m, ok := meanings[r]; ok {
		return m
	}
	name := "CKR_UNKNOWN"
	if r >= ckrVendorDefined {
		name = "CKR_VENDOR_DEFINED"
	}
	return meaning{name, faulty, fmt.Sprintf("the result is 0x%X: %s", uint(r), nextLibrary)} // a name with digits would not reach the journal
}

// String gives the name of the specification.
func (r result) String() string { return r.meaning().name }

// Error implements error, with the next step where there is one.
func (r result) Error() string {
	m := r.meaning()
	if m.next == "" {
		return m.name
	}
	return m.name + ": " + m.next
}

// refused is what the token answered to a function: the error of package command.
func (r result) refused(code string) *command.Error {
	m := r.meaning()
	e := &command.Error{Class: m.class, Command: code, Code: m.name}
	if m.next != "" {
		e.Err = errors.New(m.next)
	}
	return e
}

// malformed is an answer that cannot be the answer to the function. Only lengths are named.
func malformed(code, format string, args ...any) *command.Error {
	return &command.Error{
		Class: command.MemberFault, Command: code,
		Err: fmt.Errorf("%w: "+format, append([]any{driver.ErrMalformed}, args...)...),
	}
}
