package hsm

import (
	"fmt"
	"strings"
)

// settingsOf checks the part of a configuration that commands and frames need.
func settingsOf(cfg Config) (settings, error) {
	s := settings{
		legacyTypes: cfg.LegacyTypes, ignoreParity: cfg.IgnoreParity, sockets: cfg.MaxConnections, firmware: cfg.Firmware, serial: cfg.Serial,
		defaultLMK: cfg.DefaultLMK, header: defaultHeader, maxMessage: maxMessage, ratedCPS: cfg.RatedPerSecond,
	}
	switch cfg.Set {
	case "", setPayShield:
		if s.firmware == "" {
			s.firmware = defaultFirmware
		}
		if len(s.firmware) != firmwareLength {
			return s, fmt.Errorf("hsm simulator: the firmware number has %d characters, want %d", len(s.firmware), firmwareLength)
		}
	case setSJJ1310:
		s.chinese, s.maxMessage = true, maxMessageSJJ
		if s.firmware == "" {
			s.firmware = defaultVersion
		}
		if len(s.firmware) > versionLength {
			return s, fmt.Errorf("hsm simulator: the version has %d characters, want at most %d", len(s.firmware), versionLength)
		}
		s.firmware += strings.Repeat(" ", versionLength-len(s.firmware))
	default:
		return s, fmt.Errorf("hsm simulator: command set %q: use %s or %s", cfg.Set, setPayShield, setSJJ1310)
	}
	if s.serial == "" {
		s.serial = defaultSerial
	}
	if len(s.serial) > serialLength {
		return s, fmt.Errorf("hsm simulator: the serial number has %d characters, want at most %d", len(s.serial), serialLength)
	}
	s.serial += strings.Repeat(" ", serialLength-len(s.serial))
	if s.defaultLMK == "" {
		s.defaultLMK = variantLMKID
	}
	if s.defaultLMK != variantLMKID && (s.defaultLMK != blockLMKID || s.chinese) {
		return s, fmt.Errorf("hsm simulator: the device has no LMK %q: use 00, or 01 in the set %s", s.defaultLMK, setPayShield)
	}
	if cfg.HeaderLength != nil {
		s.header = *cfg.HeaderLength
	}
	if s.header < 0 || s.header > maxHeader {
		return s, fmt.Errorf("hsm simulator: header length %d: use 0 to %d", s.header, maxHeader)
	}
	if cfg.LengthRule != "" && cfg.LengthRule != lengthRuleAll && cfg.LengthRule != lengthRulePlain {
		return s, fmt.Errorf("hsm simulator: length rule %q: use %s or %s", cfg.LengthRule, lengthRuleAll, lengthRulePlain)
	}
	s.payloadOnly = cfg.LengthRule == lengthRulePlain
	if s.ratedCPS == 0 {
		s.ratedCPS = defaultRated
	}
	if s.ratedCPS < 0 {
		return s, fmt.Errorf("hsm simulator: rated commands per second %d: use 0 for %d", s.ratedCPS, defaultRated)
	}
	return s, nil
}
