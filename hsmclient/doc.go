// Package hsmclient lets many callers use many HSMs as one. Callers name the small capability interfaces of package command;
// the Cluster here implements all of them over members of one or more LMK domains and hides every connection.
//
// A command runs so: find the domain of its keys (commands.go) · take a place on the least busy channel of the best tier (pick.go), or
// wait for one (queue.go) · let the driver hold its conversation there (try.go) · class what went wrong and repeat where that is
// safe (run.go).
//
// A member lives so: its keeper probes it until it passes admission (keeper.go, admit.go), its lanes keep the data channels
// (lane.go), the heartbeat watches it (heart.go), and what is wrong makes it suspect, down or fenced (state.go). Standby members
// step in and back (standby.go). Operators change all of it at run time (operate.go, apply.go, engine.go, inject.go) and look at it
// (status.go, figures.go, history.go, metrics.go).
//
// No key, PIN, track or card number appears in logs, errors, metrics or the journal.
package hsmclient
