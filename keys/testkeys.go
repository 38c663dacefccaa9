package keys

import "fmt"

// testKCVs are the check values of keys that stand in public documents, and in our own development data (design.md §6). A key
// with such a value protects nothing.
var testKCVs = map[KCV]string{
	"2686047444912422":                 "the public test LMK",
	"DB3FB663EE8D2B66":                 "the public test LMK for key blocks",
	"08D7B4FB629D0885":                 "0123456789ABCDEFFEDCBA9876543210 as a triple DES key",
	"2677F46B09C122CC975533105BD4A22A": "0123456789ABCDEFFEDCBA9876543210 as an SM4 key",
	"D5D44FF720683D0D":                 "0123456789ABCDEF as a DES key",
	"8CA64DE9C1B123A7":                 "a key of zero bytes",
	"FB09759972301AF4":                 "00112233445566778899AABBCCDDEEFF as a triple DES key",
	"2121A7B507A7726D":                 "the zone PIN key of the development data",
	"288AC55A617E471D":                 "the zone MAC key of the development data",
	"8750E051DC15268A":                 "the sealing key of the development data",
	"64B6486D118DE71C":                 "the card control root of the development data",
	"A2B8704B26D92413":                 "the application control root of the development data",
	"039AC73919632CE0":                 "the simulated card maker's transport key",
	"486936A9D1210364208C3260E2A4F87A": "the card control root of the development data, for SM4",
	"2B180B07FCB872C82B176C82C77446D8": "the application control root of the development data, for SM4",
	"8DD2227A46C66B8034E8D36236485D6D": "the simulated card maker's transport key, for SM4",
}

// RefuseTestKey refuses a key whose check value belongs to a public test key; production profiles call it for every key that they
// are given. An empty value passes: it is checked when the HSM has told it.
func RefuseTestKey(what string, kcv KCV) error {
	if kcv == "" {
		return nil
	}
	for test, name := range testKCVs {
		if kcv.Matches(test) {
			return fmt.Errorf("%s: check value %s is that of a public test key (%s): make a key of your own, profile production refuses this one", what, kcv, name)
		}
	}
	return nil
}
