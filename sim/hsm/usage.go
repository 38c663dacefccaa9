package hsm

import "strings"

// Key usages of key blocks that commands use by name (docs/hsm-sim.md §9.2).
const (
	usageZMK     = "52"
	usageTMK     = "51"
	usageZPK     = "72"
	usageTPK     = "71"
	usageTDK     = "23"
	usageZEK     = "22"
	usageDEK     = "21"
	usageControl = "E1"
	usageMKSMI   = "E2"
	usageRoot    = "E7"
)

// blockType stands where a key type is expected when the key is in a key block, which names its own usage.
const blockType = "FFF"

// usage is what a key block may say about the use of its key.
type usage struct {
	algorithms string  // Letters of the header.
	modes      string  // Modes of use.
	types      typeSet // Key types under a variant LMK that mean the same.
	private    bool    // Never leaves: exportability N only.
	raw        bool    // Holds derived keys as they came out of a cipher, so their parity says nothing.
	wider      string  // The usage it gets in a TR-31 block; "" the same.
	generic    bool    // Only as it arrives in a TR-31 block: no command works with it or makes it.
}

const (
	modesWrap = "BDEN"
	modesMAC  = "CGVN"
	algsAll   = "DTA4"
)

var usages = map[string]usage{
	usageZMK: {algsAll, modesWrap, setOf(typeZMK), true, false, "K0", false},
	usageTMK: {algsAll, modesWrap, setOf(typeTMK), false, true, "K0", false},
	usageZPK: {algsAll, modesWrap, setOf(typeZPK), false, false, "P0", false},
	usageTPK: {algsAll, modesWrap, setOf(typeTPK), false, false, "P0", false},
	usageDEK: {algsAll, modesWrap, setOf(typeDEK), false, false, "D0", false},
	usageZEK: {algsAll, modesWrap, setOf(typeZEK), false, false, "D0", false},
	usageTDK: {algsAll, modesWrap, setOf(typeTDK), false, false, "D0", false},
	"M0":     {algsAll, modesMAC, macTypes, false, false, "", false},
	"M1":     {algsAll, modesMAC, macTypes, false, false, "", false},
	"M3":     {"T", modesMAC, macTypes, false, false, "", false},
	"M6":     {"TA4", modesMAC, macTypes, false, false, "", false},

	usageControl: {"T4", "BENX", setOf(typeControl), false, true, "", false},
	usageMKSMI:   {"T4", "NXC", setOf(typeMKSMI), false, false, "", false},
	usageRoot:    {"T4", "XN", setOf(typeRoot), true, true, "", false},

	"P0": {algsAll, modesWrap, nil, false, false, "", true},
	"K0": {algsAll, modesWrap, nil, false, true, "", true},
	"D0": {algsAll, modesWrap, nil, false, false, "", true},
}

// macUsages are the usages that serve a MAC algorithm.
var macUsages = map[byte]typeSet{macCBC: setOf("M0", "M1"), macRetail: setOf("M3"), macCMAC: setOf("M6")}

// purpose is what a command wants of a key that comes in a key block. The zero value takes any key.
type purpose struct {
	usages typeSet // nil: any.
	modes  string  // "": any.
	ruled  bool    // The port's list may name the usage.
}

var (
	anyKey       = purpose{ruled: true}
	wrapForZone  = purpose{usages: setOf(usageZMK), modes: "BEN"}
	openFromZone = purpose{usages: setOf(usageZMK), modes: "BDN"}
	wrapForTMK   = purpose{usages: setOf(usageTMK), modes: "BEN"}
	fromTPK      = purpose{usages: setOf(usageTPK), modes: "BDN"}
	fromZPK      = purpose{usages: setOf(usageZPK), modes: "BDN"}
	toZPK        = purpose{usages: setOf(usageZPK), modes: "BEN"}
	dataUsages   = setOf(usageDEK, usageZEK, usageTDK)
	encryptData  = purpose{usages: dataUsages, modes: "BEN", ruled: true}
	decryptData  = purpose{usages: dataUsages, modes: "BDN", ruled: true}
	encryptNext  = purpose{usages: dataUsages, modes: "BEN"} // The second key of a translation.
	deriveKeys   = purpose{usages: setOf(usageRoot), modes: "XN"}
	protectCard  = purpose{usages: setOf(usageControl), modes: "BEN"}
	intoCard     = purpose{usages: setOf(usageTMK, usageControl)}

	workingUsages = setOf(usageTPK, usageTDK, "M0", "M1", "M3", "M6") // What a terminal receives under its TMK.
	derivedUsages = setOf(usageTMK, usageControl, usageRoot)
)

// macPurpose is the use of a key for a MAC algorithm, for making ("CGN") or verifying ("CVN").
func macPurpose(algorithm byte, modes string) purpose {
	return purpose{usages: macUsages[algorithm], modes: modes, ruled: true}
}

// cardMAC is the use of a key by S0, which also takes MK-SMI.
func cardMAC(algorithm byte) purpose {
	p := macPurpose(algorithm, "CGNX")
	p.usages = p.usages.without()
	p.usages[usageMKSMI] = true
	return p
}

// fits checks usage and mode of a key block against the purpose.
func (p purpose) fits(a attributes) errorCode {
	switch {
	case p.usages != nil && !p.usages[a.usage]:
		return codeUsage
	case p.modes != "" && !strings.Contains(p.modes, string(a.mode)):
		return codeMode
	}
	return codeOK
}

var (
	namedUsages  = usagesThat(func(u usage) bool { return !u.generic })
	exportUsages = usagesThat(func(u usage) bool { return !u.generic && !u.private })
)

func usagesThat(fit func(usage) bool) typeSet {
	s := typeSet{}
	for name, u := range usages {
		if fit(u) {
			s[name] = true
		}
	}
	return s
}
