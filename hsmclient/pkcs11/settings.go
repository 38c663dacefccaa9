package pkcs11

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The settings of a member.
const (
	settingToken    = "token"     // label of the token
	settingSlot     = "slot"      // number of its slot, where tokens have no label of their own
	settingPINFile  = "pin_file"  // path of a file with the PIN of the token's user
	settingLMKLabel = "lmk_label" // label of the AES-256 key that plays the LMK
	settingSessions = "sessions"  // rw or ro
)

var settingNames = []string{settingLMKLabel, settingPINFile, settingSessions, settingSlot, settingToken}

// Values of settingSessions. A read-only session cannot store keys, and its driver does not claim to.
const (
	sessionsReadWrite = "rw"
	sessionsReadOnly  = "ro"
)

// maxTokenLabel is the size of CK_TOKEN_INFO.label (§3.2).
const maxTokenLabel = 32

// settings are the parsed settings of a member.
type settings struct {
	token    string // "" when the slot is named
	slot     uint
	pinFile  string // "" for a token without login
	lmkLabel string
	readOnly bool
}

func parseSettings(from map[string]string) (settings, error) {
	for _, name := range slices.Sorted(maps.Keys(from)) {
		if !slices.Contains(settingNames, name) {
			return settings{}, fmt.Errorf("setting %q is not known: there are %s", name, strings.Join(settingNames, ", "))
		}
	}
	s := settings{token: from[settingToken], pinFile: from[settingPINFile], lmkLabel: from[settingLMKLabel]}
	slot, bySlot := from[settingSlot]
	switch {
	case s.token == "" && !bySlot:
		return settings{}, errors.New("name the token by its label (setting token) or its slot (setting slot)")
	case s.token != "" && bySlot:
		return settings{}, errors.New("both token and slot are set: leave slot out, its numbers change when tokens come and go")
	case len(s.token) > maxTokenLabel:
		return settings{}, fmt.Errorf("the label in setting token has %d bytes, a token's has at most %d", len(s.token), maxTokenLabel)
	case s.lmkLabel == "":
		return settings{}, errors.New("setting lmk_label is missing: the label of the AES-256 key in the token under which the keys of the LMK domain are wrapped")
	}
	if bySlot {
		n, err := strconv.ParseUint(slot, 10, 32)
		if err != nil {
			return settings{}, fmt.Errorf("setting slot is %q, want a decimal number", slot)
		}
		s.slot = uint(n)
	}
	switch from[settingSessions] {
	case "", sessionsReadWrite:
	case sessionsReadOnly:
		s.readOnly = true
	default:
		return settings{}, fmt.Errorf("setting sessions is %q, want %s or %s", from[settingSessions], sessionsReadWrite, sessionsReadOnly)
	}
	return s, nil
}
