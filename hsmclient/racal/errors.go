package racal

import (
	"errors"
	"fmt"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
)

// Answer codes with a meaning of their own; all others only have a class (facts/hsm.md §1.6).
const (
	codeOK = "00"
	// codeVerify is "verification failed" where something was verified, and key parity advice elsewhere: the command was
	// done, and keys that come out of a diversification have no parity by design.
	codeVerify = "01"
)

// classOf gives the class of a device's error code (facts/hsm.md §1.6, "suggested classes").
func classOf(code string) command.Class {
	switch code {
	case "13", "33", "40", "41", "42": // LMK, key-change storage, firmware checksum, internal fault, DES fault
		return command.MemberFault
	case "17", "32", "47", "67", "68": // not authorised, AES licence, algorithm licence, command licence, command disabled
		return command.NoLicence
	}
	return command.CallerFault
}

// DoubtsKey implements driver.KeyDoubter: parity of the source or destination key, check value and authentication of a key block.
func (*Driver) DoubtsKey(code string) bool {
	switch code {
	case "10", "11", "84", "A4":
		return true
	}
	return false
}

// refusal is a request that is wrong before anything was sent.
func refusal(cmd, format string, args ...any) error {
	return &command.Error{Class: command.CallerFault, Command: cmd, Err: fmt.Errorf(format, args...)}
}

// malformed is an answer that cannot be the answer to cmd. Only lengths and positions are named: an answer may hold a
// PIN block or a track.
func malformed(cmd, format string, args ...any) error {
	return &command.Error{
		Class: command.MemberFault, Command: cmd,
		Err: fmt.Errorf("%w: "+format, append([]any{driver.ErrMalformed}, args...)...),
	}
}

// hasCode says that the device answered with this code.
func hasCode(err error, code string) bool {
	var e *command.Error
	return errors.As(err, &e) && e.Code == code
}
