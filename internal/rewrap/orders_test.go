package rewrap_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/internal/rewrap"
	"github.com/keyward/keyward/keys"
)

// TestAwayPausedResumed: without the HSM the job waits and says why; paused it does nothing; resumed it goes on, at another pace.
func TestAwayPausedResumed(t *testing.T) {
	t.Parallel()
	f := open(t, 90)
	id := f.begin(20)
	f.await(id, "some copies", func(st rewrap.Status) bool { return st.Progress.Done >= 3 && st.Progress.ETA != "" })
	f.device.set(func() {
		f.device.away = &command.Error{Class: command.Unavailable, Command: "BU", Err: errors.New("no member answers")}
	})
	st := f.await(id, "trouble", func(st rewrap.Status) bool { return strings.Contains(st.Trouble, "no member answers") })
	if st.State != rewrap.Copying || st.Progress.Differences != 0 {
		t.Errorf("an HSM that is away made of the job: %+v", st)
	}
	f.device.set(func() { f.device.away = nil })
	f.await(id, "the end of the trouble", func(st rewrap.Status) bool { return st.Trouble == "" && st.Progress.Done > 4 })

	_, err := f.engine.Pause(t.Context(), id, "bob")
	f.must(err)
	done := f.status(id).Progress.Done
	f.device.set(func() { clear(f.device.calls) })
	f.importKey("PSAM:"+cardNo(999), keys.TerminalMaster, oldLMK)
	time.Sleep(300 * time.Millisecond) // nothing can signal that nothing happens
	if st := f.status(id); st.State != rewrap.Paused || st.Progress.Done != done || done > 88 {
		t.Errorf("paused: %+v, before %d", st.Progress, done)
	}
	f.device.set(func() {
		if n := f.device.calls["BW"]; n > 20 {
			t.Errorf("%d keys were translated after the pause", n)
		}
	})
	_, err = f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
	refused(t, err, "paused cannot become switching")
	_, err = f.engine.Resume(t.Context(), id, 1000, "bob")
	f.must(err)
	st = f.awaitState(id, rewrap.Copied)
	if st.Rate != 1000 || st.Progress.Done != 92 || st.OrderedBy != "bob" {
		t.Errorf("resumed: %+v", st)
	}
	f.everywhere()
}

// TestNewKeys: keys that are made while the domain is copied, and after it was switched, follow; a destroyed key leaves nothing behind.
func TestNewKeys(t *testing.T) {
	t.Parallel()
	f := open(t, 5)
	id := f.begin(1000)
	f.awaitState(id, rewrap.Copied)
	f.addCard(6, oldLMK)
	f.await(id, "the new key's copy", func(st rewrap.Status) bool { return st.Progress.Done == 7 })
	_, err := f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
	f.must(err)
	f.awaitState(id, rewrap.Switched)
	f.addCard(7, oldLMK) // by a request that had read the root key before the switch
	f.addCard(8, newLMK)
	st := f.await(id, "the late key's switch", func(st rewrap.Status) bool { return st.Progress.Switched == 8 })
	if st.Progress.Native != 1 || len(st.RetireWaits) != 0 {
		t.Errorf("status %+v", st)
	}
	k, err := f.store.Newest(t.Context(), "PSAM:"+cardNo(2), keys.TerminalMaster, keys.TDES)
	f.must(err)
	f.must(f.store.Move(t.Context(), k.ID, keys.Destroyed, "destroyed", "test", nil))
	if n := f.count(`key_twins WHERE key_id = $1 AND cryptogram IS NOT NULL`, k.ID); n != 0 {
		t.Error("a destroyed key has a twin")
	}
	_, err = f.engine.Back(t.Context(), id, "bob")
	f.must(err)
	st = f.awaitState(id, rewrap.Copied)
	if st.Progress.Native != 1 || f.count(`keys WHERE lmk_domain = 'old' AND cryptogram IS NOT NULL`) != 7 {
		t.Errorf("after the way back: %+v", st.Progress)
	}
	f.everywhere()
}

// TestDestroyedUnderWay: a key that is destroyed between its proof and the record of it gets no twin.
func TestDestroyedUnderWay(t *testing.T) {
	t.Parallel()
	f := open(t, 1)
	k, err := f.store.Newest(t.Context(), "PSAM:"+cardNo(1), keys.TerminalMaster, keys.TDES)
	f.must(err)
	f.device.set(func() {
		f.device.after = func(what string, n int) {
			if what == "BW" && n == 3 { // the trial's, the root key's, the card's
				if err := f.store.Move(t.Context(), k.ID, keys.Destroyed, "destroyed", "test", nil); err != nil {
					t.Error(err)
				}
			}
		}
	})
	id := f.begin(1)
	st := f.awaitState(id, rewrap.Copied)
	if st.Progress.Total != 1 || f.count(`key_twins WHERE key_id = $1`, k.ID) != 0 {
		t.Errorf("progress %+v", st.Progress)
	}
}

// TestZoneMasterKey: the other method, whose zone master key has a cryptogram in both domains from the ceremony.
func TestZoneMasterKey(t *testing.T) {
	t.Parallel()
	f := open(t, 4)
	plan := rewrap.Plan{From: oldLMK, To: newLMK, Method: rewrap.ZMK, ZMK: "ZMK-MOVE", Rate: 1000}
	_, err := f.engine.Begin(t.Context(), plan, "alice")
	refused(t, err, "not there in both domains")
	f.importKey("ZMK-MOVE", keys.ZoneMaster, oldLMK)
	f.importKey("ZMK-MOVE", keys.ZoneMaster, newLMK)
	f.importKey("ZMK-MOVE", keys.ZoneMaster, newLMK) // again: changes nothing
	j, err := f.engine.Begin(t.Context(), plan, "alice")
	f.must(err)
	if st := f.awaitState(j.ID, rewrap.Copied); st.Progress.Done != 6 || f.device.calls["BW"] != 0 || st.ZMK != "ZMK-MOVE" {
		t.Errorf("copied: %+v", st)
	}
	f.everywhere()

	// Given up, the job's twins go and the ceremony's stays, so that the next job can begin.
	_, err = f.engine.Cancel(t.Context(), j.ID, "bob")
	f.must(err)
	f.awaitState(j.ID, rewrap.Cancelled)
	if n := f.count(`key_twins WHERE cryptogram IS NOT NULL`); n != 1 {
		t.Errorf("%d twins after the end", n)
	}
	if j, err = f.engine.Begin(t.Context(), plan, "alice"); err != nil {
		t.Fatal(err)
	}
	f.awaitState(j.ID, rewrap.Copied)
	_, err = f.engine.Switch(t.Context(), j.ID, rewrap.Selection{Share: 100}, "bob")
	f.must(err)
	f.awaitState(j.ID, rewrap.Switched)
	f.addCard(5, oldLMK) // the zone master key works in the new domain by now
	f.await(j.ID, "the late key", func(st rewrap.Status) bool { return st.Progress.Switched == 7 })
	_, err = f.engine.Retire(t.Context(), j.ID, "bob")
	f.must(err)
	f.awaitState(j.ID, rewrap.Retired)
	f.everywhere()
}

// TestPOSPMustFollow: nothing changes over while an instance of posp could not use it, nothing is erased that one needs.
func TestPOSPMustFollow(t *testing.T) {
	t.Parallel()
	f := open(t, 2)
	id := f.begin(1000)
	f.awaitState(id, rewrap.Copied)
	say := func(instance, place, usage string, domains ...string) {
		f.exec(`INSERT INTO posp_domains (instance_id, place, usage, domains) VALUES ($1, $2, $3, $4)
			ON CONFLICT (instance_id, place) DO UPDATE SET domains = excluded.domains, seen_at = now()`, instance, place, usage, domains)
	}
	say("posp-1", "hsm", "", oldLMK, newLMK)
	say("posp-1", "hosts.bank.zpk", "zpk", oldLMK)
	say("posp-1", "seal_key", "seal", oldLMK)
	say("posp-2", "hsm", "", oldLMK)
	say("posp-9", "hsm", "", oldLMK)
	f.exec(`UPDATE posp_domains SET seen_at = now() - interval '25 hours' WHERE instance_id = 'posp-9'`) // long gone
	_, err := f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
	refused(t, err, "no devices of domain new; add them under hsm: 1 (posp-2)")
	refused(t, err, "no twin in domain new, so PINs under keys of that domain could not be translated; add it under twins: 1 (posp-1 hosts.bank.zpk)")
	say("posp-2", "hsm", "", newLMK)
	say("posp-1", "hosts.bank.zpk", "zpk", oldLMK, newLMK)
	_, err = f.engine.Switch(t.Context(), id, rewrap.Selection{Share: 100}, "bob")
	f.must(err)
	f.awaitState(id, rewrap.Switched)

	set := `INSERT INTO work_keys (terminal_id, version, state, algorithm, lmk_domain, pik, pik_kcv, mak, mak_kcv, answer, request_digest, digest, expires_at, first_used_at, ends_at)
		VALUES ($6, $1, $2, 'tdes', 'old', 'U00', '01234567', 'U00', '01234567', '', '', '', now() + $3::interval, now() + $4::interval, now() + $5::interval)`
	f.exec(set, 1, "active", "1 hour", "-1 hour", "0 s", "10000001")
	f.exec(set, 1, "active", "-1 hour", "-25 hours", "0 s", "10000002") // has served its time
	f.exec(set, 2, "pending", "-1 hour", "0 s", "0 s", "10000002")      // was never used
	st := f.status(id)
	if st.Progress.WorkKeySets != 1 || len(st.RetireWaits) != 2 {
		t.Errorf("status %+v", st)
	}
	_, err = f.engine.Retire(t.Context(), id, "bob")
	refused(t, err, "working keys in domain old; they end by themselves, after a day at the latest: 1 (10000001)")
	refused(t, err, "configured keys of posp are in domain old; put the twin in their place and restart: 2 (posp-1 hosts.bank.zpk, posp-1 seal_key)")
	f.exec(`DELETE FROM work_keys WHERE terminal_id = '10000001'`)
	say("posp-1", "hosts.bank.zpk", "zpk", newLMK, oldLMK)
	say("posp-1", "seal_key", "seal", newLMK)
	_, err = f.engine.Retire(t.Context(), id, "bob")
	f.must(err)
	f.awaitState(id, rewrap.Retired)
	if st := f.status(id); len(st.RetireWaits)+len(st.SwitchWaits) != 0 || st.Progress.Total != 3 {
		t.Errorf("at the end: %+v", st)
	}
}

// TestHopeless: when the first keys all fail, the job is given up with a reason, and can be resumed.
func TestHopeless(t *testing.T) {
	t.Parallel()
	f := open(t, 25)
	f.stop()
	id := f.begin(1000)
	spoil := func(on bool) {
		f.device.set(func() {
			for n := 1; n <= 25; n++ {
				f.device.spoil["PSAM:"+cardNo(n)], f.device.spoil["PSAM-ROOT"] = "x", "x"
			}
			if !on {
				clear(f.device.spoil)
			}
		})
	}
	spoil(true)
	f.start()
	if st := f.awaitState(id, rewrap.Failed); !strings.Contains(st.Trouble, "another LMK") {
		t.Errorf("failed with %+v", st.Job)
	}
	spoil(false)
	_, err := f.engine.Resume(t.Context(), id, 0, "bob")
	f.must(err)
	if st := f.awaitState(id, rewrap.Copied); st.Progress.Done != 26 || st.Trouble != "" {
		t.Errorf("resumed: %+v", st)
	}
}

// TestRefusals: bad orders get a sentence and change nothing.
func TestRefusals(t *testing.T) {
	t.Parallel()
	f := open(t, 2)
	ctx := t.Context()
	for _, c := range []struct {
		plan rewrap.Plan
		word string
	}{
		{rewrap.Plan{From: oldLMK, To: oldLMK, Method: rewrap.Translate}, "two different"},
		{rewrap.Plan{To: newLMK, Method: rewrap.Translate}, "two different"},
		{rewrap.Plan{From: oldLMK, To: newLMK, Method: "magic"}, "not known"},
		{rewrap.Plan{From: oldLMK, To: newLMK, Method: rewrap.ZMK}, "zone master key"},
		{rewrap.Plan{From: oldLMK, To: newLMK, Method: rewrap.Translate, ZMK: "x"}, "zone master key"},
		{rewrap.Plan{From: oldLMK, To: newLMK, Method: rewrap.Translate, Rate: 1001}, "rate of 1001"},
		{rewrap.Plan{From: oldLMK, To: newLMK, Method: rewrap.Translate, Rate: -1}, "rate of -1"},
		{rewrap.Plan{From: "nowhere", To: newLMK, Method: rewrap.Translate}, "no key lives in LMK domain nowhere"},
	} {
		_, err := f.engine.Begin(ctx, c.plan, "alice")
		refused(t, err, c.word)
	}
	f.device.set(func() {
		f.device.refuse["PSAM-ROOT"] = &command.Error{Class: command.NoLicence, Command: "BW", Code: "67"}
	})
	f.device.set(func() {
		f.device.refuse["PSAM:"+cardNo(1)], f.device.refuse["PSAM:"+cardNo(2)] = f.device.refuse["PSAM-ROOT"], f.device.refuse["PSAM-ROOT"]
	})
	_, err := f.engine.Begin(ctx, rewrap.Plan{From: oldLMK, To: newLMK, Method: rewrap.Translate}, "alice")
	refused(t, err, "the first keys cannot be moved")
	f.device.set(func() {
		clear(f.device.refuse)
		f.device.away = &command.Error{Class: command.MemberFault, Command: "BU"}
	})
	if _, err := f.engine.Begin(ctx, rewrap.Plan{From: oldLMK, To: newLMK, Method: rewrap.Translate}, "alice"); !errors.Is(err, rewrap.ErrAway) {
		t.Errorf("begun without an HSM: %v", err)
	}
	f.device.set(func() { f.device.away = nil })
	if list, err := f.engine.Jobs(ctx); err != nil || len(list) != 0 {
		t.Errorf("refused, and yet there: %v, %v", list, err)
	}

	id := f.begin(0)
	for _, pair := range [][2]string{{oldLMK, newLMK}, {newLMK, oldLMK}, {oldLMK, "third"}, {"third", oldLMK}} {
		f.exec(`INSERT INTO keys (name, usage, algorithm, version, lmk_domain, cryptogram, kcv, length_bits, state)
			SELECT 'X-' || $1::text, 'root', 'tdes', 1, $1, $1 || '/x', $2, 128, 'active' ON CONFLICT DO NOTHING`, pair[0], string(check("x")))
		_, err := f.engine.Begin(ctx, rewrap.Plan{From: pair[0], To: pair[1], Method: rewrap.Translate}, "alice")
		refused(t, err, fmt.Sprintf("job %d", id))
	}
	f.awaitState(id, rewrap.Copied)
	for _, s := range []rewrap.Selection{{}, {Share: 101}, {Share: -1}, {Cards: []string{"1"}}, {Names: []string{"PSAM-NOTHING"}}, {Names: make([]string, 1001)}} {
		_, err := f.engine.Switch(ctx, id, s, "alice")
		if r, ok := errors.AsType[*rewrap.Refusal](err); !ok || r.Why == "" {
			t.Errorf("selection %+v: %v", s, err)
		}
	}
	_, err = f.engine.Back(ctx, id, "alice")
	refused(t, err, "cannot become returning")
	_, err = f.engine.Pause(ctx, id, "alice")
	refused(t, err, "cannot become paused")
	_, err = f.engine.Resume(ctx, id, 5000, "alice")
	refused(t, err, "rate of 5000")
	for _, do := range []func() error{
		func() error { _, err := f.engine.Pause(ctx, 99, "a"); return err },
		func() error { _, err := f.engine.Status(ctx, 99); return err },
		func() error { _, err := f.engine.Report(ctx, 99, 0, 10); return err },
		func() error { _, err := f.engine.Convert(ctx, 99, keys.Wrapped{}, "a"); return err },
	} {
		if err := do(); !errors.Is(err, rewrap.ErrNotFound) {
			t.Errorf("unknown job: %v", err)
		}
	}
	if _, err := rewrap.New(rewrap.Config{}); err == nil {
		t.Error("made an engine of nothing")
	}
}

// TestConvert: a configured key in the new domain, with proof, for zone and sealing keys only.
func TestConvert(t *testing.T) {
	t.Parallel()
	f := open(t, 1)
	id := f.begin(1000)
	zpk := keys.Wrapped{Usage: keys.ZonePIN, Algorithm: keys.TDES, Version: 2, Cryptogram: cryptogram(oldLMK, "zpk"), KCV: check("zpk")[:6]}
	for _, kcv := range []keys.KCV{zpk.KCV, ""} {
		zpk.KCV = kcv
		got, err := f.engine.Convert(t.Context(), id, zpk, "alice")
		f.must(err)
		want := zpk
		want.Domain, want.Cryptogram, want.KCV = newLMK, cryptogram(newLMK, "zpk"), check("zpk")
		if got != want {
			t.Errorf("converted %v", got)
		}
	}
	if n := f.count(`audit WHERE action = 'rewrap.key_converted' AND detail::text NOT LIKE '%/%'`); n != 2 {
		t.Errorf("%d audit records", n)
	}
	for word, change := range map[string]func(*keys.Wrapped){
		"stands in no configuration": func(k *keys.Wrapped) { k.Usage = keys.Root },
		"is in domain third":         func(k *keys.Wrapped) { k.Domain = "third" },
		"cryptogram is missing":      func(k *keys.Wrapped) { k.Cryptogram = "" },
		"in the old domain, stored":  func(k *keys.Wrapped) { k.KCV = "111111" },
		"error 10":                   func(k *keys.Wrapped) { k.Cryptogram = "rubbish" },
	} {
		k := zpk
		change(&k)
		_, err := f.engine.Convert(t.Context(), id, k, "alice")
		refused(t, err, word)
	}
	f.device.set(func() { f.device.spoil["zpk"] = "other" })
	_, err := f.engine.Convert(t.Context(), id, zpk, "alice")
	refused(t, err, "in the new domain, stored is")
}

// TestTwoProcesses: two engines on one database do the work once.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	f := open(t, 30)
	f.start()
	id := f.begin(300)
	f.awaitState(id, rewrap.Copied)
	f.device.set(func() {
		if n := f.device.calls["BW"]; n != 32 { // 31 keys and the trial
			t.Errorf("%d keys were translated", n)
		}
	})
}

// TestRate: no more keys per second than ordered.
func TestRate(t *testing.T) {
	t.Parallel()
	f := open(t, 20)
	begun := time.Now()
	id := f.begin(20)
	f.awaitState(id, rewrap.Copied)
	if took := time.Since(begun); took < 950*time.Millisecond {
		t.Errorf("21 keys at 20 per second took %s", took)
	}
}
