// Package racal drives HSMs of the Racal/Thales family and the Chinese boxes that speak the same host commands
// (facts/hsm.md §1; the layouts that the facts leave open are in docs/hsm-sim.md). One file per host command, named after
// it; fields.go reads and writes fields, errors.go classes the device's codes, keytype.go maps usages to key types, form.go tells how keys look under each kind of LMK, set.go which command serves what.
package racal
