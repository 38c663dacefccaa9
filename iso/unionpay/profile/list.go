package profile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// List finds profiles by name.
type List struct{ byName map[string]*Profile }

// Find gives the profile of a name; false for one that is not configured.
func (l *List) Find(name string) (*Profile, bool) {
	p, ok := l.byName[name]
	return p, ok
}

// Names lists the profiles in alphabetical order.
func (l *List) Names() []string {
	names := make([]string, 0, len(l.byName))
	for name := range l.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// NewList completes the configured profiles from their bases and puts them beside the built-in ones. All faults are joined, each a sentence
// with the profile, the setting and what is allowed.
func NewList(configured []Profile) (*List, error) {
	l := &List{byName: map[string]*Profile{}}
	var faults []error
	for _, p := range slices.Concat(builtIn, configured) {
		if err := l.add(p); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return l, nil
}

func (l *List) add(p Profile) error {
	if !ValidName(p.Name) {
		return fmt.Errorf("profiles: the name %q is not 1 to %d characters of a-z, 0-9, '.' and '-', beginning with a letter", p.Name, maxName)
	}
	if l.byName[p.Name] != nil {
		return fmt.Errorf("profiles: %s is there already, built in or earlier in the list: choose another name", p.Name)
	}
	if len(l.byName) > 0 {
		if p.Base == "" {
			p.Base = Default
		}
		base, ok := l.byName[p.Base]
		if !ok {
			return fmt.Errorf("profiles: %s has the base %q, which is no profile before it; there are %s", p.Name, p.Base, strings.Join(l.Names(), ", "))
		}
		p.fill(base)
	}
	if err := p.check(); err != nil {
		return err
	}
	l.byName[p.Name] = &p
	return nil
}

const maxName = 32

// ValidName says that a text can be the name of a profile.
func ValidName(name string) bool {
	return len(name) > 0 && len(name) <= maxName && name[0] >= 'a' && name[0] <= 'z' &&
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// fill takes what the profile leaves out from its base.
func (p *Profile) fill(base *Profile) {
	fillIn(&p.MAC, base.MAC)
	fillIn(&p.SM4MAC, base.SM4MAC)
	fillIn(&p.MACForm, base.MACForm)
	fillIn(&p.SM4SignOn, base.SM4SignOn)
	fillIn(&p.SM4Answer, base.SM4Answer)
	fillIn(&p.SM4KCVBytes, base.SM4KCVBytes)
	fillIn(&p.SM4Digit, base.SM4Digit)
	fillIn(&p.SM4PIN, base.SM4PIN)
	fillIn(&p.SM4PINBlock, base.SM4PINBlock)
	fillIn(&p.AnswerTPDU, base.AnswerTPDU)
	fillIn(&p.CallerIDRule, base.CallerIDRule)
	if p.MACOn == nil { // an empty list is a setting: none
		p.MACOn = base.MACOn
	}
}

func fillIn[T comparable](setting *T, base T) {
	var zero T
	if *setting == zero {
		*setting = base
	}
}

// check holds every setting against what is allowed, and the settings against each other.
func (p *Profile) check() error {
	var faults []error
	fault := func(setting, format string, args ...any) {
		faults = append(faults, fmt.Errorf("profiles: %s: %s %s", p.Name, setting, fmt.Sprintf(format, args...)))
	}
	oneOf := func(setting, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			fault(setting, "is %q, which is none of %s", value, strings.Join(allowed, ", "))
		}
	}
	oneOf("mac", string(p.MAC), string(MACECB), string(MACCBC), string(MACRetail), string(MACCMAC))
	oneOf("sm4_mac", string(p.SM4MAC), string(MACECB), string(MACCBC), string(MACCMAC))
	oneOf("mac_form", string(p.MACForm), string(FormHex), string(FormBinary))
	oneOf("sm4_digit", p.SM4Digit, "4", "3")
	oneOf("sm4_pin", string(p.SM4PIN), string(PlaceTag), string(PlaceSM016), string(PlacePrefix))
	oneOf("sm4_pin_block", string(p.SM4PINBlock), string(BlockWide), string(BlockPadded))
	oneOf("answer_tpdu", string(p.AnswerTPDU), string(TPDUSwap), string(TPDUKeep))
	oneOf("caller_id_block", string(p.CallerIDRule), string(CallerOptional), string(CallerRequired), string(CallerRefused))
	oneOf("sm4_sign_on", p.SM4SignOn, "005", "006")
	if p.SM4Answer != SameCode && !threeDigits(p.SM4Answer) {
		fault("sm4_answer", "is %q, which is neither %q nor three digits", p.SM4Answer, SameCode)
	}
	if p.SM4KCVBytes != 3 && p.SM4KCVBytes != kcvBytes {
		fault("sm4_kcv_bytes", "is %d, which is neither 3 (57 bytes of keys) nor 4 (60 bytes)", p.SM4KCVBytes)
	}
	for _, mti := range p.MACOn {
		oneOf("mac_on", mti, "0320", "0500", "0620", "0820", "0920")
	}
	if p.MACForm == FormBinary && (p.MAC == MACECB || p.SM4MAC == MACECB) {
		fault("mac_form", "is binary, and mac or sm4_mac is ecb: no terminal sends that MAC otherwise than in hex; choose mac_form hex, or another mac and sm4_mac")
	}
	return errors.Join(faults...)
}

func threeDigits(s string) bool { return len(s) == 3 && strings.Trim(s, "0123456789") == "" }
