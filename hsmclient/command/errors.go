package command

import (
	"errors"
	"fmt"
)

// Class says what a failed command means for the member that answered and for the caller (facts/hsm.md §1.6).
type Class uint8

// The classes.
const (
	// CallerFault is the caller's: the same request fails on every device, so it is never sent again.
	CallerFault Class = iota + 1
	// MemberFault is the device's or the line's: the request may be repeated once on another member.
	MemberFault
	// NoLicence means that this member cannot do the command; another may.
	NoLicence
	// Unavailable means that no member could be asked, or none had a free place before the deadline.
	Unavailable
	// Unknown means that the request was sent, nothing came back, and it must not be sent twice.
	Unknown
)

var classNames = [...]string{"unclassified", "caller fault", "member fault", "no licence", "unavailable", "unknown outcome"}

// String names the class; the same words are metric labels.
func (c Class) String() string {
	if int(c) >= len(classNames) {
		return classNames[0]
	}
	return classNames[c]
}

// Error is a failed HSM command. It never carries key or PIN material.
type Error struct {
	Class   Class
	Command string // the host command's letters, for example "CA"
	Code    string // the device's two characters, "" when it gave none
	Member  string // name of the device, "" when none was asked
	Err     error  // the cause on the line, if any
}

// Error implements error.
func (e *Error) Error() string {
	s := fmt.Sprintf("hsm command %s", e.Command)
	if e.Member != "" {
		s += " on " + e.Member
	}
	if e.Code != "" {
		s += fmt.Sprintf(": device answered error %s", e.Code)
	}
	s += " (" + e.Class.String() + ")"
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// IsPIN says that the device refused the PIN block: format, length, or account number (codes 20 to 24). All of them lead
// to one and the same response code, so that the terminal side learns nothing of the PIN.
func IsPIN(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "20", "21", "22", "23", "24":
		return true
	}
	return false
}

// ClassOf gives the class of an error, or Unavailable for one that is not an *Error (a cancelled context, for example).
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return Unavailable
}
