// Package pkcs11 is the HSM driver for devices that are asked through a PKCS#11 library (OASIS PKCS#11 base specification v2.40):
// storing keys, sealing and audit MACs, data keys, check values and random numbers.
//
// It claims no payment capability. Standard PKCS#11 has no command that takes a PIN block under one key and gives it back under
// another; a driver could only compose it of a decryption and an encryption, and the clear PIN would stand in our memory between the
// two (docs/hsm-driver.md).
//
// A member is a token, a channel is a session, and one operation is under way in a session at a time. The part that calls the library
// needs cgo; without it New refuses and says so.
package pkcs11
