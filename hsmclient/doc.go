// Package hsmclient lets many callers use many HSMs as one. Callers name the small capability interfaces of package command;
// the Client here implements all of them over the members of one LMK domain and hides every connection.
//
// A command runs so: check that its keys belong to the domain (commands.go) · take a place on the least busy admitted channel (pick.go) ·
// let the driver hold its conversation there (channel.go) · class what went wrong, close a channel that can no longer be
// trusted, and repeat once on another member where that is safe (run.go). Connections are kept by internal/link; a member is
// diagnosed on every new connection and admitted only with the LMK of the domain (admit.go).
//
// Every command that callers can ask for may be repeated, because nothing stays in the device. No key, PIN, track or card
// number appears in logs, errors or metrics.
package hsmclient
