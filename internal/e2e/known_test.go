package e2e

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyward/keyward/hsmclient"
	"github.com/keyward/keyward/hsmclient/command"
	"github.com/keyward/keyward/hsmclient/driver"
	"github.com/keyward/keyward/hsmclient/member"
	"github.com/keyward/keyward/hsmclient/racal"
	"github.com/keyward/keyward/internal/dev/ceremony"
	"github.com/keyward/keyward/internal/e2e/leak"
	"github.com/keyward/keyward/keys"
	"github.com/keyward/keyward/keys/pboc"
	"github.com/keyward/keyward/keys/secret"
)

// roots are the public test roots of internal/dev/ceremony, which does not export them.
var roots = map[string]string{
	"PSAM-ROOT": "0123456789ABCDEFFEDCBA9876543210", "PSAM-CCK": "01010101020202020404040410101010", "PSAM-ACK": "02020202040404040808080820202020",
}

// sealRoot is the MAC key from which the HSM computes the sealing keys.
const sealRoot = "04040404080808081010101020202020"

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// derive is a card's key.
func derive(t *testing.T, algorithm keys.Algorithm, root, psam string) secret.Key {
	t.Helper()
	factor, err := pboc.FactorOf(psam)
	if err != nil {
		t.Fatal(err)
	}
	key, err := pboc.Derive(algorithm, secret.New(unhex(t, root)), factor)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// knownSecrets are all secrets that the system held: keys, PINs, card numbers, tracks, and what protects the services.
func knownSecrets(t *testing.T, s *system, db *pgx.Conn) []leak.Secret {
	t.Helper()
	list := customerSecrets(t)
	for name, value := range map[string]string{
		"transport key": ceremony.ClearTransport, "ZPK": ceremony.ClearZPK, "ZAK": ceremony.ClearZAK, "seal key": sealRoot,
	} {
		list = append(list, leak.Binary(name, unhex(t, value)))
	}
	psams := queryText(t, db, "SELECT psam_no FROM cards ORDER BY psam_no")
	if len(psams) < 4 {
		t.Fatalf("only %d cards in the database", len(psams))
	}
	for name, root := range roots {
		list = append(list, leak.Binary(name, unhex(t, root)))
		for _, psam := range psams {
			for _, algorithm := range []keys.Algorithm{keys.TDES, keys.SM4} {
				list = append(list, leak.Binary(fmt.Sprintf("%s of card %s, %s", name, psam, algorithm), derive(t, algorithm, root, psam).Reveal()))
			}
		}
	}
	list = append(list, workingKeys(t, db)...)
	list = append(list, sealingKeys(t, s)...)
	return append(list, serviceSecrets(t, s)...)
}

// customerSecrets are what customers gave. A PIN of six digits turns up by chance in every log; it is looked for as what a program
// holds of it: the clear PIN block with and without the account, and PIN and account side by side as the card gets them. The long
// wrong PIN is looked for as it is.
func customerSecrets(t *testing.T) []leak.Secret {
	t.Helper()
	list := []leak.Secret{
		leak.Number("card number", account), leak.Number("card number of a stranger", stranger), leak.Number("wrong PIN", wrongPIN),
		leak.Track("track 2", track2), leak.Track("discretionary data", strings.TrimPrefix(track2, account)),
		leak.Track("discretionary data of the terminal's own track", "D30122201234501234"), leak.Text("PIN in JSON", `"pin":"`+rightPIN+`"`),
	}
	for _, c := range []struct{ pan, pin string }{{account, rightPIN}, {account, wrongPIN}, {stranger, wrongPIN}} {
		right := c.pan[len(c.pan)-13 : len(c.pan)-1]
		pinField := unhex(t, fmt.Sprintf("%02X%s%s", len(c.pin), c.pin, strings.Repeat("F", 14-len(c.pin))))
		accountField := unhex(t, "0000"+right)
		block := make([]byte, len(pinField))
		for i := range block {
			block[i] = pinField[i] ^ accountField[i]
		}
		name := fmt.Sprintf("PIN of %d digits", len(c.pin))
		list = append(list, leak.Binary(name+", field", pinField), leak.Binary(name+", clear block", block), leak.Number(name+" and account", c.pin+right))
	}
	return list
}

// workingKeys deciphers the sign-on answers of all working keys (facts/unionpay.md §3): posp keeps field 62 under the card's master
// key, to give a repeated sign-on the same answer.
func workingKeys(t *testing.T, db *pgx.Conn) []leak.Secret {
	t.Helper()
	rows, err := db.Query(t.Context(), "SELECT terminal_id, version, psam_no, answer FROM work_keys")
	if err != nil {
		t.Fatal(err)
	}
	var list []leak.Secret
	for rows.Next() {
		var terminal, psam string
		var version int64
		var answer []byte
		if err := rows.Scan(&terminal, &version, &psam, &answer); err != nil {
			t.Fatal(err)
		}
		const slot, size, check = 20, 16, 4
		if len(answer) != 3*slot {
			t.Fatalf("field 62 of terminal %s has %d bytes, want %d", terminal, len(answer), 3*slot)
		}
		master := derive(t, keys.TDES, roots["PSAM-ROOT"], psam).Reveal()
		for i, name := range []string{"PIN key", "MAC key", "track key"} {
			part := answer[i*slot : (i+1)*slot]
			length := size
			if bytes.Equal(part[size/2:size], make([]byte, size/2)) {
				length = size / 2 // a single-length key with zeros behind it
			}
			clear := make([]byte, length)
			crypt(t, master, clear, part[:length], cipher.Block.Decrypt)
			kcv := make([]byte, 8)
			crypt(t, clear, kcv, make([]byte, 8), cipher.Block.Encrypt)
			if !bytes.Equal(kcv[:check], part[size:]) {
				t.Fatalf("the %s of terminal %s cannot be deciphered: its check value differs", name, terminal)
			}
			list = append(list, leak.Binary(fmt.Sprintf("%s %d of terminal %s", name, version, terminal), clear))
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	const signOns = 4 // three terminals, one of them twice
	if len(list) < 3*signOns {
		t.Fatalf("only %d working keys are in the database", len(list))
	}
	return list
}

// crypt is ECB with DES or two-key triple DES.
func crypt(t *testing.T, key, dst, src []byte, do func(cipher.Block, []byte, []byte)) {
	t.Helper()
	var block cipher.Block
	var err error
	if len(key) == 8 {
		block, err = des.NewCipher(key)
	} else {
		block, err = des.NewTripleDESCipher(append(bytes.Clone(key), key[:8]...))
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(src); i += 8 {
		do(block, dst[i:], src[i:])
	}
}

// sealingKeys are the two keys of internal/posp/seal, which it computes with MACs of the HSM: here by the same device.
func sealingKeys(t *testing.T, s *system) []leak.Secret {
	t.Helper()
	held, err := ceremony.Hold()
	if err != nil {
		t.Fatal(err)
	}
	client, err := hsmclient.New(hsmclient.Config{
		Name: "test", Domains: []hsmclient.Domain{{Name: ceremony.Domain, LMKCheck: ceremony.LMKCheck}}, Timeout: 5 * time.Second,
		Drivers: map[string]driver.Maker{"racal": racal.Make},
		Members: []member.Spec{{Name: "hsm1", Addr: s.addr(15001), Channels: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := client.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var list []leak.Secret
	for _, label := range []string{"keyward seal v1", "keyward digest v1"} {
		h := sha256.New()
		for i := byte(1); i <= 4; i++ {
			mac, err := client.MAC(t.Context(), command.MACInput{Key: held.Seal, Algorithm: command.MACAlg3, Data: append([]byte(label), i)})
			if err != nil {
				t.Fatal(err)
			}
			_, _ = h.Write(mac)
		}
		list = append(list, leak.Binary("key of "+label, h.Sum(nil)))
	}
	return list
}

// serviceSecrets are the passwords of the database and the private keys of the services: in no other file than theirs.
func serviceSecrets(t *testing.T, s *system) []leak.Secret {
	t.Helper()
	list := []leak.Secret{leak.Text("password of the superuser", superPassword(t, s))}
	urls, err := filepath.Glob(filepath.Join(s.data, "secrets", "*.url"))
	if err != nil || len(urls) != 4 {
		t.Fatalf("%d connection strings: %v", len(urls), err)
	}
	for _, file := range urls {
		u, err := url.Parse(strings.TrimSpace(readText(t, file)))
		if err != nil {
			t.Fatalf("%s holds no connection string", file)
		}
		password, _ := u.User.Password()
		list = append(list, leak.Text("password of "+u.User.Username(), password))
	}
	private, err := filepath.Glob(filepath.Join(s.data, "pki", "*.key"))
	if err != nil || len(private) < 4 {
		t.Fatalf("%d private keys: %v", len(private), err)
	}
	for _, file := range private {
		block, _ := pem.Decode([]byte(readText(t, file)))
		if block == nil {
			t.Fatalf("%s holds no PEM", file)
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var value []byte
		switch key := parsed.(type) {
		case *ecdsa.PrivateKey:
			if value, err = key.Bytes(); err != nil {
				t.Fatal(err)
			}
		case ed25519.PrivateKey:
			value = key.Seed()
		default:
			t.Fatalf("%s holds a %T", file, parsed)
		}
		list = append(list, leak.Binary("private key "+filepath.Base(file), value))
	}
	return list
}

func readText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
