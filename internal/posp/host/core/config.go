package core

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/keys"
)

// Times that are used where the configuration leaves a field zero.
const (
	// defaultConnectTimeout bounds dialling and sign-on together: a healthy bank needs milliseconds, a far one a second.
	defaultConnectTimeout = 10 * time.Second
	// defaultEchoEvery is shorter than the idle time-out of the usual firewall (60 s and up), and finds a dead line before many
	// transactions have run into it.
	defaultEchoEvery = 30 * time.Second
	// defaultEchoTimeout is how long a bank may take for an echo, which asks nothing of its books.
	defaultEchoTimeout = 5 * time.Second
	// defaultSignOffTimeout bounds the farewell at Stop: a bank that does not answer it must not hold up our end.
	defaultSignOffTimeout = 2 * time.Second
	// Back-off bounds: a restarted bank is found within a second, a sick one is asked six times a minute.
	defaultBackoffMin = 200 * time.Millisecond
	defaultBackoffMax = 10 * time.Second
	// answerCheckTimeout is what the HSM gets for the MAC of an answer that came in time, also when it came in the last
	// moment: an approval must not be lost, and reversed, because the wait for the bank used up the time of the check. The host
	// time-out plus this stays below posp's total (design.md §3).
	answerCheckTimeout = 2 * time.Second
)

// Config describes one core bank. Name, Addr, ZPK, ZAK and AcquirerID are required.
type Config struct {
	// Name appears in the journal, in logs and as a metric label, for example "bank".
	Name string
	// Addr is host:port of the bank.
	Addr string
	// ZPK is the zone PIN key, under which PIN blocks travel (field 52).
	ZPK keys.Wrapped
	// ZAK is the zone MAC key, double-length (field 128).
	ZAK keys.Wrapped
	// ZPKTwins and ZAKTwins are the same keys in further LMK domains, while keys move between them.
	ZPKTwins, ZAKTwins keys.Twins
	// PINFormat is the format of field 52; the dialect knows command.PINISO0 only, which is also the default.
	PINFormat command.PINFormat
	// Codes says for some of the bank's response codes (field 39) what the terminal is told, beside the built-in table and before it.
	Codes map[string]string
	// AcquirerID is field 32, 1 to 11 digits.
	AcquirerID string
	// Location is the zone of fields 12 and 13 (default time.Local).
	Location *time.Location

	// ConnectTimeout bounds dialling and sign-on together (default 10 s).
	ConnectTimeout time.Duration
	// EchoEvery is how long the bank may be silent before it is asked for an echo (default 30 s).
	EchoEvery time.Duration
	// EchoTimeout bounds the echo (default 5 s); without an answer the connection is made anew.
	EchoTimeout time.Duration
	// SignOffTimeout bounds the sign-off at Stop (default 2 s).
	SignOffTimeout time.Duration
	// BackoffMin and BackoffMax bound the waits between attempts to connect (default 200 ms and 10 s).
	BackoffMin, BackoffMax time.Duration

	// Log receives late and refused answers, never their content (default: nowhere).
	Log *slog.Logger
	// Registerer receives keyward_host_* with the label host=Name, and the metrics of the link (default: none).
	Registerer prometheus.Registerer
	// Now is the clock (default time.Now).
	Now func() time.Time
}

// complete checks the configuration and fills in defaults.
func (c *Config) complete() error {
	var errs []error
	need := func(ok bool, text string) {
		if !ok {
			errs = append(errs, errors.New(text))
		}
	}
	if c.PINFormat == "" {
		c.PINFormat = command.PINISO0
	}
	need(c.Name != "", "name is missing")
	need(c.Addr != "", "address is missing, want host:port")
	need(!c.ZPK.IsZero() && c.ZPK.Usage == keys.ZonePIN, "zone PIN key is missing or has another usage than zpk")
	need(!c.ZAK.IsZero() && c.ZAK.Usage == keys.ZoneMAC, "zone MAC key is missing or has another usage than zak")
	for _, twin := range c.ZPKTwins {
		need(!twin.IsZero() && twin.Usage == keys.ZonePIN && twin.Domain != c.ZPK.Domain, "a twin of the zone PIN key is no zpk of another LMK domain")
	}
	for _, twin := range c.ZAKTwins {
		need(!twin.IsZero() && twin.Usage == keys.ZoneMAC && twin.Domain != c.ZAK.Domain, "a twin of the zone MAC key is no zak of another LMK domain")
	}
	need(c.PINFormat == command.PINISO0, "PIN block format: this dialect knows ISO format 0 (01) only")
	need(len(c.AcquirerID) >= 1 && len(c.AcquirerID) <= 11 && strings.Trim(c.AcquirerID, "0123456789") == "", "acquirer id must have 1 to 11 digits")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("host %s: %w", c.Name, err)
	}
	defaults := []struct {
		d   *time.Duration
		def time.Duration
	}{
		{&c.ConnectTimeout, defaultConnectTimeout},
		{&c.EchoEvery, defaultEchoEvery},
		{&c.EchoTimeout, defaultEchoTimeout},
		{&c.SignOffTimeout, defaultSignOffTimeout},
		{&c.BackoffMin, defaultBackoffMin},
		{&c.BackoffMax, defaultBackoffMax},
	}
	for _, d := range defaults {
		if *d.d <= 0 {
			*d.d = d.def
		}
	}
	if c.Location == nil {
		c.Location = time.Local
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}
