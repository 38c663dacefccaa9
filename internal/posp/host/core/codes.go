package core

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyward/keyward/internal/txn"
)

const (
	codeApproved = "00"
	codeNotFound = "25" // In a 0410: the bank never saw the original.
	codeSystem   = "96"
)

// passed are the response codes that terminals know (facts/unionpay.md §7); what the bank says with one of them, the terminal is told.
const passed = "00 01 02 03 04 05 06 07 09 10 11 12 13 14 15 19 20 21 22 23 25 30 31 33 34 35 36 37 38 39 40 41 43 44 45 51 54 55 57 58 " +
	"61 62 64 65 68 75 79 90 91 92 93 94 95 96 98 99 A1 A2 A3 A4 A5 A6 A7"

// replaced are codes that terminals know, but that speak of the connection between a terminal and its centre. From the bank they speak
// of the connection between the bank and us: a terminal that is told A0 or 77 would sign on again, for nothing.
var replaced = map[string]string{"77": codeSystem, "97": codeSystem, "A0": codeSystem}

// builtIn is the table, ready for use.
var builtIn = func() map[string]string {
	m := map[string]string{}
	for _, c := range strings.Fields(passed) {
		m[c] = c
	}
	for from, to := range replaced {
		m[from] = to
	}
	return m
}()

// codesOf is the table with what a configuration has agreed with its bank. An approval stays one and a refusal too: otherwise the terminal
// would hand out goods that nobody has paid, or the other way round.
func codesOf(agreed map[string]string) (map[string]string, error) {
	out := maps.Clone(builtIn)
	var errs []error
	for _, from := range slices.Sorted(maps.Keys(agreed)) {
		to := agreed[from]
		approves := func(code string) bool { return txn.Reply{Code: code}.Approved() }
		switch _, known := builtIn[from]; {
		case len(from) != 2 || strings.Trim(from, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
			errs = append(errs, fmt.Errorf("codes: %q is no response code: write two digits or capital letters, in quotes", from))
		case !slices.Contains(strings.Fields(passed), to):
			errs = append(errs, fmt.Errorf("codes: %s: a terminal cannot be told %q from a bank; write one of %s", from, to, passed))
		case known && approves(from) != approves(to):
			errs = append(errs, fmt.Errorf("codes: %s to %s would make an approval of a refusal, or the other way round: write a code of the same kind", from, to))
		default:
			out[from] = to
		}
	}
	return out, errors.Join(errs...)
}

// terminalCode says which code the terminal is told for the bank's. A code that is not in the table is not known: nobody has agreed with
// us whether it means that money has moved (ISO 8583:1987 has approvals, 08 and 16, that terminals do not know). The caller takes it
// as no answer, so that a reversal brings the money back where it was in either case.
func (h *Host) terminalCode(code string) (string, bool) {
	told, known := h.codes[code]
	return told, known
}
