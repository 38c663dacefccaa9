// Package dev runs the whole of Keyward on one machine: a private PostgreSQL, the simulators, the services as child processes,
// and the development data of design.md §6. "keyward dev" and "keyward demo" are thin commands over it.
//
// Read system.go first: it is the order in which everything starts. What runs where is in ports.go, what is kept where in
// layout.go, the configuration files in config.go, and the data of the first run in fill.go.
package dev
