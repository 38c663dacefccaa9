package posp

import (
	"errors"

	"github.com/keyward/keyward/hsmclient/command"
)

// The response codes that posp gives on its own account (facts/unionpay.md §7; design.md §3 where sources leave a choice). Codes
// of the host are passed through.
const (
	codeOK          = "00"
	codeMerchant    = "03" // merchant not registered
	codeAmount      = "13" // amount 0 or too large
	codeNotFound    = "25" // original not found, or withdrawn before it came
	codeFormat      = "30" // format error
	codeUnsupported = "40" // function not supported
	codeNotAllowed  = "58" // the terminal may not do this
	codeOtherAmount = "64" // not the amount of the original, or more than it allows
	codeTooMany     = "65" // too many PINs for a card or from a terminal
	codeSignOn      = "77" // sign on again: no keys, or another batch number
	codeHostDown    = "91" // host not reachable: not sent
	codeDuplicate   = "94" // same trace number, other content
	codeSystem      = "96" // we, the HSM or the database cannot
	codeUnknownTerm = "97" // terminal not registered
	codeNoAnswer    = "98" // the host did not answer
	codePINBlock    = "99" // PIN block unreadable
	codeBadMAC      = "A0" // MAC wrong
)

// refusal is an error that carries the response code for the terminal.
type refusal struct {
	code string
	why  string
	err  error
}

// Error implements error.
func (r *refusal) Error() string {
	if r.err != nil {
		return r.why + ": " + r.err.Error()
	}
	return r.why
}

// Unwrap gives the cause.
func (r *refusal) Unwrap() error { return r.err }

// codeOf says which response code an error gives the terminal. All PIN errors of the HSM are one and the same.
func codeOf(err error) string {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.code
	case command.IsPIN(err):
		return codePINBlock
	default:
		return codeSystem
	}
}
