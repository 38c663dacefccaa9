package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"
)

// Run is "keyward dev": it starts the system, says what runs where, shows a line per message until ctx ends, and stops it. The error
// is what kept it from starting, or what did not stop in order.
func Run(ctx context.Context, opt Options, screen Screen, kill <-chan struct{}) error {
	begun := time.Now()
	opt.Out = screen
	s, err := Start(ctx, opt, kill)
	if err != nil {
		return err
	}
	if opt.Traffic {
		if err := s.startTraffic(ctx); err != nil {
			return errors.Join(err, s.Stop())
		}
	}
	s.introduce(screen, time.Since(begun))
	s.follow(ctx, screen)
	s.say("\nStopping (a second Ctrl-C kills) ...")
	if err := s.Stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	s.say("Stopped. `make dev` goes on with the data in %s, `make dev-reset` removes them.", s.layout.root)
	return nil
}

func (s *System) startTraffic(ctx context.Context) error {
	body := map[string]any{"rate_per_second": s.opt.Rate, "terminals": trafficTerminals()}
	if err := s.Control.Call(ctx, http.MethodPost, "/v1/traffic", "", body, nil); err != nil {
		return fmt.Errorf("start the background traffic: %w", err)
	}
	return nil
}

// introduce says what runs where and what to try.
func (s *System) introduce(w io.Writer, took time.Duration) {
	var b strings.Builder
	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, p := range listeners(s.opt.Offset) {
		scheme := ""
		switch p.number - s.opt.Offset {
		case portPOSV, portIssuer, portOperations, portControl:
			scheme = "http://"
		case portKeys, portOperation:
			scheme = "https://"
		}
		_, _ = fmt.Fprintf(table, "  %s\t%s%s\n", p.what, scheme, at(p.number, 0))
	}
	_, _ = fmt.Fprintf(table, "  PostgreSQL %s\t%s\n", s.database.Version(), at(s.database.Port(), 0))
	_, _ = fmt.Fprintf(table, "  data\t%s\n", s.layout.root)
	_, _ = fmt.Fprintf(table, "  database files\t%s\n", s.database.DataDir())
	_, _ = fmt.Fprintf(table, "  logs\t%s\n", s.layout.logs())
	_ = table.Flush() // into memory
	fmt.Fprintf(&b, "\nKeyward is ready after %s: %d terminals from %s, merchant %s", took.Round(10*time.Millisecond), s.opt.Terminals, terminalID(1), merchantID)
	if s.Cards > 0 {
		fmt.Fprintf(&b, "; %d cards were issued", s.Cards)
	}
	b.WriteString(".\n\nTry next, in another terminal:\n\n")
	control, flag := at(portControl, s.opt.Offset), ""
	if s.opt.Offset != 0 {
		flag = " --control http://" + control
	}
	for _, line := range []struct{ what, command string }{
		{"sign a terminal on", "bin/pos signon --terminal 10000001" + flag},
		{"buy for 12.34 yuan with PIN", "bin/pos purchase --terminal 10000001 --amount 12.34" + flag},
		{"ask for the balance", "bin/pos balance --terminal 10000001" + flag},
		{"look at the console", "http://" + at(portPOSV, s.opt.Offset) + "/"},
		{"look at posp's HSMs", "bin/posp hsm list --watch --config " + s.layout.config("hsm")},
		{"break an HSM", "curl -X POST http://" + control + "/v1/hsms/hsm1/break -H 'Content-Type: application/json' -d '{\"how\":\"refuse\"}'"},
		{"mend it", "curl -X POST http://" + control + "/v1/hsms/hsm1/mend"},
		{"end", "Ctrl-C here"},
	} {
		fmt.Fprintf(&b, "  # %s\n  %s\n", line.what, line.command)
	}
	if s.opt.Traffic {
		fmt.Fprintf(&b, "\nBackground traffic: %g transactions per second on terminals %s to %s.\n",
			s.opt.Rate, terminalID(trafficFirst), terminalID(trafficFirst+trafficCount-1))
	}
	b.WriteString("\nSign-ons and transactions:\n")
	_, _ = io.WriteString(w, b.String())
}
