package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/keyward/keyward/internal/postgres"
	"github.com/keyward/keyward/migrations"
)

const (
	// databaseWatch is how often it is looked whether the database still listens; databaseMisses in a row mean that it died.
	databaseWatch  = time.Second
	databaseMisses = 2
	// databaseRestart bounds a restart; it recovers first.
	databaseRestart = 60 * time.Second
)

// startDatabase starts PostgreSQL, brings the schema up to date, and writes the connection strings of the services.
func (s *System) startDatabase(ctx context.Context) error {
	database, err := postgres.Start(ctx, postgres.Config{Dir: s.layout.path("postgres"), Log: s.narrator(), Fast: s.opt.Fast})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.database = database
	killed := s.killed
	s.mu.Unlock()
	if killed {
		return errors.New("killed while starting")
	}
	if note := database.Notice(); note != "" {
		s.say("Note: %s.", note)
	}
	if err := writeFile(s.layout.databasePlace(), []byte(filepath.Dir(database.DataDir()))); err != nil {
		return err
	}
	if err := database.EnsureDatabase(ctx, databaseName); err != nil {
		return err
	}
	url := database.URL(postgres.Superuser, databaseName)
	if err := migrations.Apply(ctx, url); err != nil {
		return fmt.Errorf("bring the database up to date: %w", err)
	}
	passwords := map[string]string{}
	for _, role := range migrations.ServiceRoles() {
		passwords[role] = database.Password(role)
		if err := writeFile(s.layout.databaseURL(role), []byte(database.URL(role, databaseName)+"\n")); err != nil {
			return err
		}
	}
	if err := migrations.SetPasswords(ctx, url, passwords); err != nil {
		return fmt.Errorf("set the passwords of the database roles: %w", err)
	}
	return nil
}

// narrator is a log for people: what the start of the database does may take minutes, when PostgreSQL is installed first.
func (s *System) narrator() *slog.Logger {
	return slog.New(slog.NewTextHandler(s.opt.Out, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}}))
}

// watchDatabase restarts a database that died (A7); the services wait for it meanwhile.
func (s *System) watchDatabase(ctx context.Context) {
	misses := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(databaseWatch):
		}
		if s.stopping.Load() {
			return
		}
		dialer := net.Dialer{Timeout: databaseWatch}
		conn, err := dialer.DialContext(ctx, "tcp4", at(s.database.Port(), 0))
		if err == nil {
			_ = conn.Close() // only asked
			misses = 0
			continue
		}
		if misses++; misses < databaseMisses || s.stopping.Load() {
			continue
		}
		misses = 0
		s.say("! PostgreSQL does not answer; it is started again.")
		restart, cancel := context.WithTimeout(ctx, databaseRestart)
		err = s.database.Restart(restart)
		cancel()
		switch {
		case err == nil:
			s.say("! PostgreSQL runs again.")
		case ctx.Err() == nil && !s.stopping.Load():
			s.say("! PostgreSQL does not start: %v. It is tried again.", err)
		}
	}
}
