package keyservice_test

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/internal/keyservice"
	"github.com/keyward/keyward/internal/keyservice/keyservicetest"
	"github.com/keyward/keyward/internal/order"
	"github.com/keyward/keyward/internal/rewrap"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/migrations"
)

// The cluster is what moving keys needs.
var _ keyservice.MigrationHSM = (*hsmclient.Cluster)(nil)

// moving is a key service with a group for migration, as an operator sees it.
type moving struct {
	*keyservicetest.Service // with the certificate of li.na, an operator
	t                       *testing.T
	posp                    *keyservicetest.Service
	calls                   int
	orders                  map[int]order.Signed
}

func newMoving(t *testing.T, withGroup bool) *moving {
	t.Helper()
	opt := keyservicetest.Options{Operators: []string{"li.na"}}
	if withGroup {
		opt.Migration = func(s *keyservicetest.Service) keyservice.MigrationHSM { return s.Group(t, "migration") }
	}
	s := keyservicetest.New(t, opt)
	return &moving{Service: s.As(t, "li.na"), t: t, posp: s, orders: map[int]order.Signed{}}
}

// order sends a POST and wants the status.
func (m *moving) order(path string, status int, body any, words ...string) string {
	m.t.Helper()
	m.calls++
	got, answer := m.Call(m.t, http.MethodPost, "/v1/rewraps"+path, fmt.Sprintf("order-%d", m.calls), body)
	want(m.t, path, got, answer, status, words...)
	return answer
}

func (m *moving) status(id int64) rewrap.Status {
	m.t.Helper()
	got, answer := m.Call(m.t, http.MethodGet, fmt.Sprintf("/v1/rewraps/%d", id), "", nil)
	want(m.t, "status", got, answer, 200)
	return parse[rewrap.Status](m.t, answer)
}

func (m *moving) await(id int64, state rewrap.State) rewrap.Status {
	m.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) { // polling
		st := m.status(id)
		if st.State == state {
			return st
		}
		if time.Now().After(end) {
			m.t.Fatalf("waited in vain for %s: %+v", state, st)
		}
	}
}

// issue derives a card's keys and makes its three scripts; it works the same in whatever domain which key is.
func (m *moving) issue(n int, psam string) cardAnswer {
	m.t.Helper()
	signed, known := m.orders[n]
	if !known {
		_, signed = m.posp.Order(m.t, n, 20, time.Hour)
		m.orders[n] = signed
	}
	m.calls++
	status, answer := m.posp.Call(m.t, "POST", "/v1/cards", fmt.Sprintf("issue-%d", m.calls), request{"psam_no": psam, "order": signed, "algorithms": []string{"tdes", "sm4"}})
	want(m.t, "derive "+psam, status, answer, 201)
	for _, step := range []string{"card-control", "application-control", "master"} {
		status, script := m.posp.Call(m.t, "POST", "/v1/cards/"+psam+"/scripts", "", request{"order": signed, "step": step, "challenge": "11223344"})
		want(m.t, "script "+step+" of "+psam, status, script, 200, "84D40000")
	}
	return parse[cardAnswer](m.t, answer)
}

func (m *moving) domains(psam string) map[string]int {
	m.t.Helper()
	list, err := m.Store.OfCard(m.t.Context(), psam)
	if err != nil {
		m.t.Fatal(err)
	}
	by := map[string]int{}
	for _, k := range list {
		by[k.Domain]++
	}
	return by
}

// TestVariantToKeyBlock moves the real thing: from a variant LMK to a key-block LMK, by either method, with cards issued before, in the middle and
// after, and the way back.
func TestVariantToKeyBlock(t *testing.T) {
	t.Parallel()
	for _, method := range []rewrap.Method{rewrap.Translate, rewrap.ZMK} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			m := newMoving(t, method == rewrap.ZMK)
			const before, between, after = card, "60000000000000000002", "60000000000000000003"
			first := m.issue(1, before)
			plan := rewrap.Plan{From: keyservicetest.Domain, To: keyservicetest.NewDomain, Method: method, Rate: 1000}
			count := 9 // five of the ceremony, four of the card
			if method == rewrap.ZMK {
				plan.ZMK, count = "ZMK-MOVE", 11
				m.order("", 409, plan, "not there in both domains")
				m.ceremony()
			} else {
				m.order("", 409, rewrap.Plan{From: plan.From, To: plan.To, Method: rewrap.ZMK, ZMK: "x"}, "no group of the HSM here exports keys")
			}
			j := parse[rewrap.Job](t, m.order("", 201, plan))
			if j.StartedBy != "li.na for carol" {
				t.Errorf("started by %q", j.StartedBy)
			}
			st := m.await(j.ID, rewrap.Copied)
			if p := st.Progress; p.Done != count || p.Left+p.Differences != 0 {
				status, report := m.Call(t, "GET", fmt.Sprintf("/v1/rewraps/%d/report", j.ID), "", nil)
				t.Fatalf("copied %+v\n%d %s", p, status, report)
			}

			// The card and one of the roots work in the new domain, the others in the old one: a card is issued across both.
			m.order(fmt.Sprintf("/%d/switch", j.ID), 200, rewrap.Selection{Cards: []string{before}, Names: []string{"PSAM-ROOT"}})
			m.await(j.ID, rewrap.Switched)
			if d := m.domains(before); d[keyservicetest.NewDomain] != 4 {
				t.Errorf("the card's keys are in %v", d)
			}
			m.issue(2, between)
			if d := m.domains(between); d[keyservicetest.NewDomain] != 2 || d[keyservicetest.Domain] != 2 {
				t.Errorf("the keys of a card that was issued in the middle are in %v", d)
			}
			again := m.issue(1, before) // the same card again gives the same keys
			for i, k := range again.Keys {
				if k != first.Keys[i] {
					t.Errorf("key %+v, before %+v", k, first.Keys[i])
				}
			}
			m.order(fmt.Sprintf("/%d/switch", j.ID), 200, rewrap.Selection{Share: 100})
			st = m.await(j.ID, rewrap.Switched)
			if p := st.Progress; p.Left+p.Differences != 0 || len(st.RetireWaits) != 0 {
				t.Errorf("switched %+v", st)
			}
			m.issue(3, after)
			if d := m.domains(after); d[keyservicetest.NewDomain] != 4 {
				t.Errorf("the keys of a card that was issued after are in %v", d)
			}

			// Back and forth: everything goes on working.
			m.order(fmt.Sprintf("/%d/back", j.ID), 200, request{})
			m.await(j.ID, rewrap.Copied)
			m.issue(1, before)
			m.issue(3, after) // was made in the new domain and stays there
			m.order(fmt.Sprintf("/%d/switch", j.ID), 200, rewrap.Selection{Share: 100})
			m.await(j.ID, rewrap.Switched)
			m.order(fmt.Sprintf("/%d/retire", j.ID), 200, request{})
			m.await(j.ID, rewrap.Retired)
			m.issue(4, "60000000000000000004")
			m.issue(1, before)

			status, text := m.Call(t, "GET", fmt.Sprintf("/v1/rewraps/%d/report?limit=3", j.ID), "", nil)
			want(t, "report", status, text, 200)
			page := parse[rewrap.Page](t, text)
			if len(page.Lines) != 3 || page.Next == 0 || strings.Contains(text, "cryptogram") {
				t.Errorf("report %s", text)
			}
			for _, l := range page.Lines {
				if !l.Good {
					t.Errorf("proof %+v", l)
				}
			}
		})
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ceremony puts clear keys under the new LMK, and the zone master key under both: root keys travel under no zone master key.
func (m *moving) ceremony() {
	m.t.Helper()
	const zmk = "01020407080B0D0E10131516191A1C1F"
	variant, err := m.Device.EncryptUnderLMK("000", "U", unhex(m.t, zmk))
	if err != nil {
		m.t.Fatal(err)
	}
	group := m.Group(m.t, "migration")
	put := func(name string, usage keys.Usage, algorithm keys.Algorithm, domain, cryptogram string) {
		m.t.Helper()
		_, err := keyservice.Import(m.t.Context(), m.Store, group, "dev", name, keys.Wrapped{
			Usage: usage, Algorithm: algorithm, Version: 1, Domain: domain, Cryptogram: cryptogram,
		}, "", "ceremony")
		if err != nil {
			m.t.Fatal(err)
		}
	}
	put("ZMK-MOVE", keys.ZoneMaster, keys.TDES, keyservicetest.Domain, variant)
	if variant, err = m.Device.EncryptUnderLMK("000", "R", unhex(m.t, zmk)); err != nil {
		m.t.Fatal(err)
	}
	put("ZMK-MOVE", keys.ZoneMaster, keys.SM4, keyservicetest.Domain, variant)
	for _, k := range []struct {
		name       string
		usage      keys.Usage
		algorithm  keys.Algorithm
		attributes string
		clear      string
	}{
		{"ZMK-MOVE", keys.ZoneMaster, keys.TDES, "52T2B00N00", zmk},
		{"ZMK-MOVE", keys.ZoneMaster, keys.SM4, "5241B00N00", zmk},
		{"PSAM-ROOT", keys.Root, keys.TDES, "E7T2X00N00", "0123456789ABCDEFFEDCBA9876543210"},
		{"PSAM-ROOT", keys.Root, keys.SM4, "E741X00N00", "0123456789ABCDEFFEDCBA9876543210"},
		{"PSAM-CCK", keys.Root, keys.TDES, "E7T2X00N00", "01010101020202020404040410101010"},
		{"PSAM-ACK", keys.Root, keys.TDES, "E7T2X00N00", "02020202040404040808080820202020"},
	} {
		block, err := m.Device.EncryptInKeyBlock(k.attributes, unhex(m.t, k.clear))
		if err != nil {
			m.t.Fatal(err)
		}
		put(k.name, k.usage, k.algorithm, keyservicetest.NewDomain, block)
	}
}

// TestWhoMayMoveKeys: operators order, the usual clients look, nobody else does either; bad requests are refused with a sentence.
func TestWhoMayMoveKeys(t *testing.T) {
	t.Parallel()
	m := newMoving(t, false)
	plan := rewrap.Plan{From: keyservicetest.Domain, To: keyservicetest.NewDomain, Method: rewrap.Translate}
	stranger := m.As(t, "stranger")
	for who, s := range map[string]*keyservicetest.Service{"posp": m.posp, "stranger": stranger} {
		for _, path := range []string{"", "/1/switch", "/1/pause", "/1/resume", "/1/back", "/1/retire", "/1/cancel", "/1/keys"} {
			status, answer := s.Call(t, "POST", "/v1/rewraps"+path, "k"+path, plan)
			want(t, who+path, status, answer, 403, "rewrap.operators")
		}
	}
	for path, wantStatus := range map[string]int{"": 200, "/1": 404, "/1/report": 404, "/x": 400, "/1/report?after=x": 400} {
		status, answer := m.posp.Call(t, "GET", "/v1/rewraps"+path, "", nil)
		want(t, "posp looks at "+path, status, answer, wantStatus)
		status, answer = stranger.Call(t, "GET", "/v1/rewraps"+path, "", nil)
		want(t, "a stranger looks at "+path, status, answer, 403)
	}
	m.order("/7/pause", 404, request{}, "no job with this number")
	m.order("/0/pause", 400, request{})
	m.order("", 409, rewrap.Plan{From: "nowhere", To: "elsewhere", Method: rewrap.Translate}, "no key lives in LMK domain nowhere")
	m.order("", 409, rewrap.Plan{From: keyservicetest.Domain, To: "elsewhere", Method: rewrap.Translate}, "no members for LMK domain")
	j := parse[rewrap.Job](t, m.order("", 201, plan))
	m.order("", 409, plan, fmt.Sprintf("job %d", j.ID))
	m.await(j.ID, rewrap.Copied)
	m.order(fmt.Sprintf("/%d/switch", j.ID), 409, rewrap.Selection{}, "nothing is selected")

	// An order takes its own details and no others: a share that is not obeyed must not look as if it were.
	for _, order := range []string{"pause", "back", "retire", "cancel", "resume"} {
		m.order(fmt.Sprintf("/%d/%s", j.ID, order), 400, request{"share": 10}, "share")
	}
	for _, order := range []string{"pause", "back", "retire", "cancel", "switch"} {
		m.order(fmt.Sprintf("/%d/%s", j.ID, order), 400, request{"rate": 10}, "rate")
	}
	if st := m.status(j.ID); st.State != rewrap.Copied || st.Share != 0 {
		t.Errorf("after refused orders: %+v", st.Job)
	}
	// What no name can be is refused before the database sees it.
	for _, bad := range []string{"a\x00b", "line\nbreak", strings.Repeat("x", 129)} {
		for _, plan := range []rewrap.Plan{
			{From: bad, To: keyservicetest.NewDomain, Method: rewrap.Translate}, {From: keyservicetest.Domain, To: bad, Method: rewrap.Translate},
			{From: keyservicetest.Domain, To: keyservicetest.NewDomain, Method: rewrap.ZMK, ZMK: bad},
		} {
			m.order("", 409, plan, "is no name of an LMK domain or a key")
		}
		m.order(fmt.Sprintf("/%d/switch", j.ID), 409, rewrap.Selection{Names: []string{bad}}, "is no name of an LMK domain or a key")
		m.order(fmt.Sprintf("/%d/keys", j.ID), 409, request{"usage": "zpk", "algorithm": "tdes", "version": 1, "domain": bad, "cryptogram": "U00"}, "the key is in domain")
		m.order(fmt.Sprintf("/%d/keys", j.ID), 409, request{"usage": "zpk", "algorithm": "tdes", "version": 1, "cryptogram": bad})
	}

	// A configured key: zpk, from the variant LMK into a key block.
	variant, err := m.Device.EncryptUnderLMK("001", "U", unhex(t, "10204080010204080102040810204080"))
	if err != nil {
		t.Fatal(err)
	}
	answer := m.order(fmt.Sprintf("/%d/keys", j.ID), 200, request{"usage": "zpk", "algorithm": "tdes", "version": 1, "cryptogram": variant, "kcv": "2121A7"})
	twin := parse[struct{ Domain, Cryptogram, KCV string }](t, answer)
	if twin.Domain != keyservicetest.NewDomain || !strings.HasPrefix(twin.Cryptogram, "S") || twin.KCV != "2121A7B507A7726D" {
		t.Errorf("twin %+v", twin)
	}
	m.order(fmt.Sprintf("/%d/keys", j.ID), 409, request{"usage": "zpk", "algorithm": "tdes", "version": 1, "cryptogram": variant, "kcv": "111111"}, "stored is 111111")
	m.order(fmt.Sprintf("/%d/keys", j.ID), 409, request{"usage": "tmk", "algorithm": "tdes", "version": 1, "cryptogram": variant}, "stands in no configuration")
	var audited int
	err = m.DB.Pool(t, migrations.RoleKeys).QueryRow(t.Context(), `SELECT count(*) FROM audit WHERE action LIKE 'rewrap.%' AND actor = 'li.na for carol' AND service = 'keys'`).Scan(&audited)
	if err != nil || audited < 3 {
		t.Errorf("%d audit records: %v", audited, err)
	}
	m.Stop(t)
	if log := m.Log.String(); strings.Contains(log, twin.Cryptogram) || strings.Contains(log, variant) {
		t.Error("the log holds a cryptogram")
	}
}
