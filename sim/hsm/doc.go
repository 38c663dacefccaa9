// Package hsm simulates a payment HSM: a TCP server that speaks Racal-style host commands (facts/hsm.md §1) with a
// variant LMK. It exists for development and tests, holds public test keys only, and can be told at run time to be slow,
// silent, wrong or gone.
//
// The byte layout of every command, the key-type rules, and every assumption are written down in docs/hsm-sim.md; that
// page and this package change together. The path of one command is: connection (conn.go) reads a frame, execute
// (command.go) finds the command and checks the port's list, the command's own file reads its fields (fields.go), opens
// its keys (lmk.go, scheme.go), does the work and writes the answer.
//
// The simulator packs its own bytes and uses another SM4 library than the production packages, so that the same mistake
// in both cannot hide.
package hsm
