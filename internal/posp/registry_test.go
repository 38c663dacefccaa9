package posp_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyward/keyward/iso"
)

// change writes to the registry as posv does, and tells posp.
func (s *system) change(terminal string, sql string, args ...any) {
	s.t.Helper()
	_, err := s.admin.Exec(s.t.Context(), sql, args...)
	s.must(err)
	_, err = s.admin.Exec(s.t.Context(), `INSERT INTO device_changes (terminal_id, kind) VALUES ($1, 'test')`, terminal)
	s.must(err)
}

// within expects a condition within the second that P5 allows.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s took more than a second", what)
		}
		time.Sleep(5 * time.Millisecond) // polling; there is no signal for it
	}
}

// TestRegistryChanges: suspension, another card, another merchant state and a new terminal take effect within a second, and keys made under
// the old right end.
func TestRegistryChanges(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	code := func() string { return w.ask(w.signed(w.sale(1, nil))).Message.Text(iso.ResponseCode) }
	if got := code(); got != "00" {
		t.Fatal(got)
	}
	s.change(w.terminal, `UPDATE terminals SET state = 'suspended' WHERE terminal_id = $1`, w.terminal)
	within(t, "the suspension", func() bool { return code() == "58" })
	wantCode(t, w.ask(w.plain(w.signOnPacket("003"))), "58")
	s.change(w.terminal, `UPDATE terminals SET state = 'active' WHERE terminal_id = $1`, w.terminal)
	within(t, "the return", func() bool { return code() == "77" }) // the keys have ended
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")

	// Another card: the keys end, and the old card's master key gives nothing.
	s.enrol(9, "tdes", 8)
	s.change("10000009", `UPDATE bindings SET valid_to = now() WHERE terminal_id IN ('10000001', '10000009') AND valid_to IS NULL`)
	s.change(w.terminal, `INSERT INTO bindings (psam_no, terminal_id, reason, actor, valid_from) VALUES ('60000000000000000009', $1, 'test', 'test', now())`, w.terminal)
	within(t, "the other card", func() bool { return code() == "77" })
	w.master = masterKey(t, "60000000000000000009")
	w.signOn("003")
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")

	// The card is lost.
	s.change(w.terminal, `UPDATE cards SET state = 'lost' WHERE psam_no = '60000000000000000009'`)
	within(t, "the lost card", func() bool { return code() == "58" })

	// A new terminal.
	fresh := s.wire(t, 8)
	wantCode(t, fresh.ask(fresh.plain(fresh.signOnPacket("003"))), "97")
	s.enrol(8, "tdes", 8)
	within(t, "the new terminal", func() bool { return s.status().Terminals == 5 })
	fresh.signOn("003")

	// A card without a stored key cannot sign on.
	s.change(fresh.terminal, `UPDATE keys SET state = 'suspended' WHERE name = 'PSAM:' || $1`, fmt.Sprintf("6000000000000000%04d", 8))
	within(t, "the suspended key", func() bool {
		return fresh.ask(fresh.plain(fresh.signOnPacket("003"))).Message.Text(iso.ResponseCode) == "58"
	})
}

// TestRestartKeepsKeys: nobody signs on again after a restart; pending, active and grace sets are what they were.
func TestRestartKeepsKeys(t *testing.T) {
	t.Parallel()
	s, w := signedOn(t)
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	active := w.keys
	w.signOn("003") // pending
	w.hangUp()
	s.restart()
	pending := w.keys
	w.keys = active
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	w.keys = pending
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00")
	w.hangUp()
	s.restart()
	w.keys = active
	wantCode(t, w.ask(w.signed(w.sale(1, nil))), "00") // in its grace
}
