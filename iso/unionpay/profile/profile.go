// Package profile says how one family of UnionPay terminals speaks, where the sources of the dialect disagree or leave a choice
// (facts/unionpay.md §9). A profile is data: posp asks it and holds no rule of its own about such a point. Built-in profiles have a
// source each; an installation adds its own by naming a base and what differs from it.
//
// The registry names the profile of a terminal (terminals.profile) and the algorithm of its keys. The message chooses neither.
package profile

import (
	"fmt"

	"github.com/keyward/keyward/iso"
	"github.com/keyward/keyward/iso/unionpay"
	"github.com/keyward/keyward/keys"
)

// MAC is how field 64 comes from the data that it covers (facts/unionpay.md §4).
type MAC string

// The MACs. All of them pad with zeros to a whole block and start from zeros.
const (
	// MACECB is the UnionPay MAC: the XOR of all blocks, in hex, CBC-MACed. The XOR does not depend on the order of the blocks, so whoever
	// can alter the line can forge it (docs/security.md).
	MACECB MAC = "ecb"
	// MACCBC is a CBC-MAC over the data itself: X9.9 with a single-length key, triple DES on every block with a double-length one, the
	// SM4-CBC-MAC with an SM4 key.
	MACCBC MAC = "cbc"
	// MACRetail is X9.19: single DES in the chain, triple DES at its end. It needs a double-length key.
	MACRetail MAC = "x9.19"
	// MACCMAC is CMAC (NIST SP 800-38B).
	MACCMAC MAC = "cmac"
)

// MACForm is how many bytes of the MAC field 64 holds, and how.
type MACForm string

// The forms.
const (
	FormHex    MACForm = "hex"    // the first four bytes as eight upper-case hex characters
	FormBinary MACForm = "binary" // the first eight bytes as they are
)

// PINPlace is where the 16 bytes of an SM4 PIN block travel; field 52 is there and zero (facts/unionpay.md §6).
type PINPlace string

// The places.
const (
	PlaceTag    PINPlace = "62-tag-00" // field 62, tag 00, length 10 hex; other tags may follow
	PlaceSM016  PINPlace = "63-sm016"  // field 63: the letters SM016 and the block
	PlacePrefix PINPlace = "62-prefix" // field 62: five bytes of no meaning for us, and the block
)

// PINBlock is the layout of the clear 16 bytes under SM4 (facts/unionpay.md §6, forms A and B).
type PINBlock string

// The layouts.
const (
	BlockWide   PINBlock = "wide" // form B: 16 bytes with the account number at the end
	BlockPadded PINBlock = "8+8"  // form A: the block of ISO format 0 and eight zero bytes
)

// TPDU is how the transport header of an answer comes from that of the request.
type TPDU string

// The ways.
const (
	TPDUSwap TPDU = "swap" // destination and source change places
	TPDUKeep TPDU = "keep" // as it came
)

// CallerID is what is thought of the caller-id block of dial-up concentrators, on listeners that allow it at all.
type CallerID string

// The rules.
const (
	CallerOptional CallerID = "optional"
	CallerRequired CallerID = "required"
	CallerRefused  CallerID = "refused"
)

// Profile is the settings of one family of terminals. In a configuration a setting that is left out is the base's.
type Profile struct {
	Name string `yaml:"name"` // as terminals.profile has it: 1 to 32 of a-z, 0-9, '.', '-', beginning with a letter
	Base string `yaml:"base"` // an earlier profile of the list, or a built-in one; "" is unionpay

	MAC     MAC     `yaml:"mac"`      // of terminals with DES and triple DES keys: ecb, cbc, x9.19, cmac
	SM4MAC  MAC     `yaml:"sm4_mac"`  // of terminals with SM4 keys: ecb, cbc, cmac
	MACForm MACForm `yaml:"mac_form"` // hex, binary
	// MACOn names further message types that must carry a MAC, and whose answers do: 0320, 0500, 0620, 0820, 0920. Financial messages and
	// reversals always do, a sign-on (0800) never does: it has no key yet.
	MACOn []string `yaml:"mac_on"`

	SM4SignOn    string   `yaml:"sm4_sign_on"`     // field 60.3 of an SM4 sign-on, three digits: 006, 005
	SM4Answer    string   `yaml:"sm4_answer"`      // field 60.3 of its answer; "same" repeats the request's
	SM4KCVBytes  int      `yaml:"sm4_kcv_bytes"`   // of the check values in the key block: 4 (60 bytes in all), 3 (57)
	SM4Digit     string   `yaml:"sm4_digit"`       // second digit of field 53: 4, 3
	SM4PIN       PINPlace `yaml:"sm4_pin"`         // 62-tag-00, 63-sm016, 62-prefix
	SM4PINBlock  PINBlock `yaml:"sm4_pin_block"`   // wide, 8+8
	AnswerTPDU   TPDU     `yaml:"answer_tpdu"`     // swap, keep
	CallerIDRule CallerID `yaml:"caller_id_block"` // optional, required, refused
}

// SameCode is the value of SM4Answer that repeats the request's code.
const SameCode = "same"

// Default is the profile of a terminal for which nothing else was said.
const Default = "unionpay"

// builtIn are the profiles that need no configuration. Each row after the first names only what differs from its base.
var builtIn = []Profile{
	{
		// What most sources agree on; for SM4 the terminal maker CENTERM and the host BESTPAY (facts/unionpay.md §3 to §6).
		Name: Default, MAC: MACECB, SM4MAC: MACECB, MACForm: FormHex, SM4SignOn: "006", SM4Answer: SameCode, SM4KCVBytes: 4, SM4Digit: "4",
		SM4PIN: PlaceTag, SM4PINBlock: BlockWide, AnswerTPDU: TPDUSwap, CallerIDRule: CallerOptional,
	},
	// X9.19 with eight raw bytes: the form that BESTPAY uses towards CUPS. SM4 terminals of the family have the SM4-CBC-MAC.
	{Name: "unionpay-x919", Base: Default, MAC: MACRetail, SM4MAC: MACCBC, MACForm: FormBinary},
	// X9.9 with eight raw bytes (UMS lineage: GO8583, AFC).
	{Name: "unionpay-x99", Base: Default, MAC: MACCBC, SM4MAC: MACCBC, MACForm: FormBinary},
	// The SM4-CBC-MAC in place of the XOR form, cut as the XOR form is.
	{Name: "unionpay-sm4-cbc", Base: Default, MAC: MACRetail, SM4MAC: MACCBC},
	{Name: "unionpay-cmac", Base: Default, MAC: MACCMAC, SM4MAC: MACCMAC, MACForm: FormBinary},
	// The SM4 host of VFWZ (facts/unionpay-packets.txt [18] to [23]).
	{
		Name: "unionpay-sm4-005", Base: Default, MACOn: []string{"0920"}, SM4SignOn: "005", SM4Answer: "011", SM4KCVBytes: 3, SM4PIN: PlaceSM016,
	},
	// The terminal side of BESTPAY: the PIN behind five bytes in field 62.
	{Name: "unionpay-sm4-prefix", Base: Default, SM4PIN: PlacePrefix},
}

// SignOn is what a sign-on code asks for.
type SignOn struct {
	Algorithm keys.Algorithm
	Track     bool   // with a track key
	Answer    string // field 60.3 of the answer
	KCVBytes  int    // of each check value in field 62 of the answer
}

// kcvBytes is how many bytes a check value has in the key blocks of DES (facts/unionpay.md §3).
const kcvBytes = 4

// SignOn finds what field 60.3 of a sign-on asks for (facts/unionpay.md §3); false for a code that the profile does not have.
func (p *Profile) SignOn(code string) (SignOn, bool) {
	switch code {
	case "001":
		return SignOn{keys.DES, false, code, kcvBytes}, true
	case "003":
		return SignOn{keys.TDES, false, code, kcvBytes}, true
	case "004":
		return SignOn{keys.TDES, true, code, kcvBytes}, true
	case p.SM4SignOn:
		answer := p.SM4Answer
		if answer == SameCode {
			answer = code
		}
		return SignOn{keys.SM4, true, answer, p.SM4KCVBytes}, true
	}
	return SignOn{}, false
}

// Fits says why a terminal with these keys cannot have the profile, or nil. makBytes counts for triple DES only.
func (p *Profile) Fits(algorithm keys.Algorithm, makBytes int) error {
	if p.MAC == MACRetail && (algorithm == keys.DES || algorithm == keys.TDES && makBytes != doubleMAK) {
		return fmt.Errorf("profile %s has X9.19 MACs, which need a double-length MAC key: set the terminal's algorithm to tdes and its mak_length to %d, or give it another profile", p.Name, doubleMAK)
	}
	return nil
}

const doubleMAK = 16

// Digit is the second digit of field 53 of a terminal with keys of the algorithm (facts/unionpay.md §5).
func (p *Profile) Digit(algorithm keys.Algorithm) byte {
	switch algorithm {
	case keys.SM4:
		return p.SM4Digit[0]
	case keys.DES:
		return '0'
	default:
		return '6'
	}
}

// Answer swaps or keeps the transport header of an answer that Packet.Answer made.
func (p *Profile) Answer(answer, request *unionpay.Packet) {
	if p.AnswerTPDU == TPDUKeep {
		answer.TPDU = request.TPDU
	}
}

// CheckCaller holds the caller-id block of a packet against the profile.
func (p *Profile) CheckCaller(packet *unionpay.Packet) error {
	has := len(packet.CallerID) > 0
	switch {
	case has && p.CallerIDRule == CallerRefused:
		return fmt.Errorf("profile %s has no caller-id block, and the message came with one", p.Name)
	case !has && p.CallerIDRule == CallerRequired:
		return fmt.Errorf("profile %s needs the caller-id block of the concentrator, and the message came without", p.Name)
	}
	return nil
}

// MustMAC says that a message of a further type has to carry a MAC. It says nothing of those that always do.
func (p *Profile) MustMAC(m *iso.Message) bool {
	for _, mti := range p.MACOn {
		if m.MTI() == mti {
			return true
		}
	}
	return false
}
