package hsm

// Key types that commands use by name (docs/hsm-sim.md §2).
const (
	typeZMK     = "000"
	typeZPK     = "001"
	typePVK     = "002" // Also TPK and TMK with the setting LegacyTypes.
	typeTAK     = "003"
	typeZAK     = "008"
	typeZEK     = "00A"
	typeDEK     = "00B"
	typeTDK     = "30B"
	typeTPK     = "70D"
	typeTMK     = "80D"
	typeMKSMI   = "209"
	typeControl = "309" // Card control key (MK-SMC).
	typeRoot    = "011" // Issuing root key (KMC): derive only.
)

// typeSet is a set of key types that a command may use.
type typeSet map[string]bool

func setOf(types ...string) typeSet {
	s := typeSet{}
	for _, t := range types {
		s[t] = true
	}
	return s
}

func (s typeSet) with(t string) typeSet {
	out := s.without()
	out[t] = true
	return out
}

func (s typeSet) without(types ...string) typeSet {
	out := typeSet{}
	for t := range s {
		out[t] = true
	}
	for _, t := range types {
		delete(out, t)
	}
	return out
}

var (
	// namedTypes can be made and imported. 10A is missing on purpose: it shares its LMK variant with 011, so that
	// exporting "a 10A key" would export a root key.
	namedTypes = setOf(typeZMK, typeZPK, typePVK, typeTAK, typeZAK, typeZEK, typeDEK, typeTDK, typeTPK, typeTMK,
		typeMKSMI, typeControl, typeRoot, "009", "109", "402", "409", "509", "709")
	exportTypes  = namedTypes.without(typeZMK, typeRoot)
	workingTypes = setOf(typeTAK, typeTDK, typeTPK) // What a terminal receives under its TMK.
	dataTypes    = setOf(typeZEK, typeDEK, typeTDK)
	macTypes     = setOf(typeTAK, typeZAK)
	cardMACTypes = setOf(typeTAK, typeZAK, typeMKSMI)
	derivedTypes = setOf(typeTMK, typeControl, typeRoot)
	// rawTypes hold keys as they came out of a cipher, so their parity says nothing.
	rawTypes = setOf(typeTMK, typeControl, typeRoot)
)

// variantBytes is the XOR value of the variant digit of a key type (facts/hsm.md §2.2).
var variantBytes = [10]byte{0x00, 0xA6, 0x5A, 0x6A, 0xDE, 0x2B, 0x50, 0x74, 0x9C, 0xFA}

// pairOfCode maps the two-character pair code of a key type to the index of its LMK pair, which is half of the pair's
// first number: 04-05 is 2 (facts/hsm.md §2.3).
var pairOfCode = map[string]int{
	"00": 2, "01": 3, "02": 7, "03": 8, "04": 9, "05": 10, "06": 11, "07": 12, "08": 13, "09": 14, "0A": 15, "0B": 16, "0C": 17, "0D": 18,
}

// lmkPlace is where the keys of a type live: an LMK pair and a variant digit.
type lmkPlace struct{ pair, variant int }

// placeOf finds the LMK pair and variant of a three-character key type.
func placeOf(keyType string) (lmkPlace, bool) {
	if keyType == typeRoot {
		return lmkPlace{pair: 15, variant: 1}, true // Assumption: pair 30-31, because no pair code 11 exists.
	}
	if len(keyType) != 3 || keyType[0] < '0' || keyType[0] > '9' {
		return lmkPlace{}, false
	}
	pair, ok := pairOfCode[keyType[1:]]
	return lmkPlace{pair: pair, variant: int(keyType[0] - '0')}, ok
}
