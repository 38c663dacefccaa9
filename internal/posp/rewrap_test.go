package posp_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/hsmconfig"
	"github.com/keyward/keyward/internal/posp"
	"github.com/keyward/keyward/internal/rewrap"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
	"github.com/keyward/keyward/sim/hsm"
	"github.com/keyward/keyward/sim/pos"
)

// blockDomain is the LMK domain of the device's key-block LMK, whose old LMK is that of testDomain.
const blockDomain = "dev-block"

var blockSettings = map[string]string{"lmk": "keyblock", "lmk_id": "01", "old_domain": testDomain}

// migration is a system whose keys are on their way from a variant LMK to a key-block LMK.
type migration struct {
	*system
	engine *rewrap.Engine
	job    int64
	spent  atomic.Int64 // fen, by all purchases that were approved
	online *hsmclient.Cluster
}

// admitted waits until every device of a group gets traffic: the group's own Wait is for its default domain alone.
func (m *migration) admitted(group *hsmclient.Cluster) {
	m.t.Helper()
	m.awaitLong("every device is admitted", func() bool {
		return !slices.ContainsFunc(group.Members(), func(s member.Status) bool { return s.State != member.Working })
	})
}

// restart is the system's, with devices of every domain.
func (m *migration) restart() {
	m.t.Helper()
	m.system.restart()
	m.admitted(m.online)
}

// domains gives posp's cluster devices of these LMK domains, the default one first.
func (m *migration) domains(names ...string) {
	all := map[string]member.Spec{
		testDomain:  {Name: "hsm1", Domain: testDomain, Addr: m.cfg.HSM.Members[0].Addr, Channels: 2},
		blockDomain: {Name: "hsm1-block", Domain: blockDomain, Addr: m.cfg.HSM.Members[0].Addr, Channels: 2, Settings: blockSettings},
	}
	m.cfg.HSM.Domain, m.cfg.HSM.Domains = names[0], nil
	for _, name := range names[1:] {
		m.cfg.HSM.Domains = append(m.cfg.HSM.Domains, hsmconfig.Domain{Name: name})
	}
	m.cluster = func(c *hsmclient.Config) {
		c.Domains, c.Members = nil, nil
		for _, name := range names {
			c.Domains, c.Members = append(c.Domains, hsmclient.Domain{Name: name}), append(c.Members, all[name])
		}
	}
}

// startEngine runs the key service's part over a group of its own, at the device's migration port.
func (m *migration) startEngine() {
	m.t.Helper()
	addr := m.hsm.Addr("migration").String()
	group, err := hsmclient.New(hsmclient.Config{
		Name: "migration", Domains: []hsmclient.Domain{{Name: testDomain}, {Name: blockDomain}}, Drivers: map[string]driver.Maker{"racal": racal.Make},
		Members: []member.Spec{
			{Name: "hsm1", Domain: testDomain, Addr: addr, Channels: 1}, {Name: "hsm1-block", Domain: blockDomain, Addr: addr, Channels: 1, Settings: blockSettings},
		},
	})
	m.must(err)
	m.must(group.Start(m.t.Context()))
	m.t.Cleanup(func() { m.stop("migration group", group.Stop) })
	m.admitted(group)
	m.engine, err = rewrap.New(rewrap.Config{
		Pool: m.db.Pool(m.t, migrations.RoleKeys), Check: group, Translate: group, Exchange: group, Log: slog.New(slog.DiscardHandler),
		Tick: 20 * time.Millisecond, Watch: 50 * time.Millisecond,
	})
	m.must(err)
	m.must(m.engine.Start(m.t.Context()))
	m.t.Cleanup(func() { m.stop("moving keys", m.engine.Stop) })
}

func (m *migration) awaitState(want rewrap.State) rewrap.Status {
	m.t.Helper()
	var st rewrap.Status
	m.awaitLong(string(want), func() bool {
		var err error
		st, err = m.engine.Status(m.t.Context(), m.job)
		m.must(err)
		return st.State == want
	})
	return st
}

// sell signs a terminal on, if asked, and buys with a PIN; everything must be approved.
func (m *migration) sell(term *pos.Terminal, signOn bool) error {
	if signOn {
		if r := term.SignOn(m.t.Context()); r.Code != "00" {
			return fmt.Errorf("sign-on: %q (%s) %s", r.Code, r.Meaning, r.Error)
		}
	}
	r := term.Purchase(m.t.Context(), pos.Sale{AmountFen: 7, PAN: card1, PIN: pin1})
	if r.Code != "00" {
		return fmt.Errorf("purchase: %q (%s) %s", r.Code, r.Meaning, r.Error)
	}
	m.spent.Add(7)
	return nil
}

// trading has the terminals sign on and buy without a break until its end, which says how often they did and what went wrong.
func (m *migration) trading(terms []*pos.Terminal) (end func() (int, error)) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var sales atomic.Int64
	errs := make(chan error, len(terms))
	for _, term := range terms {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := m.sell(term, n%3 == 0); err != nil {
					errs <- err
					return
				}
				sales.Add(1)
			}
		})
	}
	return func() (int, error) {
		close(stop)
		wg.Wait()
		close(errs)
		var all error
		for err := range errs {
			all = errors.Join(all, err)
		}
		return int(sales.Load()), all
	}
}

// busy does something while the terminals trade, and wants every sale approved.
func (m *migration) busy(what string, terms []*pos.Terminal, do func()) {
	m.t.Helper()
	end := m.trading(terms)
	do()
	n, err := end()
	if err != nil || n == 0 {
		m.t.Fatalf("%s: %d sales, %v", what, n, err)
	}
}

// signedOnIn counts the working key sets that serve, by LMK domain.
func (m *migration) signedOnIn(domain string) (n int) {
	m.t.Helper()
	m.must(m.admin.QueryRow(m.t.Context(), `SELECT count(DISTINCT terminal_id) FROM work_keys WHERE lmk_domain = $1 AND state = 'active'`, domain).Scan(&n))
	return n
}

// twin asks for a configured key in the new domain, as "posp hsm rewrap key" does.
func (m *migration) twin(usage keys.Usage, k posp.KeyConfig) posp.TwinConfig {
	m.t.Helper()
	got, err := m.engine.Convert(m.t.Context(), m.job, k.Key(usage), "li.na")
	m.must(err)
	return posp.TwinConfig{Domain: got.Domain, Cryptogram: got.Cryptogram, KCV: got.KCV}
}

// exchange makes the twin the key and the key the twin.
func exchange(k *posp.KeyConfig) {
	old := posp.TwinConfig{Domain: k.Domain, Cryptogram: k.Cryptogram, KCV: k.KCV}
	k.Domain, k.Cryptogram = k.Twins[0].Domain, k.Twins[0].Cryptogram
	k.Twins = []posp.TwinConfig{old}
}

// TestChangeOfLMK moves a running system from a variant LMK to a key-block LMK: terminals sign on and buy before, during and after each step, and
// not one of them is refused.
func TestChangeOfLMK(t *testing.T) {
	t.Parallel()
	m := &migration{system: newSystem(t, nil)}
	m.wrapHSM = func(group posp.HSM) posp.HSM {
		m.online = group.(*hsmclient.Cluster)
		return group
	}
	for n := 1; n <= 3; n++ {
		card := fmt.Sprintf("6000000000000000%04d", n)
		kcv, err := hsm.CheckValue("DES", masterKey(t, card))
		m.must(err)
		_, err = m.admin.Exec(t.Context(), `UPDATE keys SET kcv = $2 WHERE name = 'PSAM:' || $1`, card, kcv)
		m.must(err)
	}
	m.startEngine()
	var terms []*pos.Terminal
	for n, scheme := range []string{"003", "004", "004"} {
		terms = append(terms, m.terminal(n+1, func(c *pos.Config) { c.Scheme = scheme }))
	}
	before := m.balance()

	// Copy, with a posp that knows nothing of the new domain yet.
	m.busy("copying", terms, func() {
		j, err := m.engine.Begin(t.Context(), rewrap.Plan{From: testDomain, To: blockDomain, Method: rewrap.Translate, Rate: 1000}, "li.na")
		m.must(err)
		m.job = j.ID
		if st := m.awaitState(rewrap.Copied); st.Progress.Done != 3 || st.Progress.Differences != 0 {
			t.Fatalf("copied %+v", st)
		}
	})
	_, err := m.engine.Switch(t.Context(), m.job, rewrap.Selection{Share: 100}, "li.na")
	if err == nil || !strings.Contains(err.Error(), "posp-test") || !strings.Contains(err.Error(), "hosts.core.zpk") || !strings.Contains(err.Error(), "no devices") {
		t.Fatalf("switched without posp: %v", err)
	}

	// posp gets devices and twins of the new domain.
	m.cfg.Hosts[0].ZPK.Twins = []posp.TwinConfig{m.twin(keys.ZonePIN, m.cfg.Hosts[0].ZPK)}
	m.cfg.Hosts[0].ZAK.Twins = []posp.TwinConfig{m.twin(keys.ZoneMAC, m.cfg.Hosts[0].ZAK)}
	m.cfg.SealKey.Twins = []posp.TwinConfig{m.twin(keys.Seal, m.cfg.SealKey)}
	m.domains(testDomain, blockDomain)
	m.must(m.cfg.Validate())
	m.restart()

	// One card, then all.
	m.busy("the first card", terms, func() {
		_, err := m.engine.Switch(t.Context(), m.job, rewrap.Selection{Cards: []string{"60000000000000000001"}}, "li.na")
		m.must(err)
		m.awaitState(rewrap.Switched)
		m.awaitLong("the first terminal in the new domain", func() bool { return m.signedOnIn(blockDomain) == 1 })
	})
	m.busy("all cards", terms, func() {
		_, err := m.engine.Switch(t.Context(), m.job, rewrap.Selection{Share: 100}, "li.na")
		m.must(err)
		m.awaitState(rewrap.Switched)
		m.awaitLong("all terminals in the new domain", func() bool { return m.signedOnIn(blockDomain) == 3 })
	})

	// A new start finds key sets of the new domain as it left them.
	m.restart()
	m.must(m.sell(terms[0], false))
	m.must(m.sell(terms[1], false))

	// Back at once, and over again.
	m.busy("the way back", terms, func() {
		_, err := m.engine.Back(t.Context(), m.job, "li.na")
		m.must(err)
		m.awaitState(rewrap.Copied)
		m.awaitLong("all terminals in the old domain", func() bool { return m.signedOnIn(testDomain) == 3 })
	})
	// One terminal rests meanwhile, so that its keys stay in the old domain: two sign-ons of another end those that it had there.
	resting := "10000003"
	m.busy("all cards again", terms[:2], func() {
		_, err := m.engine.Switch(t.Context(), m.job, rewrap.Selection{Share: 100}, "li.na")
		m.must(err)
		m.awaitState(rewrap.Switched)
		m.awaitLong("the two terminals in the new domain again", func() bool { return m.signedOnIn(blockDomain) == 2 })
	})

	// The old domain is left: first by the configuration, then by the working keys of the old sign-ons.
	_, err = m.engine.Retire(t.Context(), m.job, "li.na")
	if err == nil || !strings.Contains(err.Error(), "working keys in domain dev") || !strings.Contains(err.Error(), resting) || !strings.Contains(err.Error(), "posp-test seal_key") {
		t.Fatalf("retired although: %v", err)
	}
	exchange(&m.cfg.Hosts[0].ZPK)
	exchange(&m.cfg.Hosts[0].ZAK)
	exchange(&m.cfg.SealKey)
	m.domains(blockDomain, testDomain)
	m.restart()
	for _, term := range terms {
		m.must(m.sell(term, true))
	}
	m.stopPOSP()
	_, err = m.admin.Exec(t.Context(), `UPDATE work_keys SET state = 'ended' WHERE lmk_domain = $1`, testDomain) // a day passes
	m.must(err)
	m.startPOSP()
	m.busy("retiring", terms, func() {
		_, err := m.engine.Retire(t.Context(), m.job, "li.na")
		m.must(err)
		m.awaitState(rewrap.Retired)
	})

	// Nothing is left of the old domain, and nothing needs it.
	m.cfg.Hosts[0].ZPK.Twins, m.cfg.Hosts[0].ZAK.Twins, m.cfg.SealKey.Twins = nil, nil, nil
	m.domains(blockDomain)
	m.restart()
	for _, term := range terms {
		m.must(m.sell(term, false)) // with the keys that were made before the start
		m.must(m.sell(term, true))
	}
	if got := before - m.balance(); got != m.spent.Load() {
		t.Errorf("the bank booked %d, the terminals heard of %d", got, m.spent.Load())
	}
	var left int
	m.must(m.admin.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM keys WHERE lmk_domain = $1) + (SELECT count(*) FROM key_twins WHERE cryptogram IS NOT NULL)`, testDomain).Scan(&left))
	if left != 0 {
		t.Errorf("%d cryptograms of the old domain are left", left)
	}
}
