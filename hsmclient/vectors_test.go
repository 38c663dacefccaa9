package hsmclient_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/internal/vectors"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/secret"
	"github.com/keyward/keyward/sim/hsm"
)

// legacyClient serves the published vectors, which know no separate terminal key types.
func legacyClient(t *testing.T) *hsmclient.Cluster {
	t.Helper()
	d := device(t, hsm.Config{LegacyTypes: true})
	s := spec("hsm1", d)
	s.Settings = map[string]string{"legacy_types": "true"}
	return start(t, hsmclient.Config{Members: []member.Spec{s}})
}

// published is a key of a vector: 16 digits are single DES, all other forms here triple.
func published(usage keys.Usage, cryptogram string) keys.Wrapped {
	algorithm := keys.TDES
	if len(cryptogram) == 16 {
		algorithm = keys.DES
	}
	return keys.Wrapped{Usage: usage, Algorithm: algorithm, Domain: domain, Cryptogram: cryptogram}
}

// Every pair of published blocks of one PIN, account and format: the first must translate to the second (CA, CC).
func TestPublishedPINBlocks(t *testing.T) {
	t.Parallel()
	c := legacyClient(t)
	list := vectors.Load(t, "thales_lmk.json").Group(t, "pin")
	usages := map[string]keys.Usage{"001": keys.ZonePIN, "002": keys.PINKey}
	pairs := map[string]int{}
	for _, from := range list {
		for _, to := range list {
			const iso0 = "01" // the one format of the group that the driver offers
			if vectors.Str(from.In, "format") != iso0 || vectors.Str(to.In, "format") != iso0 || vectors.Str(to.In, "type") != "001" ||
				vectors.Str(from.In, "pan12") != vectors.Str(to.In, "pan12") || vectors.Str(from.In, "pin") != vectors.Str(to.In, "pin") {
				continue
			}
			pan, err := secret.ParsePAN("4" + vectors.Str(from.In, "pan12") + "0")
			if err != nil {
				t.Fatal(err)
			}
			usage := usages[vectors.Str(from.In, "type")]
			pairs[usage.String()]++
			got, err := c.TranslatePIN(t.Context(), command.PINTranslation{
				From: published(usage, vectors.Str(from.In, "key")), To: published(keys.ZonePIN, vectors.Str(to.In, "key")),
				FromFormat: command.PINISO0, ToFormat: command.PINISO0, Block: secret.New(vectors.Hex(t, from.Out, "block")), PAN: pan,
			})
			if err != nil || !bytes.Equal(got.Reveal(), vectors.Hex(t, to.Out, "block")) {
				t.Errorf("%s to %s: another block came out (%v)", from.ID, to.ID, err)
			}
		}
	}
	if pairs["pik"] == 0 || pairs["zpk"] == 0 {
		t.Fatalf("the group has no pair for CA or none for CC: %v", pairs)
	}
}

func TestPublishedMACs(t *testing.T) {
	t.Parallel()
	c := legacyClient(t)
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "mac") {
		key, data, alg := published(keys.MACKey, vectors.Str(v.In, "tak")), vectors.Hex(t, v.In, "msg"), command.MACAlg1
		if key.Algorithm == keys.TDES {
			alg = command.MACAlg3
		}
		if vectors.Int(v.In, "pad", 1) == 2 { // 80 00… is always added; the client pads with zeros, which then adds nothing
			data = append(data, 0x80, 0, 0, 0, 0, 0, 0, 0)
			data = data[:len(data)/8*8]
		}
		got, err := c.MAC(t.Context(), command.MACInput{Key: key, Algorithm: alg, Data: data})
		if shown := strings.ToUpper(hex.EncodeToString(got)); err != nil || !strings.HasPrefix(shown, vectors.Str(v.Out, "mac")) {
			t.Errorf("%s: got %s (%v)", v.ID, shown, err)
		}
	}
}

// Check values of published keys whose types callers can name.
func TestPublishedCheckValues(t *testing.T) {
	t.Parallel()
	c := legacyClient(t)
	usages := map[string]keys.Usage{"000": keys.ZoneMaster, "001": keys.ZonePIN, "002": keys.PINKey, "003": keys.MACKey, "008": keys.ZoneMAC, "309": keys.CardControl}
	checked := 0
	for _, v := range vectors.Load(t, "thales_lmk.json").Group(t, "keys_under_lmk") {
		usage, ok := usages[vectors.Str(v.In, "type")]
		if !ok || vectors.Str(v.Out, "kcv") == "" || len(vectors.Str(v.In, "key")) == 32 { // 32 digits without a letter: BU's own old form
			continue
		}
		checked++
		got, err := c.CheckValue(t.Context(), published(usage, vectors.Str(v.In, "key")))
		if odd, _ := v.Out["odd_parity"].(bool); err != nil && !odd {
			continue // a device refuses a key without parity
		}
		if err != nil || !strings.HasPrefix(string(got), vectors.Str(v.Out, "kcv")) {
			t.Errorf("%s: got %s (%v)", v.ID, got, err)
		}
	}
	if checked == 0 {
		t.Fatal("no published key could be checked")
	}
}

// What a device refuses comes back with class, code and the member's name.
func TestErrorsNameMemberAndCode(t *testing.T) {
	t.Parallel()
	d := device(t, hsm.Config{})
	c := start(t, hsmclient.Config{Members: []member.Spec{spec("hsm7", d)}})
	for code, want := range map[string]command.Class{"10": command.CallerFault, "41": command.MemberFault, "68": command.NoLicence} {
		setFaults(t, d, hsm.Faults{ErrorCodes: map[string]string{"N0": code}})
		_, err := c.Random(context.Background(), 8)
		if command.ClassOf(err) != want || err == nil || !strings.Contains(err.Error(), "N0 on hsm7: device answered error "+code) {
			t.Errorf("code %s: %v", code, err)
		}
	}
}
